package eventhubsource_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	eventhubsource "github.com/weirdata/weir/internal/source/eventhub"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// TestMessage: what an event was sent with comes along.
func TestMessage(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	send(t, hub, &azeventhubs.EventDataBatchOptions{PartitionKey: new("the key")}, &azeventhubs.EventData{
		Body: []byte("body"), ContentType: new("application/json"), CorrelationID: "c-1", MessageID: new("m-1"),
		Properties: map[string]any{"text": "x", "bytes": []byte{0xff, 0}, "number": int64(-5), "on": true, "real": 1.5, "at": time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)},
	}, &azeventhubs.EventData{})
	for _, key := range []string{"random", "source"} {
		s := opened(t, options{hub: hub, store: memory(t)}.source(t, func(c *eventhubsource.Config) { c.PartitionKey = key }))
		var ms event.Batch
		for _, g := range read(t, s, 2) {
			ms = append(ms, g.batch...)
		}
		m := ms[0]
		want := event.Headers{{Name: "at", Value: []byte("2026-11-29T12:00:00Z")}, {Name: "bytes", Value: []byte{0xff, 0}}, {Name: "number", Value: []byte("-5")},
			{Name: "on", Value: []byte("true")}, {Name: "real", Value: []byte("1.5")}, {Name: "text", Value: []byte("x")},
			{Name: "content-type", Value: []byte("application/json")}, {Name: "correlation-id", Value: []byte("c-1")}}
		if diff := cmp.Diff(want, m.Meta.Headers); diff != "" {
			t.Error(diff)
		}
		if wantKey := map[string]string{"source": "the key"}[key]; string(m.Data) != "body" || m.Meta.ID != "m-1" || m.Key != wantKey {
			t.Errorf("%q with id %q and key %q, want the key %q", m.Data, m.Meta.ID, m.Key, wantKey)
		}
		o := m.Meta.Origin
		if o.Stream != hub.Name || o.Partition != "0" || o.At.IsZero() || !o.At.Equal(m.Times.Created) || time.Since(o.At) > time.Hour {
			t.Errorf("origin %+v, created %s", o, m.Times.Created)
		}
		if e := ms[1]; len(e.Data) != 0 || e.Meta.Headers != nil {
			t.Errorf("an empty event is %q with %v", e.Data, e.Meta.Headers)
		}
	}
}

// TestStart: where a partition without a checkpoint begins. The end of a partition is kept at once:
// what comes before anything is acknowledged is not lost by a restart.
func TestStart(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		change func(c *eventhubsource.Config)
		want   []string
	}{
		{"earliest", nil, append(numbered(0, 10), "new")},
		{"latest", func(c *eventhubsource.Config) { c.StartPosition = "latest" }, []string{"new"}},
		{"timestamp", func(c *eventhubsource.Config) { c.StartTimestamp = noon.Add(4 * time.Minute).Format(time.RFC3339) }, append(numbered(4, 10), "new")},
		{"timestamp of the future", func(c *eventhubsource.Config) { c.StartTimestamp = "2026-11-29T12:30:00Z" }, []string{"new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hub := enginetest.NewEventHub(t, 1)
			var events []map[string]any
			for i, b := range numbered(0, 10) {
				events = append(events, map[string]any{"body": b, "at": noon.Add(time.Duration(i) * time.Minute).UnixMilli()})
			}
			hub.Do(t, "append", map[string]any{"partition": 0, "events": events})
			store := memory(t)
			first := opened(t, options{hub: hub, store: store}.source(t, c.change))
			until(t, "it reads", func() bool { return len(hub.Do(t, "state", nil)["readers"].([]any)) == 1 })
			if err := first.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			hub.Do(t, "append", map[string]any{"partition": 0, "events": []map[string]any{{"body": "new", "at": noon.Add(time.Hour).UnixMilli()}}})
			again := opened(t, options{hub: hub, store: store}.source(t, c.change))
			if diff := cmp.Diff(c.want, texts(read(t, again, len(c.want)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestResumes: E3, a source whose links are detached, refused, cut, silent or without a token reads
// on, and reads each event once as long as its claim lasts.
func TestResumes(t *testing.T) {
	t.Parallel()
	const partitions = 3
	hub, stop := enginetest.NewEventHubAlone(t, partitions) // tokens are those of every hub
	_ = stop
	s := options{hub: hub, container: newContainer(t)}.source(t, nil)
	s.Impatient(300*time.Millisecond, time.Second)
	opened(t, s)
	var all []string
	next := 0
	more := func() {
		t.Helper()
		for p := range partitions {
			hub.Append(t, p, fmt.Sprintf("%d-%06d", p, next))
		}
		next++
		gots := read(t, s, partitions)
		all = append(all, texts(gots)...)
		acked(t, gots)
	}
	more()
	for _, f := range []struct {
		op   string
		args map[string]any
	}{
		{"detach", map[string]any{"condition": "amqp:link:detach-forced"}},
		{"detach", map[string]any{"condition": "amqp:connection:forced"}},
		{"detach", map[string]any{"condition": "amqp:internal-error"}},
		{"detach", map[string]any{"condition": "com.microsoft:server-busy"}},
		{"detach", map[string]any{"condition": "amqp:unauthorized-access"}},
		{"detach", map[string]any{"condition": "vendor:never-seen"}},
		{"deny", map[string]any{"condition": "amqp:unauthorized-access", "role": "reader", "count": 3}},
		{"deny", map[string]any{"condition": "com.microsoft:timeout", "role": "reader", "count": 3}},
		{"tokens", map[string]any{"count": 4}},
		{"cut", nil},
		{"mute", map[string]any{"role": "reader"}},
	} {
		name := fmt.Sprint(f.op, f.args)
		hub.Do(t, f.op, f.args)
		if f.op == "deny" || f.op == "tokens" {
			hub.Do(t, "cut", nil)
		}
		begun := time.Now()
		more()
		t.Logf("%s: resumed after %s", name, time.Since(begun).Round(time.Millisecond))
		more()
	}
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != partitions*next || len(all) != n {
		t.Errorf("read %d events, %d different, of %d", len(all), n, partitions*next)
	}
}

// TestAway: a namespace that is away, and comes back, is waited for; Read says so, and
// says it as what passes.
func TestAway(t *testing.T) {
	t.Parallel()
	hub, stop := enginetest.NewEventHubAlone(t, 1)
	hub.Append(t, 0, "before")
	s := opened(t, options{hub: hub, store: memory(t)}.source(t, nil))
	acked(t, read(t, s, 1))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := s.Read(ctx, connector.Room{})
	if err == nil || ctx.Err() != nil || fault.Of(err) != fault.Transient || strings.Contains(err.Error(), "c3RhbmQtaW4ta2V5") {
		t.Errorf("with the namespace away: %s: %v", fault.Of(err), err)
	}
}

// TestSaysWhatIsWrong: what somebody has to change is a set-up error of Read.
func TestSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	hub.Do(t, "deny", map[string]any{"role": "reader", "count": -1, "condition": "amqp:unauthorized-access"})
	for name, o := range map[string]options{
		"Data Receiver":                 {hub: hub, store: memory(t)},
		"eventhub create":               {hub: enginetest.EventHub{Address: hub.Address, Name: "missing-hub"}, store: memory(t)},
		"storage container create":      {hub: hub, container: newContainer(t) + "-not"},
		"Storage Blob Data Contributor": {hub: hub, container: newContainer(t) + "?sv=2024-01-01&sig=bm90LXZhbGlk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := o.source(t, func(c *eventhubsource.Config) {
				if c.Checkpoints != nil && strings.Contains(c.Checkpoints.ContainerURL, "?") {
					c.Checkpoints.AccountKey = ""
				}
			})
			opened(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, _, err := s.Read(ctx, connector.Room{})
			if fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), name) || strings.Contains(fmt.Sprint(err), "bm90LXZhbGlk") {
				t.Errorf("%s: %v", fault.Of(err), err)
			}
		})
	}
}

// TestExpired: what the hub let go of before it was read is said with its count, and the rest is
// read; a hub that was made anew is no reason to wait in silence.
func TestExpired(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	hub.Append(t, 0, numbered(0, 10)...)
	store, log := memory(t), &lines{}
	o := options{hub: hub, store: store, log: log.logger()}
	s := opened(t, o.source(t, nil))
	acked(t, read(t, s, 10))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	hub.Append(t, 0, numbered(10, 20)...)
	hub.Do(t, "expire", map[string]any{"partition": 0, "before": 15})
	s = opened(t, o.source(t, nil))
	if got := texts(read(t, s, 5)); !slices.Equal(got, numbered(15, 20)) {
		t.Errorf("read %v", got)
	}
	if !log.has("retention") || !log.has("messages=5") {
		t.Error("nothing is said of the five events that are gone")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	hub.Do(t, "create", map[string]any{"partitions": 1})
	hub.Append(t, 0, "anew")
	s = opened(t, o.source(t, nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := s.Read(ctx, connector.Room{}); fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), "made anew") {
		t.Errorf("%s: %v", fault.Of(err), err)
	}
}

// TestLag: how far each partition is behind.
func TestLag(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 2)
	hub.Append(t, 0, numbered(0, 1000)...)
	s := options{hub: hub, store: memory(t)}.source(t, func(c *eventhubsource.Config) { c.Prefetch = 10 })
	s.Impatient(100*time.Millisecond, time.Hour)
	opened(t, s)
	lag := func() []int64 {
		lags, err := s.Lag(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ns []int64
		for i, l := range lags {
			if len(lags) == 2 && (l.Stream != hub.Name || l.Partition != fmt.Sprint(i)) { // both are ours by then
				t.Errorf("%+v", l)
			}
			ns = append(ns, l.Messages)
		}
		return ns
	}
	until(t, "the lag is known", func() bool { l := lag(); return len(l) == 2 && l[0] > 900 && l[1] == 0 })
	acked(t, read(t, s, 1000))
	until(t, "there is no lag", func() bool { l := lag(); return l[0] == 0 && l[1] == 0 })
}

// TestBackpressure: what nobody reads is not fetched, however much there is.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	hub.Append(t, 0, numbered(0, 20_000)...)
	s := opened(t, options{hub: hub, store: memory(t)}.source(t, func(c *eventhubsource.Config) { c.Prefetch = 50 }))
	read(t, s, 1)
	reads := func() float64 { return hub.Do(t, "state", nil)["reads"].(float64) }
	var was float64
	until(t, "nothing more is fetched", func() bool {
		now := reads()
		same := now == was
		was = now
		time.Sleep(200 * time.Millisecond)
		return same
	})
	if was > 500 {
		t.Errorf("%v events were fetched for one read of 500 and a prefetch of 50", was)
	}
}

// TestTwoShare: E4, two instances share the partitions, each event is read once after the shares
// are settled, and no link moves any more.
func TestTwoShare(t *testing.T) {
	t.Parallel()
	const partitions, each = 8, 40
	hub := enginetest.NewEventHub(t, partitions)
	url := newContainer(t)
	a := opened(t, options{hub: hub, container: url}.source(t, nil))
	until(t, "the first has all", func() bool { return a.Owns() == partitions })
	b := opened(t, options{hub: hub, container: url}.source(t, nil))
	state := func(name string) float64 { return hub.Do(t, "state", nil)[name].(float64) }
	settled := func() bool {
		return a.Owns() == partitions/2 && b.Owns() == partitions/2 && len(hub.Do(t, "state", nil)["readers"].([]any)) == partitions
	}
	until(t, "they share", settled)
	attached := state("attached")
	for p := range partitions {
		hub.Append(t, p, numbered(p*each, (p+1)*each)...)
	}
	got := append(texts(read(t, a, partitions/2*each)), texts(read(t, b, partitions/2*each))...)
	slices.Sort(got)
	if !slices.Equal(got, numbered(0, partitions*each)) {
		t.Errorf("read %d events", len(got))
	}
	time.Sleep(2 * time.Second) // ten looks of each
	if now := state("attached"); now != attached || !settled() {
		t.Errorf("%v links were opened after the shares were settled", now-attached)
	}
}

// TestStolen: a reader of somebody else with a higher epoch has the partition; when it is gone,
// ours reads on.
func TestStolen(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	s := opened(t, options{hub: hub, store: memory(t)}.source(t, nil))
	hub.Append(t, 0, "first")
	acked(t, read(t, s, 1))
	client, err := azeventhubs.NewConsumerClientFromConnectionString(hub.ConnectionString(), hub.Name, "$Default", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close(context.Background()) }()
	pc, err := client.NewPartitionClient("0", &azeventhubs.PartitionClientOptions{OwnerLevel: new(int64(1000)), StartPosition: azeventhubs.StartPosition{Earliest: new(true)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.ReceiveEvents(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	hub.Append(t, 0, "second")
	if err := pc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := texts(read(t, s, 1)); !slices.Equal(got, []string{"second"}) {
		t.Errorf("read %v", got)
	}
}

// TestSeek: a range is read again as it was, in the group that is followed and in another, beside
// the reading, which misses nothing.
func TestSeek(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "replays"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			hub := enginetest.NewEventHub(t, 2)
			for p := range 2 {
				hub.Append(t, p, numbered(1000*p, 1000*p+100)...)
			}
			s := opened(t, options{hub: hub, store: memory(t)}.source(t, func(c *eventhubsource.Config) { c.ReplayConsumerGroup = group }))
			var all event.Batch
			for _, g := range read(t, s, 200) {
				all = append(all, g.batch...)
			}
			var of event.Batch
			for _, m := range all {
				if m.Meta.Origin.Partition == "1" {
					of = append(of, m)
				}
			}
			for _, ends := range [][2]int{{10, 60}, {0, 99}, {42, 42}} {
				first, last := of[ends[0]].Meta.Origin, of[ends[1]].Meta.Origin
				r, err := s.Seek(t.Context(), connector.Range{Stream: hub.Name, Partition: "1",
					First: connector.Position{Bytes: first.Position}, Last: connector.Position{Bytes: last.Position}})
				if err != nil {
					t.Fatal(err)
				}
				var again event.Batch
				for {
					b, err := r.Read(t.Context(), connector.Room{Messages: 7})
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					again = append(again, b...)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				for i, m := range again {
					was := of[ends[0]+i]
					if !bytes.Equal(m.Data, was.Data) || m.Meta.Origin.Compare(was.Meta.Origin) != 0 {
						t.Fatalf("event %d of the range is %q, was %q", i, m.Data, was.Data)
					}
				}
				if len(again) != ends[1]-ends[0]+1 {
					t.Errorf("%d events of the range %v", len(again), ends)
				}
			}
			hub.Append(t, 1, numbered(5000, 5100)...)
			if got := texts(read(t, s, 100)); !slices.Equal(got, numbered(5000, 5100)) {
				t.Errorf("after the replay it reads %v", got)
			}
			hub.Do(t, "expire", map[string]any{"partition": 1, "before": 20})
			_, err := s.Seek(t.Context(), connector.Range{Stream: hub.Name, Partition: "1",
				First: connector.Position{Bytes: of[10].Meta.Origin.Position}, Last: connector.Position{Bytes: of[60].Meta.Origin.Position}})
			if fault.Of(err) != fault.Invalid || !strings.Contains(fmt.Sprint(err), "retention") {
				t.Errorf("a range that is gone: %v", err)
			}
		})
	}
}
