package sqstarget_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/retry"
	format "github.com/weirdata/weir/internal/sqs"
	sqstarget "github.com/weirdata/weir/internal/target/sqs"
)

// bench is a target on a queue behind a proxy.
type bench struct {
	proxy  *faultproxy.AWS
	client *sqs.Client
	url    string
	target *sqstarget.Target
}

func newBench(t *testing.T, engine string, fifo bool, attributes map[string]string, set ...func(*sqstarget.Config)) *bench {
	t.Helper()
	environment(t)
	b := &bench{proxy: faultproxy.NewAWS(t, engine), client: other(t, engine)}
	var name string
	name, b.url = queue(t, b.client, fifo, attributes)
	b.target = target(b.proxy.URL, name, set...)
	opens(t, b.target)
	return b
}

func opens(t *testing.T, x *sqstarget.Target) {
	t.Helper()
	if err := x.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func message(data, key string) *event.Message {
	m := event.New([]byte(data))
	m.Key = key
	return m
}

// retried is the write as the engine does it.
func (b *bench) retried() connector.Write {
	c := retry.Class{Delay: time.Millisecond, MaxDelay: 5 * time.Millisecond}
	return retry.Policy{Transient: c, Throttle: c, Setup: c}.Middleware()(b.target.Write)
}

func failuresOf(err error, n int) []error {
	errs := make([]error, n)
	var p *connector.Partial
	partial := errors.As(err, &p)
	for i := range errs {
		if errs[i] = err; partial {
			errs[i] = p.Failed[i]
		}
	}
	return errs
}

func bodies(all []got) (out []string) {
	for _, g := range all {
		out = append(out, g.body)
	}
	return out
}

// TestOneBadMessage: a message that SQS never takes fails alone, for good, and says what to do;
// its batch is sent.
func TestOneBadMessage(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	bad := map[int]string{1: "a nul \x00", 3: strings.Repeat("x", format.MaxBytes+1), 4: "", 6: "\xff"}
	var batch event.Batch
	for i := range 8 {
		text := fmt.Sprint("good ", i)
		if x, ok := bad[i]; ok {
			text = x
		}
		batch = append(batch, message(text, ""))
	}
	for i, err := range failuresOf(b.target.Write(t.Context(), batch), len(batch)) {
		if _, want := bad[i]; want != (err != nil) || err != nil && (fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "base64") && !strings.Contains(err.Error(), "MaximumMessageSize")) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if got := bodies(drain(t, b.client, b.url)); len(got) != 4 {
		t.Errorf("there are %q", got)
	}
}

// TestSizes: a batch of much more than a request may hold leaves in several, attributes counted,
// and the size that is told to the engine is the one that SQS counts.
func TestSizes(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	var batch event.Batch
	for range 10 {
		m := message(strings.Repeat("x", 150_000), "")
		m.Meta.Headers = event.Headers{{Name: "padding", Value: bytes.Repeat([]byte("y"), 50_000)}}
		batch = append(batch, m)
	}
	if got, want := b.target.Limits().Size(batch[0]), 150_000+50_000+len("padding")+len("String"); got != want {
		t.Errorf("a message is counted %d bytes, want %d", got, want)
	}
	if err := b.target.Write(t.Context(), batch); err != nil {
		t.Error(err)
	}
	if n := b.proxy.Calls("SendMessageBatch"); n != 2 {
		t.Errorf("%d requests for 2 MB, want 2", n)
	}
	if got := drain(t, b.client, b.url); len(got) != 10 {
		t.Errorf("%d messages arrived", len(got))
	}
}

// TestOlderQueue: a queue that takes less than SQS does says so, and is believed.
func TestOlderQueue(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, map[string]string{"MaximumMessageSize": "2048"})
	batch := event.Batch{message(strings.Repeat("x", 2048), ""), message(strings.Repeat("x", 2049), "")}
	errs := failuresOf(b.target.Write(t.Context(), batch), 2)
	if errs[0] != nil || fault.Of(errs[1]) != fault.Invalid || !strings.Contains(errs[1].Error(), "takes 2048") {
		t.Errorf("%v", errs)
	}
}

// TestRequestTooLong: what the service says is too long together is sent in halves.
func TestRequestTooLong(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	b.proxy.On("SendMessageBatch", func(c *faultproxy.Call) faultproxy.Action {
		if len(c.Body) > 3000 {
			return faultproxy.Error(0, "AWS.SimpleQueueService.BatchRequestTooLong", "Batch requests cannot be longer than 3000 bytes.")
		}
		return nil
	})
	var batch event.Batch
	for i := range 10 {
		batch = append(batch, message(fmt.Sprint(i, strings.Repeat("x", 500)), ""))
	}
	batch = append(batch, message(strings.Repeat("y", 4000), ""))
	errs := failuresOf(b.target.Write(t.Context(), batch), 11)
	for i, err := range errs {
		if (i == 10) != (err != nil) || err != nil && fault.Of(err) != fault.Invalid {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if got := drain(t, b.client, b.url); len(got) != 10 {
		t.Errorf("%d arrived", len(got))
	}
}

// TestPartialFailures: of random requests that fail in part, fail, are cut, or are taken without
// an answer, everything arrives, and what the target was told of arrives once.
func TestPartialFailures(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	r := rand.New(rand.NewPCG(3, 4))
	unknown := map[string]bool{} // messages of requests without an answer
	var faults int
	b.proxy.On("SendMessageBatch", func(c *faultproxy.Call) faultproxy.Action {
		faults++
		switch r.IntN(8) {
		case 0, 1, 2:
			return faultproxy.Some(func(faultproxy.Entry) *faultproxy.EntryError {
				if r.IntN(3) > 0 {
					return nil
				}
				return []*faultproxy.EntryError{{Code: "InternalError", Message: "try again"}, {Code: "RequestThrottled"}, {Code: "KmsThrottled"}}[r.IntN(3)]
			})
		case 3:
			return faultproxy.Error(400, "RequestThrottled", "slower")
		case 4:
			return faultproxy.Error(503, "ServiceUnavailable", "soon")
		case 5:
			return faultproxy.Cut
		case 6:
			for i := range 400 {
				if body := fmt.Sprintf("message %d.", i); bytes.Contains(c.Body, []byte(`"`+body+`"`)) {
					unknown[body] = true
				}
			}
			return faultproxy.Lost
		}
		return nil
	})
	write := b.retried()
	for from := 0; from < 400; from += 25 {
		var batch event.Batch
		for i := from; i < from+25; i++ {
			batch = append(batch, message(fmt.Sprintf("message %d.", i), ""))
		}
		if err := write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	count := map[string]int{}
	for _, body := range bodies(drain(t, b.client, b.url)) {
		count[body]++
	}
	for i := range 400 {
		body := fmt.Sprintf("message %d.", i)
		if n := count[body]; n == 0 || n > 1 && !unknown[body] {
			t.Errorf("%s arrived %d times", body, n)
		}
	}
	if faults < 30 {
		t.Errorf("only %d requests were made", faults)
	}
}

// TestErrors: what the service says is what the engine is told, for all of a request.
func TestErrors(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	for _, row := range []struct {
		status int
		code   string
		want   fault.Kind
	}{
		{400, "RequestThrottled", fault.Throttled}, {400, "KmsThrottled", fault.Throttled}, {500, "InternalFailure", fault.Transient},
		{503, "ServiceUnavailable", fault.Transient}, {400, "KmsDisabled", fault.Setup}, {400, "KmsAccessDenied", fault.Setup},
		{403, "AccessDenied", fault.Setup}, {400, "QueueDoesNotExist", fault.Setup}, {400, "InvalidSecurity", fault.Setup}, {403, "ExpiredToken", fault.Transient},
	} {
		b.proxy.Heal()
		b.proxy.On("SendMessageBatch", faultproxy.Always(faultproxy.Error(row.status, row.code, "as it is")))
		err := b.target.Write(t.Context(), event.Batch{message("a", ""), message("b", "")})
		if err == nil || fault.Of(err) != row.want || !strings.Contains(err.Error(), row.code) {
			t.Errorf("%s: %s: %v", row.code, fault.Of(err), err)
		}
	}
}

// TestSilentAnswer: an entry that the answer leaves out was not taken as far as anybody knows,
// and is sent again.
func TestSilentAnswer(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	b.proxy.On("SendMessageBatch", faultproxy.Times(1, faultproxy.Error(200, "", "")))
	for i, err := range failuresOf(b.target.Write(t.Context(), event.Batch{message("a", ""), message("b", "")}), 2) {
		if err == nil || fault.Of(err) != fault.Transient {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// TestGroupsKeepOrder: whatever entries and requests fail, the messages of each group of a FIFO
// queue are there in their order, once each.
func TestGroupsKeepOrder(t *testing.T) {
	for _, perGroup := range []int{1, 0} { // 0: as many as fit, with requests that fail as a whole
		b := newBench(t, enginetest.SQS(t), true, nil, func(c *sqstarget.Config) {
			if perGroup == 0 {
				c.EntriesPerGroup = 10
			}
		})
		r := rand.New(rand.NewPCG(5, 6))
		b.proxy.On("SendMessageBatch", func(*faultproxy.Call) faultproxy.Action {
			switch r.IntN(6) {
			case 0, 1:
				if perGroup == 1 {
					return faultproxy.Some(func(faultproxy.Entry) *faultproxy.EntryError {
						if r.IntN(2) == 0 {
							return nil
						}
						return &faultproxy.EntryError{Code: "InternalError"}
					})
				}
				return faultproxy.Error(503, "ServiceUnavailable", "soon")
			case 2:
				return faultproxy.Cut
			case 3:
				return faultproxy.Lost
			}
			return nil
		})
		write := b.retried()
		for from := 0; from < 120; from += 30 {
			var batch event.Batch
			for i := from; i < from+30; i++ {
				batch = append(batch, message(fmt.Sprintf("%03d", i), fmt.Sprint("group", i%4)))
			}
			if err := write(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		byGroup := map[string][]string{}
		for _, g := range drain(t, b.client, b.url) {
			byGroup[g.group] = append(byGroup[g.group], g.body)
		}
		for k := range 4 {
			var want []string
			for i := k; i < 120; i += 4 {
				want = append(want, fmt.Sprintf("%03d", i))
			}
			if d := cmp.Diff(want, byGroup[fmt.Sprint("group", k)]); d != "" {
				t.Errorf("%d of a group in a request, group %d: %s", perGroup, k, d)
			}
		}
		if perGroup == 0 {
			if n := b.proxy.Calls("SendMessageBatch"); n > 60 {
				t.Errorf("%d requests for 120 messages", n)
			}
		}
	}
}

// TestBehindOneThatIsGivenUp: nothing of a group is sent when a message before it is given up
// for the time being, and other groups go on.
func TestBehindOneThatIsGivenUp(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), true, nil)
	b.proxy.On("SendMessageBatch", faultproxy.Always(faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
		if string(e.Data) == "a0" {
			return &faultproxy.EntryError{Code: "InternalError"}
		}
		return nil
	})))
	c := retry.Class{Delay: time.Millisecond, MaxAttempts: 3}
	write := retry.Policy{Transient: c}.Middleware()(b.target.Write)
	errs := failuresOf(write(t.Context(), event.Batch{message("a0", "a"), message("b0", "b"), message("a1", "a"), message("b1", "b"), message("a2", "a")}), 5)
	for i, want := range []bool{true, false, true, false, true} {
		if (errs[i] != nil) != want {
			t.Errorf("message %d: %v", i, errs[i])
		}
	}
	if got := bodies(drain(t, b.client, b.url)); !slices.Equal(got, []string{"b0", "b1"}) {
		t.Errorf("there are %q", got)
	}
}

// TestBehindOneThatIsRefused: a message that is never taken holds up nothing behind it.
func TestBehindOneThatIsRefused(t *testing.T) {
	b := newBench(t, enginetest.Moto(t), true, nil)
	errs := failuresOf(b.target.Write(t.Context(), event.Batch{message("0", "g"), message("\x00", "g"), message("2", "g")}), 3)
	if errs[0] != nil || fault.Of(errs[1]) != fault.Invalid || errs[2] != nil {
		t.Errorf("%v", errs)
	}
	if got := bodies(drain(t, b.client, b.url)); !slices.Equal(got, []string{"0", "2"}) {
		t.Errorf("there are %q", got)
	}
}

// TestDeduplication: a message that is read and sent again, also after a restart, is one message
// for a FIFO queue; two that are alike and were read at different places are two, and so are two
// of which nobody knows where they were read.
func TestDeduplication(t *testing.T) {
	b := newBench(t, enginetest.Moto(t), true, nil)
	at := func(data, id string, position byte) *event.Message {
		m := message(data, "g")
		m.Meta.ID = id
		if position > 0 {
			m.Meta.Origin = &event.Origin{Stream: "s", Partition: "p", Position: []byte{position}}
		}
		return m
	}
	for range 2 { // as after a restart
		if err := b.target.Write(t.Context(), event.Batch{at("same", "", 1), at("same", "", 2), at("same", "id1", 0), at("same", "id2", 0), at("other", "id2", 0)}); err != nil {
			t.Fatal(err)
		}
	}
	alike := event.Batch{message("line", "g"), message("line", "g")}
	for range 2 { // as at the next attempt
		if err := b.target.Write(t.Context(), alike); err != nil {
			t.Fatal(err)
		}
	}
	all := drain(t, b.client, b.url)
	if got, want := bodies(all), []string{"same", "same", "same", "same", "other", "line", "line"}; !slices.Equal(got, want) {
		t.Fatalf("there are %q, want %q", got, want)
	}
	// The same without a key, which is a new one each time that it is read.
	var ids []string
	for range 2 {
		m := at("keyless", "id3", 0)
		m.Key = ""
		if err := b.target.Write(t.Context(), event.Batch{m}); err != nil {
			t.Fatal(err)
		}
		for _, g := range drain(t, b.client, b.url) {
			ids = append(ids, g.deduplication)
		}
	}
	if len(ids) > 2 || len(ids) == 2 && ids[0] != ids[1] {
		t.Errorf("a message without a key has the ids %q", ids)
	}
	// The same through a queue in between. moto knows only what is still there.
	m := at("same", "", 1)
	m.Meta.Origin = &event.Origin{Stream: "queue", Position: []byte{99}, First: m.Meta.Origin}
	if err := b.target.Write(t.Context(), event.Batch{m}); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, b.client, b.url); len(got) != 1 || got[0].deduplication != all[0].deduplication {
		t.Errorf("a message that went through a queue has another id: %+v", got)
	}
}

// TestGroupAndDeduplicationID: who says what they are.
func TestGroupAndDeduplicationID(t *testing.T) {
	long := strings.Repeat("ü", 100)
	for _, row := range []struct {
		set          func(*sqstarget.Config)
		data, key    string
		group, dedup string // empty: anything
	}{
		{func(*sqstarget.Config) {}, "x", "key-1", "key-1", ""},
		{func(c *sqstarget.Config) { c.MessageGroupID = "all" }, "x", "key-1", "all", ""},
		{func(c *sqstarget.Config) { c.MessageGroupID, c.MessageGroupField = "all", "user.id" }, `{"user":{"id":7}}`, "k", "7", ""},
		{func(c *sqstarget.Config) { c.MessageGroupID, c.MessageGroupField = "all", "user.id" }, `{}`, "k", "all", ""},
		{func(c *sqstarget.Config) { c.DeduplicationField = "id" }, `{"id":"abc"}`, "k", "k", "abc"},
		{func(c *sqstarget.Config) { c.Deduplication = "content" }, "x", "k", "k", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
		{func(*sqstarget.Config) {}, "x", long, "7b0d36c1bd5ca0c58bf5e8d1d5e0bd06", ""},
	} {
		b := newBench(t, enginetest.Moto(t), true, nil, row.set)
		if err := b.target.Write(t.Context(), event.Batch{message(row.data, row.key)}); err != nil {
			t.Fatal(err)
		}
		all := drain(t, b.client, b.url)
		if len(all) != 1 {
			t.Fatalf("%d messages", len(all))
		}
		if row.key == long {
			if g := all[0].group; len(g) != 64 {
				t.Errorf("the group of a key that is no group is %q", g)
			}
			continue
		}
		if all[0].group != row.group || row.dedup != "" && all[0].deduplication != row.dedup {
			t.Errorf("%s: group %q, de-duplication id %q", row.data, all[0].group, all[0].deduplication)
		}
	}
}

// TestAttributes: headers are attributes with their types, and are not sent where they are not
// wanted.
func TestAttributes(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		b := newBench(t, enginetest.SQS(t), false, nil, func(c *sqstarget.Config) { c.Attributes = wanted; c.DelaySeconds = 0 })
		m := message("x", "")
		m.Meta.Headers = event.Headers{{Name: "n", Value: []byte("12")}, {Name: "b", Value: []byte{0, 1}}, {Name: "s", Value: []byte("text")}, {Name: format.TypesHeader, Value: []byte("n=Number.int,b=Binary.png")}}
		if err := b.target.Write(t.Context(), event.Batch{m}); err != nil {
			t.Fatal(err)
		}
		var want []format.Attribute
		if wanted {
			want = []format.Attribute{{Name: "b", Type: "Binary.png", Value: []byte{0, 1}}, {Name: "n", Type: "Number.int", Value: []byte("12")}, {Name: "s", Type: "String", Value: []byte("text")}}
		}
		all := drain(t, b.client, b.url)
		if len(all) != 1 {
			t.Fatalf("%d messages", len(all))
		}
		if d := cmp.Diff(want, all[0].attributes); d != "" {
			t.Error(d)
		}
	}
}

// TestQueueByField: a message goes where its payload says; one that names what is no queue, or
// one that is not there, fails alone and for good.
func TestQueueByField(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil, func(c *sqstarget.Config) { c.QueueField = "to" })
	name, url := queue(t, b.client, false, nil)
	batch := event.Batch{message(fmt.Sprintf(`{"to":%q}`, name), ""), message(`{"to":"not-there"}`, ""), message(`{"to":"http://evil/"}`, ""), message("plain", "")}
	if g := b.target.Limits().Group; g(batch[0]) != name || g(batch[3]) == name {
		t.Error("the groups are not the queues")
	}
	errs := failuresOf(b.target.Write(t.Context(), batch), 4)
	if errs[0] != nil || fault.Of(errs[1]) != fault.Invalid || fault.Of(errs[2]) != fault.Invalid || errs[3] != nil {
		t.Errorf("%v", errs)
	}
	if got := bodies(drain(t, b.client, url)); !slices.Equal(got, []string{string(batch[0].Data)}) {
		t.Errorf("the queue that is named has %q", got)
	}
	if got := bodies(drain(t, b.client, b.url)); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("the other has %q", got)
	}
}

// TestCheck: what is missing is said, and nothing is sent to find out.
func TestCheck(t *testing.T) {
	b := newBench(t, enginetest.SQS(t), false, nil)
	if err := b.target.Check(t.Context()); err != nil {
		t.Error(err)
	}
	b.proxy.On("SendMessageBatch", faultproxy.Times(1, faultproxy.Error(403, "AccessDenied", "no")))
	if err := b.target.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "allow sqs:SendMessage in") {
		t.Errorf("%v", err)
	}
	if err := target(b.proxy.URL, "not-there").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "make the queue") {
		t.Errorf("%v", err)
	}
	if got := drain(t, b.client, b.url); len(got) != 0 {
		t.Errorf("the check has sent %q", bodies(got))
	}
}
