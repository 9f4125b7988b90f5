package sqssource_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
	sqssource "github.com/weirdata/weir/internal/source/sqs"
	sqstarget "github.com/weirdata/weir/internal/target/sqs"
)

// source is one for a queue, not opened.
func source(endpoint, name string, set ...func(*sqssource.Config)) *sqssource.Source {
	c := sqssource.Entry.Default().(*sqssource.Config)
	c.QueueName, c.CustomAWSEndpoint = name, endpoint
	for _, f := range set {
		f(c)
	}
	return sqssource.New(connector.Deps{}, *c)
}

func unique(what string) string {
	return fmt.Sprintf("source-%s-%d-%d", what, queues.Add(1), time.Now().UnixNano())
}

// sink is a target that keeps what it gets, and refuses what refuse says.
type sink struct {
	mu     sync.Mutex
	got    []string
	order  []*event.Message
	refuse func(m *event.Message) error
}

func (*sink) Open(context.Context) error  { return nil }
func (*sink) Close(context.Context) error { return nil }
func (s *sink) Write(_ context.Context, b event.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := map[int]error{}
	for i, m := range b {
		if s.refuse != nil {
			if err := s.refuse(m); err != nil {
				failed[i] = err
				continue
			}
		}
		s.got, s.order = append(s.got, string(m.Data)), append(s.order, m)
	}
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

type asItIs struct{}

func (asItIs) Format(f pipeline.Failure, _ int) ([]byte, error) { return f.Message.Data, nil }

// runs runs a pipeline from src until done says so, and returns what Run did.
func runs(t *testing.T, src connector.Source, to, failures connector.Target, done func() bool) error {
	t.Helper()
	class := retry.Class{Delay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond, MaxAttempts: 3}
	limits := connector.Limits{MaxBatchMessages: 10, MaxConcurrentBatches: 4, FlushPeriod: 20 * time.Millisecond}
	p := pipeline.New(pipeline.Parts{
		Name: "p", Source: src, Target: pipeline.Sink{Target: to, Limits: limits}, Filter: pipeline.Sink{Target: &sink{}, Limits: limits},
		Failure: pipeline.Sink{Target: failures, Limits: limits}, Format: asItIs{}, Drain: 20 * time.Second, InFlightMessages: 100,
		Retry: retry.Policy{Transient: class, Throttle: class, Setup: class}, Meter: meter.NewPipeline("p"), Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for end := time.Now().Add(3 * time.Minute); !done() && time.Now().Before(end); {
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Millisecond): // asks the engine, which tells nobody
		}
	}
	stop()
	return <-ended
}

// left is how many messages a queue has, hidden ones too.
func left(t *testing.T, c *sqs.Client, url string) int {
	t.Helper()
	out, err := c.GetQueueAttributes(context.WithoutCancel(t.Context()), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
		k := 0
		if _, err := fmt.Sscan(out.Attributes[name], &k); err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// receiveNow is what a queue gives out at once.
func receiveNow(t *testing.T, c *sqs.Client, url string) []types.Message {
	t.Helper()
	out, err := c.ReceiveMessage(context.WithoutCancel(t.Context()), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

// redriven makes a queue with a dead-letter queue.
func redriven(t *testing.T, c *sqs.Client, fifo bool, most int) (name, url, dead string) {
	t.Helper()
	attributes := map[string]string{}
	suffix := ""
	if fifo {
		attributes["FifoQueue"], suffix = "true", ".fifo"
	}
	name = unique("redriven")
	dead = queue(t, c, name+"-dead", attributes)
	out, err := c.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &dead, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatal(err)
	}
	attributes["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, out.Attributes["QueueArn"], most)
	url = queue(t, c, name, attributes)
	return name + suffix, url, dead
}

// TestRedrive: of a queue with a redrive policy what fails, for good or for long, goes to its
// dead-letter queue and nowhere else, and everything else is delivered, of a group in order.
func TestRedrive(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, endpoint string
		fifo           bool
	}{{"standard on fauxqs", enginetest.SQS(t), false}, {"FIFO on moto", enginetest.Moto(t), true}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := other(t, row.endpoint)
			name, url, dead := redriven(t, c, row.fifo, 2)
			var payloads [][]byte
			for i := range 12 {
				payloads = append(payloads, fmt.Appendf(nil, "%02d", i))
			}
			groups := 0
			if row.fifo {
				groups = 2
			}
			sends(t, c, url, groups, payloads)
			attempts := map[string]int{}
			to, failures := &sink{}, &sink{}
			to.refuse = func(m *event.Message) error {
				attempts[string(m.Data)]++
				switch string(m.Data) {
				case "00":
					return fault.New(fault.Invalid, errors.New("never"))
				case "05":
					return errors.New("not now")
				}
				return nil
			}
			src := source(row.endpoint, name, func(c *sqssource.Config) { c.VisibilityTimeoutSeconds = 2 })
			err := runs(t, src, to, failures, func() bool { return left(t, c, url) == 0 })
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			got := to.all()
			if row.fifo {
				for g := range 2 {
					var of []string
					for _, body := range got {
						if (body[1]-'0'+10*(body[0]-'0'))%2 == byte(g) {
							of = append(of, body)
						}
					}
					if !slices.IsSorted(of) {
						t.Errorf("group %d came as %q", g, of)
					}
				}
			}
			slices.Sort(got)
			if want := []string{"01", "02", "03", "04", "06", "07", "08", "09", "10", "11"}; !slices.Equal(got, want) {
				t.Errorf("delivered %q, want %q", got, want)
			}
			if n := len(failures.all()); n > 0 {
				t.Errorf("the failure target has %d messages", n)
			}
			if n := left(t, c, dead); n != 2 {
				t.Errorf("the dead-letter queue has %d messages, want 2", n)
			}
			if attempts["00"] != 2 || attempts["05"] != 6 {
				t.Errorf("what is refused had %d attempts, want 2; what fails %d, want 3 of 2 receipts each", attempts["00"], attempts["05"])
			}
		})
	}
}

// TestWithoutRedrive: without a redrive policy, or where it is not wanted, what is refused goes
// to the failure target, and is deleted.
func TestWithoutRedrive(t *testing.T) {
	t.Parallel()
	endpoint := enginetest.SQS(t)
	c := other(t, endpoint)
	for _, with := range []bool{false, true} {
		name := unique("plain")
		url := ""
		var set []func(*sqssource.Config)
		if with {
			name, url, _ = redriven(t, c, false, 3)
			set = append(set, func(c *sqssource.Config) { c.DeadLetters = "failure_target" })
		} else {
			url = queue(t, c, name, nil)
		}
		sends(t, c, url, 0, [][]byte{[]byte("good"), []byte("bad"), []byte("fine")})
		to, failures := &sink{refuse: func(m *event.Message) error {
			if string(m.Data) == "bad" {
				return fault.New(fault.Invalid, errors.New("never"))
			}
			return nil
		}}, &sink{}
		if err := runs(t, source(endpoint, name, set...), to, failures, func() bool { return left(t, c, url) == 0 }); err != nil {
			t.Error(err)
		}
		if got := failures.all(); !slices.Equal(got, []string{"bad"}) {
			t.Errorf("the failure target has %q", got)
		}
	}
}

// TestFaults: receives, deletions and extensions fail, are throttled, cut, frozen, or done and not
// answered. Everything arrives, and what comes twice is no more than what was in flight at a
// fault that leaves it unknown.
func TestFaults(t *testing.T) {
	t.Parallel()
	engine := enginetest.SQS(t)
	p := faultproxy.NewAWS(t, engine)
	c := other(t, engine)
	name := unique("faults")
	url := queue(t, c, name, nil)
	var payloads [][]byte
	for i := range 600 {
		payloads = append(payloads, fmt.Appendf(nil, "message %d", i))
	}
	sends(t, c, url, 0, payloads)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(8, 9))
	unknown := 0
	p.On("", func(call *faultproxy.Call) faultproxy.Action {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(call.Operation, "GetQueue") {
			return nil
		}
		switch r.IntN(16) {
		case 0:
			return faultproxy.Error(500, "InternalFailure", "it passes")
		case 1:
			return faultproxy.Error(400, "RequestThrottled", "slower")
		case 2:
			return faultproxy.Cut
		case 3:
			unknown++
			return faultproxy.Lost
		case 4:
			if call.Operation == "ReceiveMessage" {
				return faultproxy.Error(403, "OverLimit", "120000 in flight")
			}
			return faultproxy.Some(func(faultproxy.Entry) *faultproxy.EntryError {
				if r.IntN(2) == 0 {
					return nil
				}
				return &faultproxy.EntryError{Code: "InternalError", Message: "again"}
			})
		}
		return nil
	})
	refused := map[string]int{}
	to := &sink{refuse: func(m *event.Message) error {
		// A message is refused twice at most, or the third of a receipt would end the pipeline.
		if refused[string(m.Data)] < 2 && rand.IntN(20) == 0 {
			refused[string(m.Data)]++
			return errors.New("not now")
		}
		return nil
	}}
	src := source(p.URL, name, func(c *sqssource.Config) { c.VisibilityTimeoutSeconds = 3 })
	if err := runs(t, src, to, &sink{}, func() bool { return left(t, c, url) == 0 }); err != nil {
		t.Logf("Run: %v", err) // a deletion may still be on its way when the pipeline stops
	}
	count := map[string]int{}
	twice := 0
	for _, body := range to.all() {
		if count[body]++; count[body] > 1 {
			twice++
		}
	}
	for _, body := range payloads {
		if count[string(body)] == 0 {
			t.Errorf("%s is lost", body)
		}
	}
	if twice > 10*unknown {
		t.Errorf("%d came twice, after %d answers that were lost", twice, unknown)
	}
}

// TestReceiveErrors: what SQS says to a receive call is what Read says, by its kind.
func TestReceiveErrors(t *testing.T) {
	t.Parallel()
	engine := enginetest.SQS(t)
	c := other(t, engine)
	name := unique("errors")
	url := queue(t, c, name, nil)
	p := faultproxy.NewAWS(t, engine)
	src := source(p.URL, name)
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for _, row := range []struct {
		status int
		code   string
		want   fault.Kind
		says   string
	}{
		{403, "OverLimit", fault.Throttled, ""}, {400, "RequestThrottled", fault.Throttled, ""}, {400, "KmsThrottled", fault.Throttled, ""},
		{400, "KmsDisabled", fault.Setup, "KMS key"}, {403, "AccessDenied", fault.Setup, "allow sqs:ReceiveMessage"},
		{400, "QueueDoesNotExist", fault.Setup, "make the queue"}, {503, "ServiceUnavailable", fault.Transient, ""},
	} {
		p.Heal()
		p.On("ReceiveMessage", faultproxy.Always(faultproxy.Error(row.status, row.code, "as it is")))
		var err error
		for err == nil || !strings.Contains(err.Error(), row.code) {
			_, _, err = src.Read(t.Context(), connector.Room{})
		}
		if fault.Of(err) != row.want || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s is %s: %v", row.code, fault.Of(err), err)
		}
	}
	p.Heal()
	sends(t, c, url, 0, [][]byte{[]byte("after all")})
	for {
		b, ack, err := src.Read(t.Context(), connector.Room{})
		if err != nil {
			continue // of a call from before
		}
		if len(b) != 1 || string(b[0].Data) != "after all" {
			t.Errorf("read %d messages", len(b))
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Error(err)
		}
		break
	}
}

// TestNoPermissionToDelete: what may not be deleted is said at once, and ends the pipeline
// instead of delivering everything again and again.
func TestNoPermissionToDelete(t *testing.T) {
	t.Parallel()
	engine := enginetest.SQS(t)
	c := other(t, engine)
	name := unique("undeletable")
	sends(t, c, queue(t, c, name, nil), 0, [][]byte{[]byte("a")})
	p := faultproxy.NewAWS(t, engine)
	p.On("DeleteMessageBatch", faultproxy.Always(faultproxy.Error(403, "AccessDenied", "no")))
	err := runs(t, source(p.URL, name), &sink{}, &sink{}, func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "allow sqs:DeleteMessage in") {
		t.Errorf("Run: %v", err)
	}
}

// TestMessages: attributes with their types, groups, ids and bodies of all bytes go through the
// target and the source as they were.
func TestMessages(t *testing.T) {
	t.Parallel()
	endpoint := enginetest.SQS(t)
	c := other(t, endpoint)
	name := unique("messages")
	queue(t, c, name, map[string]string{"FifoQueue": "true"})
	name += ".fifo"
	headers := event.Headers{{Name: "b", Value: []byte{0, 255}}, {Name: "n", Value: []byte("12.50")}, {Name: "s", Value: []byte("ü")}, {Name: "", Value: []byte("no name")}, {Name: "s", Value: []byte{}}, {Name: "sqs-attribute-types", Value: []byte("b=Binary.png,n=Number.price")}}
	var batch event.Batch
	for i, data := range [][]byte{[]byte("text"), {0, 1, 255}, {}, nil} {
		m := event.New(data)
		m.Key, m.Meta.Headers = fmt.Sprint("group-", i), headers
		batch = append(batch, m)
	}
	tc := sqstarget.Entry.Default().(*sqstarget.Config)
	tc.QueueName, tc.CustomAWSEndpoint, tc.IllegalPayloads = name, endpoint, "base64"
	to := sqstarget.New(connector.Deps{}, *tc)
	if err := to.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close(t.Context()) }()
	if err := to.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	src := source(endpoint, name, func(c *sqssource.Config) { c.PartitionKey = "source" })
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close(t.Context()) }()
	got := map[string]*event.Message{}
	for len(got) < len(batch) {
		b, ack, err := src.Read(t.Context(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b {
			got[m.Key] = m
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	for _, want := range batch {
		m := got[want.Key]
		if m == nil {
			t.Fatalf("%s did not come", want.Key)
		}
		if (m.Data == nil) != (want.Data == nil) || !bytes.Equal(m.Data, want.Data) {
			t.Errorf("%s is %q, was %q", want.Key, m.Data, want.Data)
		}
		if d := cmp.Diff(headers, m.Meta.Headers); d != "" {
			t.Error(d)
		}
		o := m.Meta.Origin
		if m.Meta.ID == "" || o == nil || o.Stream != name || o.Partition != want.Key || len(o.Position) == 0 || time.Since(m.Times.Created) > time.Hour || m.Times.Created.After(m.Times.Read.Add(time.Minute)) {
			t.Errorf("%s: id %q, origin %+v, created %s", want.Key, m.Meta.ID, o, m.Times.Created)
		}
	}
}

// TestLag: what waits in the queue is counted.
func TestLag(t *testing.T) {
	t.Parallel()
	endpoint := enginetest.SQS(t)
	c := other(t, endpoint)
	name := unique("lag")
	sends(t, c, queue(t, c, name, nil), 0, [][]byte{[]byte("a"), []byte("b")})
	src := source(endpoint, name)
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close(t.Context()) }()
	lag, err := src.Lag(t.Context())
	if want := []connector.Lag{{Stream: name, Messages: 2, Bytes: connector.Unknown, Age: connector.Unknown}}; err != nil || !slices.Equal(lag, want) {
		t.Errorf("%+v, %v", lag, err)
	}
}

// TestCheck: what is missing is said, all of it, and no message is received to find out.
func TestCheck(t *testing.T) {
	t.Parallel()
	engine := enginetest.SQS(t)
	c := other(t, engine)
	name := unique("check")
	url := queue(t, c, name, nil)
	sends(t, c, url, 0, [][]byte{[]byte("a")})
	p := faultproxy.NewAWS(t, engine)
	if err := source(p.URL, name).Check(t.Context()); err != nil {
		t.Error(err)
	}
	out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}})
	if err != nil || len(out.Messages) != 1 || out.Messages[0].Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("the check has received a message: %+v, %v", out, err)
	}
	denied := faultproxy.Always(faultproxy.Error(403, "AccessDenied", "no"))
	for _, operation := range []string{"ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueAttributes"} {
		p.On(operation, denied)
	}
	err = source(p.URL, name).Check(t.Context())
	for _, want := range []string{"allow sqs:ReceiveMessage", "allow sqs:DeleteMessage in", "allow sqs:ChangeMessageVisibility in", "allow sqs:GetQueueAttributes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
	if err := source(p.URL, "not-there").Check(t.Context()); err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "make the queue") {
		t.Errorf("%v", err)
	}
}
