package httptarget

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestMessagesThatAreNotJSONAreInvalidAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	b := messages(`{"n":1}`, `not json`, `{"n":2}`, "\x00", "")
	b = append(b, &event.Message{}) // a tombstone
	failed := partial(t, build(t, s.URL, nil).Write(context.Background(), b))
	want := map[int]string{
		1: "Message can't be parsed as valid JSON: invalid character 'o' in literal null (expecting 'u')",
		3: `Message can't be parsed as valid JSON: invalid character '\x00' looking for beginning of value`,
		4: "Message can't be parsed as valid JSON: unexpected end of JSON input",
		5: "Message can't be parsed as valid JSON: unexpected end of JSON input",
	}
	got := map[int]string{}
	for i, err := range failed {
		got[i] = err.Error()
		if fault.Of(err) != fault.Invalid || fault.DetailOf(err).Type != "template" {
			t.Errorf("message %d: %v %+v", i, fault.Of(err), fault.DetailOf(err))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`[{"n":1},{"n":2}]`}, s.bodies()); diff != "" {
		t.Error(diff)
	}
	// Nothing to send makes no request.
	if err := build(t, s.URL, nil).Write(context.Background(), messages(`x`)); fault.Of(err) != fault.Invalid {
		t.Errorf("a batch of one bad message: %v", err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestBisect: whatever events the other side refuses, no good event becomes invalid while
// the search may go on, no bad one is delivered, each good one is delivered at least once
// and in order, and the number of requests keeps its bound.
func TestBisect(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bad map[int]bool
	var delivered []int
	requests := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		var ids []int
		_ = json.Unmarshal([]byte(body), &ids)
		mu.Lock()
		defer mu.Unlock()
		requests++
		if slices.ContainsFunc(ids, func(id int) bool { return bad[id] }) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		delivered = append(delivered, ids...)
	})
	target := build(t, s.URL, rules(Rule{Type: "invalid", HTTPCodes: []int{400}}))
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		wrong := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(n, 12), rapid.ID[int]).Draw(t, "bad")
		mu.Lock()
		bad, delivered, requests = map[int]bool{}, nil, 0
		for _, i := range wrong {
			bad[i] = true
		}
		mu.Unlock()
		var b event.Batch
		for i := range n {
			b = append(b, event.New(fmt.Append(nil, i)))
		}
		err := target.Write(context.Background(), b)
		failed := failures(err, n)
		mu.Lock()
		defer mu.Unlock()
		if limit := min(1+8*bits.Len(uint(n-1)), 2*n-1); requests > limit {
			t.Fatalf("%d requests for %d events, want at most %d", requests, n, limit)
		}
		if !slices.IsSorted(delivered) {
			t.Fatalf("order changed: %v", delivered)
		}
		exact := len(wrong) <= 4 || n <= 16
		for i := range n {
			ok := slices.Contains(delivered, i)
			switch {
			case ok == (failed[i] != nil):
				t.Fatalf("event %d: delivered %v, error %v", i, ok, failed[i])
			case bad[i] && failed[i] == nil:
				t.Fatalf("refused event %d counts as delivered", i)
			case exact && !bad[i] && failed[i] != nil:
				t.Fatalf("good event %d of %d failed beside %v: %v", i, n, wrong, failed[i])
			case failed[i] != nil && fault.Of(failed[i]) != fault.Invalid:
				t.Fatalf("event %d: %v", i, fault.Of(failed[i]))
			}
		}
	})
}

func TestBisectStopsWhenTheServerFails(t *testing.T) {
	t.Parallel()
	n := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		n++
		w.WriteHeader([]int{413, 200, 413, 503}[min(n-1, 3)])
	})
	// [0 1 2 3] refused, [0 1] sent, [2 3] refused, [2] unavailable: 3 is not asked for.
	failed := partial(t, build(t, s.URL, nil).Write(context.Background(), messages(`0`, `1`, `2`, `3`)))
	if len(failed) != 2 || fault.Of(failed[2]) != fault.Transient || fault.Of(failed[3]) != fault.Transient {
		t.Fatalf("failed: %v", failed)
	}
	if diff := cmp.Diff([]string{"[0,1,2,3]", "[0,1]", "[2,3]", "[2]"}, s.bodies()); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutBisectTheBatchFailsWhole(t *testing.T) {
	t.Parallel()
	code := http.StatusBadRequest
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) })
	target := build(t, s.URL, func(c *Config) {
		c.Bisect = false
		rules(Rule{Type: "invalid", HTTPCodes: []int{400}})(c)
	})
	if err := target.Write(context.Background(), messages(`0`, `1`)); fault.Of(err) != fault.Invalid {
		t.Errorf("400: %v", err)
	}
	code = http.StatusRequestEntityTooLarge
	if err := target.Write(context.Background(), messages(`0`, `1`)); fault.Of(err) != fault.Transient {
		t.Errorf("413 without a rule: %v", err)
	}
	if n := len(s.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	target := build(t, s.URL+"/base?q=1", func(c *Config) {
		c.Headers = map[string]string{"X-Static": "s", "x-both": "static"}
		c.BasicAuthUsername = "user"
		c.DynamicHeaders, c.DynamicURL = true, "X-Path"
		c.IncludeTimingHeaders = true
		c.Method = "PUT"
	})
	b := messages(`1`, `2`, `3`, `4`, `5`, `6`)
	b[2].Meta.Headers = event.Headers{{Name: "X-Both", Value: []byte("own")}, {Name: "x-path", Value: []byte("/other?z=2")}, {Name: "x-both", Value: []byte("more")}}
	b[3].Meta.Headers = event.HeadersOf(map[string]string{"bad name": "v"})
	b[4].Meta.Headers = event.HeadersOf(map[string]string{"X-Path": "http://elsewhere.example/"})
	start := time.Now()
	failed := partial(t, target.Write(context.Background(), b))
	end := time.Now()
	if len(failed) != 2 || fault.Of(failed[3]) != fault.Invalid || fault.Of(failed[4]) != fault.Invalid {
		t.Fatalf("failed: %v", failed)
	}
	reqs := s.requests()
	var got []string
	for _, r := range reqs {
		got = append(got, fmt.Sprintf("%s %s %s %v %v %q", r.method, r.path, r.body, r.header["X-Static"], r.header["X-Both"], r.header.Get("X-Path")))
	}
	want := []string{
		`PUT /base?q=1 [1,2] [s] [static] ""`,
		`PUT /other?z=2 [3] [s] [static own more] ""`,
		`PUT /base?q=1 [6] [s] [static] ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := reqs[0].header.Get("Authorization"); a != "Basic dXNlcjo=" {
		t.Errorf("Authorization %q", a)
	}
	var at int64
	_, _ = fmt.Sscan(reqs[0].header.Get("Rejection-Timestamp"), &at)
	const ahead = 120*time.Second - 150*time.Millisecond // the request's timeout less the rejection threshold
	if at := time.UnixMilli(at); at.Before(start.Add(ahead-time.Millisecond)) || at.After(end.Add(ahead)) {
		t.Errorf("Rejection-Timestamp is %v after the start, want %v", at.Sub(start), ahead)
	}
	if alone := target.Limits().Alone; !alone(b[2]) || alone(b[0]) {
		t.Error("Alone does not follow the headers")
	}
}

func TestWithoutDynamicHeadersMessageHeadersStayHome(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	b := messages(`1`, `2`)
	b[0].Meta.Headers = event.HeadersOf(map[string]string{"X-Own": "v"})
	if err := build(t, s.URL, nil).Write(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if r := s.requests(); len(r) != 1 || r[0].header.Get("X-Own") != "" {
		t.Errorf("requests: %+v", r)
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	target := build(t, s.URL, func(c *Config) { c.Compression = "gzip" })
	for range 3 { // more than once: compressors are reused
		if err := target.Write(context.Background(), messages(`{"a":1}`, `2`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range s.requests() {
		z, err := gzip.NewReader(strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(z)
		if err != nil || string(body) != `[{"a":1},2]` || r.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("body %q, %v, %v", body, err, r.header)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		switch r.URL.Path {
		case "/keep":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/login":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusPermanentRedirect)
		}
	})
	if err := build(t, s.URL+"/keep", nil).Write(context.Background(), messages(`1`)); err != nil {
		t.Errorf("307: %v", err)
	}
	if r := s.requests()[1]; r.path != "/end" || r.body != "[1]" || r.method != "POST" {
		t.Errorf("after 307: %+v", r)
	}
	if err := build(t, s.URL+"/login", nil).Write(context.Background(), messages(`1`)); err == nil {
		t.Error("302 to a page that answers 200 counts as delivered")
	}
	if err := build(t, s.URL+"/loop", nil).Write(context.Background(), messages(`1`)); err == nil || !strings.Contains(err.Error(), "10 redirects") {
		t.Errorf("loop: %v", err)
	}
}

// TestRedirectElsewhere: what a config gives to a server, no other one gets, and the error says
// who sent it where; a request without credentials goes on.
func TestRedirectElsewhere(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*Config)
		query  string
		stays  bool
	}{
		"nothing":         {stays: false},
		"header":          {change: func(c *Config) { c.Headers = map[string]string{"X-Tenant": "hush-hush"} }, stays: true},
		"basic":           {change: func(c *Config) { c.BasicAuthUsername, c.BasicAuthPassword = "u", "hush-hush" }, stays: true},
		"query":           {query: "?token=hush-hush", stays: true},
		"dynamic headers": {change: func(c *Config) { c.DynamicHeaders = true }, stays: true},
		"sigv4": {change: func(c *Config) {
			c.SigV4 = &SigV4{Region: "eu-central-1", Service: "execute-api", AccessKeyID: "AKID", SecretAccessKey: "hush-hush"}
		}, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			elsewhere := serve(t, nil)
			s := serve(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				http.Redirect(w, r, elsewhere.URL+"/elsewhere?of=theirs", http.StatusPermanentRedirect)
			})
			b := messages(`1`)
			b[0].SetHeader("X-Of-Message", "hush-hush")
			err := build(t, s.URL+row.query, row.change).Write(context.Background(), b)
			if !row.stays {
				if n := len(elsewhere.requests()); err != nil || n != 1 {
					t.Errorf("%v, %d requests elsewhere", err, n)
				}
				return
			}
			if n := len(elsewhere.requests()); n != 0 {
				t.Errorf("the other server got %+v", elsewhere.requests())
			}
			if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), elsewhere.URL) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "theirs") {
				t.Errorf("%v: %v", fault.Of(err), err)
			}
		})
	}
}

func TestHangingServer(t *testing.T) {
	t.Parallel()
	release, arrived := make(chan struct{}), make(chan struct{}, 8)
	s := serve(t, func(http.ResponseWriter, *http.Request, string) {
		arrived <- struct{}{}
		<-release
	})
	defer close(release)
	// Even a rule for requests without a response says nothing about our own stop.
	target := build(t, s.URL, rules(Rule{Type: "invalid", HTTPCodes: []int{0}}))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-arrived
		cancel()
	}()
	err := target.Write(ctx, messages(`1`)) // and returns, long before the request's timeout
	if !errors.Is(err, context.Canceled) || fault.Of(err) != fault.Transient {
		t.Errorf("cancelled write: %v (%v)", err, fault.Of(err))
	}
	slow := build(t, s.URL, func(c *Config) { c.RequestTimeoutInMillis = 50 })
	if err := slow.Write(context.Background(), messages(`1`)); err == nil || !strings.Contains(err.Error(), "Client.Timeout exceeded") {
		t.Errorf("timeout: %v", err)
	}
}

func TestServerThatBreaksOffTheResponse(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(500)
		_, _ = w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	err := build(t, s.URL, rules(Rule{Type: "setup", HTTPCodes: []int{0}, Body: "unexpected EOF"})).Write(context.Background(), messages(`1`))
	if err == nil || fault.Of(err) != fault.Setup || fault.DetailOf(err).Code != "Error reading response body" {
		t.Fatalf("Write: %v (%v)", err, fault.Of(err))
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100<<10))
	})
	var mu sync.Mutex
	opened := 0
	target := build(t, s.URL, func(c *Config) { c.Batching.MaxConcurrentBatches = 2 })
	dial := target.client.Transport().DialContext
	target.client.Transport().DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		opened++
		mu.Unlock()
		return dial(ctx, network, addr)
	}
	for range 10 {
		if err := target.Write(context.Background(), messages(`1`)); err != nil {
			t.Fatal(err)
		}
	}
	if opened != 1 {
		t.Errorf("%d connections for 10 writes in a row", opened)
	}
}

func TestLargeAndOddPayloads(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	big := `"` + strings.Repeat("x", 10<<20) + `"`
	if err := build(t, s.URL, nil).Write(context.Background(), messages(big, "\"\xff\xfe\"")); err != nil {
		t.Fatal(err)
	}
	if got := s.bodies()[0]; got != "["+big+",\"\xff\xfe\"]" {
		t.Errorf("body of %d bytes", len(got))
	}
	if err := build(t, s.URL, nil).Write(context.Background(), nil); err != nil {
		t.Errorf("empty batch: %v", err)
	}
}

func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		got[body]++
	})
	target := build(t, s.URL, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 30 {
				if err := target.Write(context.Background(), messages(fmt.Sprintf(`"%d-%d"`, g, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for g := range 8 {
		for i := range 30 {
			if body := fmt.Sprintf(`["%d-%d"]`, g, i); got[body] != 1 {
				t.Errorf("%s arrived %d times", body, got[body])
			}
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, compression := range []string{"none", "gzip"} {
		b.Run("messages=50/compression="+compression, func(b *testing.B) {
			s := serve(b, nil)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			target := build(b, s.URL, func(c *Config) { c.Compression = compression })
			batch := benchBatch()
			b.ReportAllocs()
			b.SetBytes(int64(batch.Bytes()))
			for b.Loop() {
				if err := target.Write(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPrepare(b *testing.B) {
	t := &Target{}
	d := &delivery{t: t, batch: benchBatch()}
	b.ReportAllocs()
	b.SetBytes(int64(d.batch.Bytes()))
	for b.Loop() {
		d.prepare(0, len(d.batch)).release()
	}
}

func benchBatch() event.Batch {
	var batch event.Batch
	for i := range 50 {
		batch = append(batch, event.New(fmt.Appendf(nil, `{"id": %d, "page": "https://example.com/?a=1&b=2", "agent": "%s", "nested": {"a": [1, 2, 3]}}`, i, strings.Repeat("Mozilla ", 50))))
	}
	return batch
}

// failures is the error of each message of a write of n.
func failures(err error, n int) map[int]error {
	if p, ok := errors.AsType[*connector.Partial](err); ok {
		return p.Failed
	}
	failed := map[int]error{}
	for i := 0; i < n && err != nil; i++ {
		failed[i] = err
	}
	return failed
}

// TestRaw: each message is a request of its own, byte for byte, whatever it holds.
func TestRaw(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		if body == "refuse" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	target := build(t, s.URL, func(c *Config) {
		c.BodyFormat = raw
		c.ResponseRules = &ResponseRules{Rules: []Rule{{Type: "invalid", HTTPCodes: []int{400}}}}
	})
	if l := target.Limits(); l.MaxBatchMessages != 1 || l.MaxBatchBytes != 1048576 || l.MaxMessageBytes != 1048576 {
		t.Errorf("%+v", l)
	}
	want := []string{` { "a" : "<&>" } `, "a\tb\xff\x00", "refuse", "", "last"}
	failed := partial(t, target.Write(t.Context(), messages(want...)))
	if len(failed) != 1 || fault.Of(failed[2]) != fault.Invalid {
		t.Errorf("%v", failed)
	}
	if d := cmp.Diff(want, s.bodies()); d != "" {
		t.Error(d)
	}
	packed := build(t, s.URL, func(c *Config) { c.BodyFormat, c.Compression = raw, "gzip" })
	if err := packed.Write(t.Context(), messages("packed")); err != nil {
		t.Error(err)
	}
	z, err := gzip.NewReader(strings.NewReader(s.bodies()[len(want)]))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || string(text) != "packed" {
		t.Errorf("%q, %v", text, err)
	}
}
