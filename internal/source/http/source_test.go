package httpsource

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a source with somebody who reads it.
type pipe struct {
	*Source
	url    string
	client *http.Client

	mu      sync.Mutex
	batches []event.Batch
}

func start(t testing.TB, change func(*Config)) *pipe {
	t.Helper()
	c := defaults()
	c.URL = "127.0.0.1:0"
	if change != nil {
		change(&c)
	}
	s, err := New(context.Background(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	scheme, tr := "http://", &http.Transport{MaxIdleConnsPerHost: 100}
	if c.CertFile != "" {
		scheme, tr.TLSClientConfig = "https://", &tls.Config{InsecureSkipVerify: true}
	}
	p := &pipe{Source: s, url: scheme + s.Addr().String(), client: &http.Client{Transport: tr}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// run reads until the test ends, and settles each message with what outcome says of it.
func (p *pipe) run(t testing.TB, outcome func(*event.Message) error) *pipe {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			b, ack, err := p.Read(ctx, connector.Room{})
			if err != nil {
				return
			}
			p.mu.Lock()
			p.batches = append(p.batches, b)
			p.mu.Unlock()
			event.Track(b, func(o event.Outcomes) { _ = ack(ctx, o) })
			for _, m := range b {
				var err error
				if outcome != nil {
					err = outcome(m)
				}
				event.Settle(m, err)
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

func (p *pipe) payloads() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, b := range p.batches {
		for _, m := range b {
			all = append(all, string(m.Data))
		}
	}
	return all
}

// reply is an answer in short: status, Retry-After and the body.
type reply struct {
	code  int
	after string
	text  string
	head  http.Header
}

func (p *pipe) post(t testing.TB, body io.Reader, change func(*http.Request)) reply {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url, body)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header.Get("Retry-After"), string(text), resp.Header}
}

func TestLinesBecomeMessages(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.ForwardHeaders = []string{"X-Request-Id", "X-None", "x-request-id"} }).run(t, nil)
	r := p.post(t, strings.NewReader("one\r\n\n  \ntw\xff\x00o\nthree"), func(r *http.Request) {
		r.Header.Add("X-Request-Id", "a")
		r.Header.Add("X-Request-Id", "b")
	})
	if r.code != http.StatusAccepted || r.text != "" {
		t.Fatalf("answer: %+v", r)
	}
	if diff := cmp.Diff([]string{"one", "tw\xff\x00o", "three"}, p.payloads()); diff != "" {
		t.Error(diff)
	}
	m := p.batches[0][1]
	var forwarded []string
	for i := range m.Meta.Headers {
		forwarded = append(forwarded, m.Meta.Headers[i].Name+": "+m.Meta.Headers[i].Text())
	}
	if diff := cmp.Diff([]string{"X-Request-Id: a", "X-Request-Id: b"}, forwarded); diff != "" {
		t.Error(diff)
	}
	if cap(m.Data) != len(m.Data) {
		t.Error("appending to a payload reaches the next one")
	}
	if m.Times.Read.IsZero() {
		t.Error("no read time")
	}
}

func TestRefusedRequestsAcceptNothing(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte("x"), 5000))
	_ = z.Close()
	var short bytes.Buffer
	z.Reset(&short)
	_, _ = z.Write([]byte("1\n2\n3"))
	_ = z.Close()
	encoding := func(e string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Content-Encoding", e) }
	}
	p := start(t, func(c *Config) { c.RequestBatchLimit, c.MaxLineBytes, c.MaxBodyBytes, c.Path = 3, 10, 1000, "/in" }).run(t, nil)
	root := p.url
	for _, tc := range []struct {
		name   string
		path   string
		body   string
		change func(*http.Request)
		code   int
		text   string
	}{
		{"one line too many", "/in", "1\n2\n3\n4", nil, 400, "more than 3 lines"},
		{"a long line at the end", "/in", "1\n2\n12345678901", nil, 400, "line 3 has 11 bytes"},
		{"a large body", "/in", strings.Repeat("1\n", 501), nil, 413, "more than 1000 bytes"},
		{"a large body of unknown length", "/in", strings.Repeat("1\n", 501), func(r *http.Request) { r.ContentLength = -1; r.Body = io.NopCloser(r.Body) }, 413, "more than 1000 bytes"},
		{"a large body once unpacked", "/in", packed.String(), encoding("gzip"), 413, "more than 1000 bytes"},
		{"not gzip", "/in", "1\n2", encoding("gzip"), 400, "not valid gzip"},
		{"half of a gzip", "/in", short.String()[:short.Len()-3], encoding("gzip"), 400, "not valid gzip"},
		{"not zstd", "/in", "1\n2", encoding("zstd"), 400, "not valid zstd"},
		{"unknown encoding", "/in", "1\n2", encoding("br"), 415, `"br"`},
		{"GET", "/in", "", func(r *http.Request) { r.Method = http.MethodGet }, 405, "POST"},
		{"another path", "/out", "1", nil, 404, ""},
	} {
		p.url = root + tc.path
		r := p.post(t, strings.NewReader(tc.body), tc.change)
		if r.code != tc.code || !strings.Contains(r.text, tc.text) {
			t.Errorf("%s: %d %q, want %d with %q", tc.name, r.code, r.text, tc.code, tc.text)
		}
		if tc.code == 405 && r.head.Get("Allow") != "POST" {
			t.Errorf("Allow: %q", r.head.Get("Allow"))
		}
	}
	p.url = root + "/in"
	for body, want := range map[string]int{"": 202, "\n\r\n \n": 202, "1\n2\n3": 202, "1234567890\r\n": 202} {
		if r := p.post(t, strings.NewReader(body), nil); r.code != want {
			t.Errorf("%q: %d, want %d", body, r.code, want)
		}
	}
	if n := len(p.payloads()); n != 4 {
		t.Errorf("%d messages, want the 4 of accepted requests: %q", n, p.payloads())
	}
	idle(t, p.Source)
}

// requests is how many are in flight.
func requests(s *Source) int64 {
	n, _ := s.Stay().Budget.Used()
	return n
}

// idle checks that nothing is held of the budget.
func idle(t testing.TB, s *Source) {
	t.Helper()
	if r, b := s.Stay().Budget.Used(); r != 0 || b != 0 {
		t.Errorf("%d requests and %d bytes are still held", r, b)
	}
}

func TestCompressedBodies(t *testing.T) {
	t.Parallel()
	p := start(t, nil).run(t, nil)
	for _, encoding := range []string{"gzip", "zstd", "gzip", "zstd"} {
		var packed bytes.Buffer
		var z io.WriteCloser = gzip.NewWriter(&packed)
		if encoding == "zstd" {
			z, _ = zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
		}
		_, _ = io.WriteString(z, encoding+"\nline")
		_ = z.Close()
		if r := p.post(t, &packed, func(r *http.Request) { r.Header.Set("Content-Encoding", encoding) }); r.code != 202 {
			t.Fatalf("%s: %+v", encoding, r)
		}
	}
	if diff := cmp.Diff([]string{"gzip", "line", "zstd", "line", "gzip", "line", "zstd", "line"}, p.payloads()); diff != "" {
		t.Error(diff)
	}
}

func TestLongLine(t *testing.T) {
	t.Parallel()
	p := start(t, nil).run(t, nil)
	line := strings.Repeat("x", 10<<20)
	if r := p.post(t, strings.NewReader("a\n"+line+"\nb"), nil); r.code != 202 {
		t.Fatalf("answer: %+v", r)
	}
	if got := p.payloads(); len(got) != 3 || got[1] != line {
		t.Errorf("%d messages", len(got))
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.BasicAuthUsername, c.BasicAuthPassword, c.BearerToken = "user", "pass", "token" }).run(t, nil)
	for _, tc := range []struct {
		header string
		code   int
	}{
		{"", 401}, {"Basic dXNlcjpwYXNz", 202}, {"Basic dXNlcjp4", 401}, {"Bearer token", 202}, {"bearer token", 202},
		{"Bearer token2", 401}, {"Bearer ", 401}, {"Bearer", 401}, {"token", 401},
	} {
		r := p.post(t, strings.NewReader("1"), func(r *http.Request) { r.Header.Set("Authorization", tc.header) })
		if r.code != tc.code {
			t.Errorf("%q: %d, want %d", tc.header, r.code, tc.code)
		}
		if r.code == 401 && len(r.head.Values("WWW-Authenticate")) != 2 {
			t.Errorf("challenge: %v", r.head.Values("WWW-Authenticate"))
		}
	}
	if n := len(p.payloads()); n != 3 {
		t.Errorf("%d messages", n)
	}
}

// TestEveryRequestGetsTheAnswerOfItsEvents sends requests at once and fails random events:
// a request is answered 202 exactly when all of its events were handled, and each event
// of an accepted request is read exactly once.
func TestEveryRequestGetsTheAnswerOfItsEvents(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.MaxBatchMessages = 7 }).run(t, func(m *event.Message) error {
		if bytes.HasPrefix(m.Data, []byte("bad")) {
			return errors.New("not delivered")
		}
		return nil
	})
	rapid.Check(t, func(rt *rapid.T) {
		requests := rapid.SliceOfN(rapid.SliceOfN(rapid.Bool(), 1, 9), 1, 12).Draw(rt, "requests")
		p.mu.Lock()
		p.batches = nil
		p.mu.Unlock()
		answers := make([]reply, len(requests))
		var wg sync.WaitGroup
		for i, events := range requests {
			var body strings.Builder
			for k, good := range events {
				fmt.Fprintf(&body, "%s %d-%d\n", map[bool]string{true: "good", false: "bad"}[good], i, k)
			}
			wg.Go(func() { answers[i] = p.post(t, strings.NewReader(body.String()), nil) })
		}
		wg.Wait()
		want := 0
		for i, events := range requests {
			code, after := 202, ""
			for _, good := range events {
				if !good {
					code, after = 503, "1"
				}
			}
			want += len(events)
			if answers[i].code != code || answers[i].after != after {
				rt.Fatalf("request %d %v: %+v", i, events, answers[i])
			}
		}
		seen := map[string]bool{}
		for _, s := range p.payloads() {
			seen[s] = true
		}
		if n := len(p.payloads()); n != want || len(seen) != want {
			rt.Fatalf("%d messages, %d of them different, want %d", n, len(seen), want)
		}
	})
	idle(t, p.Source)
}

func TestWaitingRequestsShareABatch(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.MaxBatchMessages = 10 })
	var wg sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		wg.Go(func() { codes[i] = p.post(t, strings.NewReader("a\nb\nc"), nil).code })
	}
	for requests(p.Source) < int64(len(codes)) {
		runtime.Gosched() // until all requests have arrived
	}
	var sizes []int
	for total := 0; total < 24; {
		b, ack, err := p.Read(context.Background(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(b))
		total += len(b)
		o := make(event.Outcomes, len(b))
		o[len(b)-1] = errors.New("the last of each batch fails")
		if err := ack(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	refused := 0
	for _, c := range codes {
		if c == 503 {
			refused++
		}
	}
	if refused != len(sizes) {
		t.Errorf("%d requests answered 503 for %d batches with one failure each: %v", refused, len(sizes), codes)
	}
	for _, n := range sizes {
		if n > 10 || n%3 != 0 {
			t.Errorf("a batch of %d messages divides a request or exceeds the limit: %v", n, sizes)
		}
	}
	if len(sizes) == 8 {
		t.Errorf("no two requests shared a batch: %v", sizes)
	}
}

func BenchmarkRequest(b *testing.B) {
	p := start(b, nil).run(b, nil)
	body := strings.Repeat(strings.Repeat("x", 500)+"\n", 50)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if r := p.post(b, strings.NewReader(body), nil); r.code != 202 {
			b.Fatal(r)
		}
	}
}

// TestAnswerNamesWhatFailed: a client learns which of its events were not delivered.
func TestAnswerNamesWhatFailed(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.RequestBatchLimit = 1000 }).run(t, func(m *event.Message) error {
		if strings.HasPrefix(string(m.Data), "bad") {
			return errors.New("no")
		}
		return nil
	})
	for body, want := range map[string]string{
		"good\n\nbad\ngood\nbad":                "2 of 4 events were not delivered, by their number: 2, 4;",
		"bad":                                   "the events were not delivered:",
		"bad\nbad":                              "the events were not delivered:",
		"good\n" + strings.Repeat("bad\n", 100): "100 of 101 events were not delivered, by their number: 2, 3,",
	} {
		if r := p.post(t, strings.NewReader(body), nil); r.code != 503 || !strings.HasPrefix(r.text, want) || r.after != "1" || len(r.text) > 400 {
			t.Errorf("%+v, want %q", r, want)
		}
	}
}

// byName is h as a map: the tests of this package set no name twice.
func byName(h event.Headers) map[string]string {
	if h == nil {
		return nil
	}
	m := make(map[string]string, len(h))
	for i := range h {
		m[h[i].Name] = h[i].Text()
	}
	return m
}
