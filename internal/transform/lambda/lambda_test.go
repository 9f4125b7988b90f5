package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/lambda"
)

const handlerVariable = "WEIR_TEST_HANDLER"

func TestMain(m *testing.M) {
	if os.Getenv(handlerVariable) != "" {
		serve()
		return
	}
	goleak.VerifyTestMain(m)
}

// given is an event as a handler reads it.
type given struct {
	InvocationID string `json:"invocationId"`
	StreamARN    string `json:"deliveryStreamArn"`
	SourceARN    string `json:"sourceKinesisStreamArn"`
	Region       string `json:"region"`
	Records      []struct {
		RecordID string `json:"recordId"`
		Arrival  int64  `json:"approximateArrivalTimestamp"`
		Data     []byte `json:"data"`
		Kinesis  *struct {
			Sequence string `json:"sequenceNumber"`
			Shard    string `json:"shardId"`
		} `json:"kinesisRecordMetadata"`
	} `json:"records"`
}

// answer is what the handler of these tests makes of an event: a record's payload says what.
func answer(payload []byte) (output []byte, failed bool) {
	var in given
	if err := json.Unmarshal(payload, &in); err != nil {
		return []byte(err.Error()), true
	}
	records := []any{}
	for _, r := range in.Records {
		one := map[string]any{"recordId": r.RecordID, "result": "Ok", "data": base64.StdEncoding.EncodeToString(append([]byte("new "), r.Data...))}
		switch text := string(r.Data); {
		case text == "exit":
			os.Exit(3)
		case text == "throw":
			return []byte(`{"errorType":"Poison","errorMessage":"cannot take it"}`), true
		case text == "garbage":
			return []byte(`{"records":7}`), false
		case text == "nothing":
			return []byte(`{}`), false
		case text == "drop":
			one["result"] = "Dropped"
			delete(one, "data")
		case text == "fail":
			one["result"] = "ProcessingFailed"
		case text == "missing":
			continue
		case text == "double":
			records = append(records, one)
		case text == "other":
			one["recordId"] = "another"
		case text == "lower":
			one["result"] = "ok"
		case text == "number":
			one["data"] = 7
		case text == "no data":
			delete(one, "data")
		case text == "no base64":
			one["data"] = "%"
		case text == "empty":
			one["data"] = ""
		case strings.HasPrefix(text, "keys "):
			one["metadata"] = map[string]any{"partitionKeys": json.RawMessage(text[5:])}
		}
		records = append(records, one)
	}
	output, err := json.Marshal(map[string]any{"records": records})
	if err != nil {
		panic(err)
	}
	return output, false
}

// serve is a handler that speaks the Runtime API.
func serve() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			return
		}
		payload, err := io.ReadAll(next.Body)
		if err := errors.Join(err, next.Body.Close()); err != nil {
			return
		}
		output, failed := answer(payload)
		how := "/response"
		if failed {
			how = "/error"
		}
		said, err := http.Post(api+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+how, "application/json", bytes.NewReader(output))
		if err != nil {
			return
		}
		if said.Body.Close() != nil {
			return
		}
	}
}

func config() Config {
	c := *Entry.Default().(*Config)
	c.Command, c.Env = []string{os.Args[0]}, map[string]string{handlerVariable: "yes"}
	c.RetryDelayMillis, c.NumberOfRetries = 1, 1
	return c
}

func built(t *testing.T, c Config) *Transform {
	t.Helper()
	tr, err := Entry.Build(t.Context(), connector.Deps{Pipeline: "orders"}, func(into any) error { *into.(*Config) = c; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return tr.(*Transform)
}

func batch(payloads ...string) event.Batch {
	b := make(event.Batch, len(payloads))
	for i, p := range payloads {
		b[i] = event.New([]byte(p))
	}
	return b
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }

func TestConformance(t *testing.T) {
	conntest.Transform(t, conntest.TransformCase{
		New:    func(t *testing.T) connector.Transform { return built(t, config()) },
		Inputs: [][]byte{[]byte("one"), []byte("drop"), []byte("fail"), []byte("empty"), []byte(`keys {"a":"b"}`)},
	})
}

// TestContract: each record is what its own answer says, whatever the others' are.
func TestContract(t *testing.T) {
	t.Parallel()
	rows := []struct{ payload, want, code string }{
		{"one", "new one", ""},
		{"drop", "", ""},
		{"fail", "", firehose.CodeStatus},
		{"missing", "", firehose.CodeMissing},
		{"double", "", firehose.CodeDuplicate},
		{"other", "", firehose.CodeMissing},
		{"lower", "", firehose.CodeJSON},
		{"number", "", firehose.CodeJSON},
		{"no data", "", firehose.CodeJSON},
		{"no base64", "", firehose.CodeJSON},
		{"empty", "", ""},
		{`keys {"year":"2026","shop":"a/b"}`, `new keys {"year":"2026","shop":"a/b"}`, ""},
		{`keys {"year":2026}`, "", firehose.CodeKeys},
		{`keys {"year":""}`, "", firehose.CodeKeys},
		{`keys {"year":null}`, "", firehose.CodeKeys},
		{"throw", "", firehose.CodeFunction},
		{"exit", "", firehose.CodeFunction},
		{"garbage", "", firehose.CodeJSON},
		{"two", "new two", ""},
	}
	var payloads []string
	for _, r := range rows {
		payloads = append(payloads, r.payload)
	}
	b := batch(payloads...)
	w := conntest.Worker(t, built(t, config())).(*Worker)
	for i, o := range w.ApplyAll(t.Context(), b) {
		r, m := rows[i], b[i]
		var f *firehose.Failure
		switch {
		case r.code != "":
			if !errors.As(o.Err, &f) || f.Code != r.code || fault.Of(o.Err) != fault.Invalid || len(o.Out) != 0 || string(m.Data) != r.payload {
				t.Errorf("%s: %v, %q", r.payload, o.Err, m.Data)
			}
		case r.payload == "drop":
			if o.Err != nil || len(o.Out) != 0 || m.Dropped() == "" {
				t.Errorf("%s: %+v, dropped %q", r.payload, o, m.Dropped())
			}
		case o.Err != nil || len(o.Out) != 1 || o.Out[0] != m || string(m.Data) != r.want || m.Data == nil || string(m.Raw()) != r.payload:
			t.Errorf("%s: %+v, %q", r.payload, o, m.Data)
		}
	}
	if y, s := firehose.FromLambda.Of(b[11], "year"), firehose.FromLambda.Of(b[11], "shop"); y != "2026" || s != "a/b" {
		t.Errorf("the partition keys are %q and %q", y, s)
	}
}

// stub is a worker whose handler is in the test.
func stub(t *testing.T, c Config, invoke func(ctx context.Context, payload []byte) ([]byte, error)) *Worker {
	return &Worker{t: built(t, c), invoke: invoke}
}

// TestEvent: what a handler is told, in requests that are within the limits.
func TestEvent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var all []given
	c := config()
	c.BufferSizeMB, c.Concurrency, c.Region = 0.2, 3, "eu-central-1"
	w := stub(t, c, func(_ context.Context, payload []byte) ([]byte, error) {
		var in given
		if err := json.Unmarshal(payload, &in); err != nil || len(payload) > firehose.MostInvocation {
			t.Errorf("a request of %d bytes: %v", len(payload), err)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, in)
		out, _ := answer(payload)
		return out, nil
	})
	var b event.Batch
	for i := range 300 {
		m := event.New(bytes.Repeat([]byte("x"), 1000*(i%7)))
		m.Key, m.Meta.ID = "k", fmt.Sprintf("4959%d/3", i)
		m.Meta.Origin = &event.Origin{Stream: "clicks", Partition: "shardId-000000000001", Sub: 3, At: time.UnixMilli(1507217624302)}
		b = append(b, m)
	}
	big := event.New(bytes.Repeat([]byte("y"), 5<<20)) // larger than any request
	b = append(b, big)
	for i, o := range w.ApplyAll(t.Context(), b) {
		if (o.Err != nil) != (i == 300) {
			t.Fatalf("%d: %v", i, o.Err)
		}
	}
	seen, ids := 0, map[string]bool{}
	for _, in := range all {
		size := 0
		for _, r := range in.Records {
			seen++
			size += len(r.Data)
			ids[r.RecordID] = true
			if r.Arrival != 1507217624302 || r.Kinesis == nil || !strings.HasPrefix(r.Kinesis.Sequence, "4959") || strings.Contains(r.Kinesis.Sequence, "/") || r.Kinesis.Shard != "shardId-000000000001" {
				t.Fatalf("%+v", r)
			}
		}
		if size > 1<<20/5 && len(in.Records) > 1 {
			t.Errorf("an invocation has %d bytes", size)
		}
		if in.StreamARN != "arn:aws:firehose:eu-central-1:000000000000:deliverystream/orders" || in.Region != "eu-central-1" ||
			in.SourceARN != "arn:aws:kinesis:eu-central-1:000000000000:stream/clicks" || in.InvocationID == "" {
			t.Errorf("%+v", in)
		}
	}
	if seen != 300 || len(ids) != 300 || len(all) < 4 {
		t.Errorf("%d records with %d ids in %d invocations", seen, len(ids), len(all))
	}
}

// TestRetries: an invocation that fails is made again with the same ids, further and further
// apart; when all fail the records do, with how often that was.
func TestRetries(t *testing.T) {
	t.Parallel()
	for _, fails := range []int{0, 2, 3, 4, 1000} {
		synctest.Test(t, func(t *testing.T) {
			c := config()
			c.NumberOfRetries, c.RetryDelayMillis = 3, 100
			calls, ids := 0, map[string]bool{}
			w := stub(t, c, func(_ context.Context, payload []byte) ([]byte, error) {
				var in given
				if err := json.Unmarshal(payload, &in); err != nil {
					t.Error(err)
				}
				ids[in.InvocationID] = true
				if calls++; calls <= fails {
					return nil, &lambda.Error{Type: lambda.ErrorTimedOut, Payload: []byte("{}")}
				}
				out, _ := answer(payload)
				return out, nil
			})
			began := time.Now()
			o := w.ApplyAll(t.Context(), batch("one"))[0]
			if fails < 4 {
				if o.Err != nil || calls != fails+1 || len(ids) != 1 {
					t.Errorf("%d: %v after %d calls with %d ids", fails, o.Err, calls, len(ids))
				}
			} else {
				f, ok := errors.AsType[*firehose.Failure](o.Err)
				if !ok || f.Attempts != 4 || f.Code != firehose.CodeTimedOut || f.Lambda == "" || calls != 4 || !f.Ended.Equal(time.Now()) {
					t.Errorf("%d: %+v after %d calls", fails, f, calls)
				}
			}
			if took, want := time.Since(began), []time.Duration{0, 100, 300, 700}[min(fails, 3)]*time.Millisecond; took != want {
				t.Errorf("%d: it took %s, want %s", fails, took, want)
			}
		})
	}
}

// TestPoison: records that the handler cannot take fail alone, as long as they are few; when it
// can take none, that is found out with few invocations.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, poison := range [][]int{{0}, {499}, {250}, {7, 300}, nil} {
		calls := 0
		c := config()
		c.NumberOfRetries = 0
		w := stub(t, c, func(_ context.Context, payload []byte) ([]byte, error) {
			calls++
			out, failed := answer(payload)
			if failed || poison == nil {
				return nil, &lambda.Error{Type: "Poison", Payload: out}
			}
			return out, nil
		})
		payloads := make([]string, 500)
		for i := range payloads {
			if payloads[i] = fmt.Sprint(i); slices.Contains(poison, i) {
				payloads[i] = "throw"
			}
		}
		bad := 0
		for i, o := range w.ApplyAll(t.Context(), batch(payloads...)) {
			if o.Err != nil {
				bad++
			}
			if want := poison == nil || slices.Contains(poison, i); want != (o.Err != nil) {
				t.Errorf("%v: record %d: %v", poison, i, o.Err)
			}
		}
		if calls > 1+5*9 { // four for each bit of 500, and those that were begun by then
			t.Errorf("%v: %d invocations", poison, calls)
		}
	}
}

// TestAnswerTooLarge: what makes an answer larger than one may be is asked for in parts.
func TestAnswerTooLarge(t *testing.T) {
	t.Parallel()
	c := config()
	c.NumberOfRetries = 9
	calls := 0
	w := stub(t, c, func(_ context.Context, payload []byte) ([]byte, error) {
		calls++
		out, _ := answer(payload)
		if bytes.Count(payload, []byte("recordId")) > 3 {
			return nil, &lambda.Error{Type: lambda.ErrorTooLarge, Payload: []byte("{}")}
		}
		return out, nil
	})
	for i, o := range w.ApplyAll(t.Context(), batch("1", "2", "3", "4", "5", "6", "7", "8")) {
		if o.Err != nil {
			t.Errorf("%d: %v", i, o.Err)
		}
	}
	if calls != 7 {
		t.Errorf("%d invocations, want 1, 2 and 4", calls)
	}
}

// TestOpenedAgain: the processes end with the last worker, and another one starts them anew.
func TestOpenedAgain(t *testing.T) {
	t.Parallel()
	tr := built(t, config())
	for range 3 {
		var ws []connector.Worker
		for range 2 {
			w, err := tr.Worker()
			if err != nil {
				t.Fatal(err)
			}
			ws = append(ws, w)
		}
		for _, w := range ws {
			if _, err := w.Apply(t.Context(), nil, event.New([]byte("one"))); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := w.(connector.Closer).Close(); err != nil {
					t.Error(err)
				}
			}
		}
		if tr.running != nil {
			t.Error("the handler runs on")
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"command":           func(c *Config) { c.Command = nil },
		"buffer_size_mb":    func(c *Config) { c.BufferSizeMB = 5 },
		"number_of_retries": func(c *Config) { c.NumberOfRetries = -1 },
		"retry_delay_ms":    func(c *Config) { c.RetryDelayMillis = -1 },
		"timeout_ms":        func(c *Config) { c.TimeoutMillis = 300_001 },
		"init_timeout_ms":   func(c *Config) { c.InitTimeoutMillis = 0 },
		"concurrency":       func(c *Config) { c.Concurrency = 0 },
		"function_name":     func(c *Config) { c.FunctionName = "" },
		"region":            func(c *Config) { c.Region = "" },
	} {
		c := config()
		if ps := c.Validate(); len(ps) > 0 {
			t.Fatal(ps)
		}
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != field || ps[0].Fix == "" {
			t.Errorf("%s: %v", field, ps)
		}
	}
	c := config()
	c.Command = []string{"no-such-program-of-weir"}
	err := built(t, c).Inspect()
	if m, ok := errors.AsType[*connector.Misconfigured](err); !ok || m.Field != "command" {
		t.Errorf("%v", err)
	}
}
