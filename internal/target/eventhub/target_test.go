package eventhubtarget_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	eventhubtarget "github.com/weirdata/weir/internal/target/eventhub"
)

func build(t testing.TB, hub enginetest.EventHub, change func(c *eventhubtarget.Config)) connector.Target {
	t.Helper()
	target, err := eventhubtarget.Entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		c := into.(*eventhubtarget.Config)
		c.Namespace, c.Name, c.MaxAutoRetries = "emulator", hub.Name, 0
		c.Credentials = &azure.Credentials{ConnectionString: hub.ConnectionString()}
		if change != nil {
			change(c)
		}
		if ps := c.Validate(); len(ps) > 0 {
			return errors.New(ps[0].What)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func opened(t testing.TB, hub enginetest.EventHub, change func(c *eventhubtarget.Config)) connector.Target {
	t.Helper()
	target := build(t, hub, change)
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return target
}

// held is what all partitions of a hub hold.
func held(t testing.TB, hub enginetest.EventHub, partitions int) (all []enginetest.EventHubEvent) {
	t.Helper()
	for p := range partitions {
		all = append(all, hub.Events(t, p)...)
	}
	return all
}

func message(key, data string) *event.Message {
	m := event.New([]byte(data))
	m.Key = key
	return m
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			hub := enginetest.NewEventHub(t, 3)
			return func() connector.Target { return build(t, hub, nil) }, func() (ps [][]byte) {
				for _, e := range held(t, hub, 3) {
					ps = append(ps, []byte(e.Body))
				}
				return ps
			}
		},
		Refused: [][]byte{bytes.Repeat([]byte("x"), 1<<20)},
		Broken: func(t *testing.T) connector.Target {
			return build(t, enginetest.EventHub{Address: enginetest.EventHubs(t), Name: "missing-hub"}, nil)
		},
		Want: fault.Setup,
		Stuck: func(t *testing.T) connector.Target {
			hub := enginetest.NewEventHub(t, 1)
			hub.Do(t, "next", map[string]any{"what": "ignore", "count": 100})
			return build(t, hub, nil)
		},
		Features: conntest.TargetFeatures{Binary: true, Empty: true},
	})
}

// TestKeysStayTogether: E7, all events of a key are in one partition, in their order, and no
// batch has two keys.
func TestKeysStayTogether(t *testing.T) {
	t.Parallel()
	const partitions, keys, rounds = 8, 40, 5
	hub := enginetest.NewEventHub(t, partitions)
	target := opened(t, hub, nil)
	for r := range rounds {
		var b event.Batch
		for i := range 3 * keys {
			b = append(b, message(fmt.Sprint("key", i%keys), fmt.Sprintf("%03d", r*3+i/keys)))
		}
		b = append(b, message("", "none"))
		if err := target.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	where, order := map[string]int{}, map[string][]string{}
	n := 0
	for p := range partitions {
		for _, e := range hub.Events(t, p) {
			n++
			if e.Key == "" {
				continue
			}
			if at, known := where[e.Key]; known && at != p {
				t.Errorf("events of %s are in the partitions %d and %d", e.Key, at, p)
			}
			where[e.Key] = p
			order[e.Key] = append(order[e.Key], e.Body)
		}
	}
	if want := rounds * (3*keys + 1); n != want {
		t.Errorf("the hub holds %d events, want %d", n, want)
	}
	for k, bodies := range order {
		if !slices.IsSorted(bodies) || len(bodies) != 3*rounds {
			t.Errorf("%s: %v", k, bodies)
		}
	}
	if sent := hub.Do(t, "state", nil)["sent"].(float64); int(sent) != rounds*(keys+1) {
		t.Errorf("%v batches were sent, want one for each key and one for none: %d", sent, rounds*(keys+1))
	}
}

// TestWithoutKeys: with set_eh_partition_key off, a write is one batch.
func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 2)
	target := opened(t, hub, func(c *eventhubtarget.Config) { c.SetEHPartitionKey = false })
	var b event.Batch
	for i := range 100 {
		b = append(b, message(fmt.Sprint(i), "x"))
	}
	if err := target.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if sent := hub.Do(t, "state", nil)["sent"].(float64); sent != 1 {
		t.Errorf("%v batches were sent", sent)
	}
}

// TestLongKeyFailsAlone: a key that the service does not take makes its message invalid.
func TestLongKeyFailsAlone(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	err := opened(t, hub, nil).Write(t.Context(), event.Batch{message("a", "1"), message(strings.Repeat("k", 129), "2"), message("b", "3")})
	failsOnly(t, err, fault.Invalid, 1)
	if n := len(hub.Events(t, 0)); n != 2 {
		t.Errorf("the hub holds %d events", n)
	}
}

// failsOnly demands that err names exactly these messages, each of a kind.
func failsOnly(t *testing.T, err error, kind fault.Kind, indexes ...int) {
	t.Helper()
	p, ok := errors.AsType[*connector.Partial](err)
	if !ok {
		t.Fatalf("the error is %v, want a *connector.Partial", err)
	}
	if got := slices.Sorted(maps.Keys(p.Failed)); !slices.Equal(got, indexes) {
		t.Fatalf("the messages %v failed, want %v: %v", got, indexes, err)
	}
	for i, e := range p.Failed {
		if fault.Of(e) != kind {
			t.Errorf("message %d: %s error, want %s: %v", i, fault.Of(e), kind, e)
		}
	}
}

// TestOnlyWhatFailedFails: of a write of three keys one batch is refused; its messages fail, the
// others are there once.
func TestOnlyWhatFailedFails(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	target := opened(t, hub, nil)
	if err := target.Write(t.Context(), event.Batch{message("", "first")}); err != nil { // the link is open
		t.Fatal(err)
	}
	hub.Do(t, "next", map[string]any{"what": "reject", "condition": "com.microsoft:server-busy"})
	b := event.Batch{message("a", "a1"), message("b", "b1"), message("a", "a2"), message("c", "c1")}
	err := target.Write(t.Context(), b)
	p, ok := errors.AsType[*connector.Partial](err)
	if !ok || len(p.Failed) == 0 || len(p.Failed) > 2 {
		t.Fatalf("Write: %v", err)
	}
	var again event.Batch
	for _, i := range slices.Sorted(maps.Keys(p.Failed)) {
		if e := p.Failed[i]; fault.Of(e) != fault.Throttled || fault.After(e) < 4*time.Second {
			t.Errorf("message %d: %s after %s: %v", i, fault.Of(e), fault.After(e), e)
		}
		again = append(again, b[i])
	}
	if err := target.Write(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range hub.Events(t, 0) {
		got = append(got, e.Body)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a1", "a2", "b1", "c1", "first"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestOversize: E5, a batch that the service calls too large is divided, and an event that is too
// large alone is invalid, alone; those beside it are there, in the order of their key.
func TestOversize(t *testing.T) {
	t.Parallel()
	// What is refused is less than what the link says, as with a limit that was lowered since.
	hub := enginetest.NewEventHub(t, 1, map[string]any{"max_size": 3000, "advertised": 1 << 20})
	target := opened(t, hub, nil)
	var b event.Batch
	for i := range 20 {
		b = append(b, message("k", fmt.Sprintf("%02d%s", i, strings.Repeat("x", 500))))
	}
	b[7] = message("k", strings.Repeat("y", 5000))
	failsOnly(t, target.Write(t.Context(), b), fault.Invalid, 7)
	last := ""
	bodies := map[string]bool{}
	for _, e := range hub.Events(t, 0) {
		if e.Body < last && !bodies[e.Body] {
			t.Errorf("%.2s comes after %.2s", e.Body, last)
		}
		bodies[e.Body], last = true, max(last, e.Body)
	}
	if len(bodies) != 19 {
		t.Errorf("the hub holds %d different events, want 19", len(bodies))
	}
	if n := len(hub.Events(t, 0)); n != 19 {
		t.Errorf("the hub holds %d events, want each once", n)
	}
}

// TestOversizeBlamesNoOther: while one key's event is refused for its size, which ends the link,
// events of other keys never become invalid.
func TestOversizeBlamesNoOther(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 4, map[string]any{"max_size": 20000, "advertised": 1 << 20})
	target := opened(t, hub, nil)
	for range 5 {
		var b event.Batch
		for i := range 30 {
			b = append(b, message(fmt.Sprint("k", i), "small"))
		}
		b[13] = message("k13", strings.Repeat("y", 50000))
		err := target.Write(t.Context(), b)
		p, ok := errors.AsType[*connector.Partial](err)
		if !ok {
			t.Fatal(err)
		}
		for i, e := range p.Failed {
			if (fault.Of(e) == fault.Invalid) != (i == 13) {
				t.Errorf("message %d: %s: %v", i, fault.Of(e), e)
			}
		}
	}
}

// TestDeadline: E8, a link that the service has forgotten without a word holds up a send for as
// long as it may take, and the next write is done on another connection.
func TestDeadline(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	target := opened(t, hub, func(c *eventhubtarget.Config) { c.ContextTimeoutInSeconds = 2 })
	if err := target.Write(t.Context(), event.Batch{message("", "before")}); err != nil {
		t.Fatal(err)
	}
	hub.Do(t, "mute", map[string]any{"role": "writer"})
	err := target.Write(t.Context(), event.Batch{message("", "lost")})
	if err == nil || fault.Of(err) != fault.Transient {
		t.Fatalf("a send on a link that is forgotten: %v", err)
	}
	writes(t, target, message("", "after"))
	if got := len(hub.Events(t, 0)); got != 2 {
		t.Errorf("the hub holds %d events, want those before and after", got)
	}
}

// writes writes as the engine does, again and again what is to be tried again.
func writes(t *testing.T, target connector.Target, ms ...*event.Message) (attempts int) {
	t.Helper()
	left := event.Batch(ms)
	for end := time.Now().Add(3 * time.Minute); len(left) > 0; attempts++ {
		err := target.Write(t.Context(), left)
		if err == nil {
			break
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("after %d attempts: %v", attempts, err)
		}
		if p, ok := errors.AsType[*connector.Partial](err); ok {
			var again event.Batch
			for _, i := range slices.Sorted(maps.Keys(p.Failed)) {
				again = append(again, left[i])
			}
			left = again
		}
		if k := fault.Of(err); k != fault.Transient && k != fault.Throttled {
			t.Fatalf("a %s error: %v", k, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return attempts
}

// TestNothingIsLost: E6, through rejections, detachments, cut connections and answers that are
// lost, each event is there, and those that are twice were without an answer.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	const partitions, batches = 3, 120
	hub := enginetest.NewEventHub(t, partitions)
	target := opened(t, hub, nil)
	unknown := 0
	want := map[string]bool{}
	for i := range batches {
		switch i % 12 {
		case 2:
			hub.Do(t, "next", map[string]any{"what": "reject", "condition": "com.microsoft:server-busy", "count": 2})
		case 4:
			hub.Do(t, "detach", map[string]any{"role": "writer", "condition": "amqp:link:detach-forced"})
		case 6:
			hub.Do(t, "next", map[string]any{"what": "lose"})
			unknown++
		case 8:
			hub.Do(t, "cut", map[string]any{"role": "writer"})
		case 10:
			hub.Do(t, "deny", map[string]any{"role": "writer", "condition": "com.microsoft:timeout"})
			hub.Do(t, "detach", map[string]any{"role": "writer", "condition": "amqp:connection:forced"})
		}
		var ms []*event.Message
		for j := range 5 {
			data := fmt.Sprintf("%d-%d", i, j)
			want[data] = true
			ms = append(ms, message("k", data))
		}
		writes(t, target, ms...)
	}
	got := map[string]int{}
	for _, e := range held(t, hub, partitions) {
		got[e.Body]++
	}
	twice := 0
	for data := range want {
		switch {
		case got[data] == 0:
			t.Errorf("%s is lost", data)
		case got[data] > 1:
			twice += got[data] - 1
		}
	}
	if len(got) != len(want) || twice > 5*unknown {
		t.Errorf("%d events twice, and %d different of %d; %d answers were lost, of 5 events each", twice, len(got), len(want), unknown)
	}
}

// TestErrors: what a refusal means, and that it says what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]fault.Kind{
		"com.microsoft:server-busy": fault.Throttled, "com.microsoft:timeout": fault.Transient, "amqp:internal-error": fault.Transient,
		"amqp:unauthorized-access": fault.Setup, "amqp:not-allowed": fault.Setup, "com.microsoft:entity-disabled": fault.Setup,
		"amqp:resource-limit-exceeded": fault.Setup, "vendor:never-seen": fault.Transient,
	} {
		t.Run(condition, func(t *testing.T) {
			t.Parallel()
			for _, when := range []string{"send", "attach"} {
				hub := enginetest.NewEventHub(t, 1)
				if when == "send" {
					hub.Do(t, "next", map[string]any{"what": "reject", "condition": condition})
				} else {
					hub.Do(t, "deny", map[string]any{"condition": condition})
				}
				target := opened(t, hub, nil)
				err := target.Write(t.Context(), event.Batch{message("", "x")})
				if err == nil || fault.Of(err) != want {
					t.Errorf("%s: %s, want %s: %v", when, fault.Of(err), want, err)
					continue
				}
				if strings.Contains(err.Error(), "c3RhbmQtaW4ta2V5") || !strings.Contains(err.Error(), hub.Name) {
					t.Errorf("%s: %v", when, err)
				}
				writes(t, target, message("", "y"))
			}
		})
	}
}

// TestCheck: check says what is missing, and writes nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	check := func(hub enginetest.EventHub) error {
		return build(t, hub, nil).(connector.Checker).Check(t.Context())
	}
	if err := check(hub); err != nil {
		t.Error(err)
	}
	err := check(enginetest.EventHub{Address: hub.Address, Name: "missing-hub"})
	if fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), "az eventhubs eventhub create") {
		t.Errorf("a hub that is not there: %v", err)
	}
	hub.Do(t, "deny", map[string]any{"role": "writer", "count": -1, "condition": "amqp:unauthorized-access"})
	if err := check(hub); fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), "Azure Event Hubs Data Sender") {
		t.Errorf("without the right to send: %v", err)
	}
	if sent := hub.Do(t, "state", nil)["sent"].(float64); sent != 0 {
		t.Errorf("check has sent %v batches", sent)
	}
}

// TestHeaders: headers are properties, or are left out.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		hub := enginetest.NewEventHub(t, 1)
		m := message("", "x")
		m.Meta.Headers = event.Headers{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte{}}, {Name: "a", Value: []byte("2")}, {Name: "content-type", Value: []byte("application/json")}}
		if err := opened(t, hub, func(c *eventhubtarget.Config) { c.SendHeaders = on }).Write(t.Context(), event.Batch{m}); err != nil {
			t.Fatal(err)
		}
		e := hub.Events(t, 0)[0]
		want, contentType := map[string]any{}, ""
		if on {
			want, contentType = map[string]any{"a": "1", "b": ""}, "application/json"
		}
		if diff := cmp.Diff(want, e.Properties); diff != "" || e.ContentType != contentType {
			t.Errorf("send_headers = %t: content type %q, %s", on, e.ContentType, diff)
		}
	}
}

// TestSizesCountAll: what a message is counted as is no less than what it is in a batch.
func TestSizesCountAll(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	hub := enginetest.NewEventHub(t, 1, map[string]any{"max_size": limit})
	target := opened(t, hub, nil)
	size := target.(connector.Limiter).Limits().Size
	for _, headers := range []int{0, 1, 20} {
		for _, key := range []string{"", "k", strings.Repeat("k", 128)} {
			for _, data := range []int{0, 1, 200, 300, 5000} {
				var b event.Batch
				total := 500 // of the batch itself: that of its first message
				for {
					m := message(key, strings.Repeat("x", data))
					for h := range headers {
						m.Meta.Headers = m.Meta.Headers.Add(fmt.Sprint("header", h), []byte("value"))
					}
					if total+size(m) > limit {
						break
					}
					total += size(m)
					b = append(b, m)
				}
				before := hub.Do(t, "state", nil)["sent"].(float64)
				if err := target.Write(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if n := hub.Do(t, "state", nil)["sent"].(float64) - before; n != 1 {
					t.Errorf("%d headers, a key of %d and %d bytes: %d messages that were counted as one batch were sent in %v", headers, len(key), data, len(b), n)
				}
			}
		}
	}
}
