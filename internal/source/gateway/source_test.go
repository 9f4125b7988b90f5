package gatewaysource

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestMain(m *testing.M) {
	if os.Getenv(loadAddress) != "" {
		if err := load(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A client that gave up leaves its dial to end by itself.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*Transport).dialConnFor"))
}

const workspaceText = `{"workspaceId":"ws1","sources":[{"id":"src1","name":"http","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP","type":"cloud"},"destinations":[]}]}`

func config(t testing.TB) Config {
	t.Helper()
	c := defaults()
	c.Address = "127.0.0.1:0"
	c.WorkspaceConfig = filepath.Join(t.TempDir(), "workspaceConfig.json")
	if err := os.WriteFile(c.WorkspaceConfig, []byte(workspaceText), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func build(t testing.TB, change func(*Config)) *Source {
	t.Helper()
	c := config(t)
	if change != nil {
		change(&c)
	}
	s, err := New(context.Background(), connector.Deps{Version: "test"}, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// served is an open source with a client.
type served struct {
	*Source
	client *http.Client
}

func start(t testing.TB, change func(*Config)) *served {
	t.Helper()
	return opened(t, build(t, change))
}

func opened(t testing.TB, source *Source) *served {
	t.Helper()
	s := &served{source, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

type reply struct {
	code int
	text string
	head http.Header
}

func (s *served) post(t testing.TB, path string, body io.Reader, header http.Header) reply {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+s.Addr().String()+path, body)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	r.SetBasicAuth("KEY1", "")
	maps.Copy(r.Header, header)
	resp, err := s.client.Do(r)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return reply{resp.StatusCode, string(text), resp.Header}
}

// run reads until the test ends, and settles each batch with what outcome says.
func (s *served) run(t testing.TB, outcome func(event.Batch) event.Outcomes) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b, ack, err := s.Read(ctx, connector.Room{})
			if err != nil {
				return
			}
			var o event.Outcomes
			if outcome != nil {
				o = outcome(b)
			}
			if err := ack(context.Background(), o); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// empty fails t unless nothing is held any more.
func (s *served) empty(t testing.TB) {
	t.Helper()
	var requests, bytes int64
	for range 1_000_000 {
		if requests, bytes = s.Stay().Budget.Used(); requests == 0 && bytes == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("left: %d requests, %d bytes", requests, bytes)
}

func TestConformance(t *testing.T) {
	conntest.Source(t, conntest.SourceCase{
		Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
			return func() connector.Source { return &fed{Source: build(t, nil), payloads: payloads} }
		},
		Features: conntest.SourceFeatures{Acknowledges: true, Requests: true, Binary: true, Empty: true},
	})
}

// fed is a source to which clients send payloads once it is open. A payload travels as
// the userId of an event, since a gateway takes events only; what is read is the userId.
type fed struct {
	*Source
	payloads [][]byte
	clients  sync.WaitGroup
	stop     context.CancelFunc
}

func (f *fed) Open(ctx context.Context) error {
	if err := f.Source.Open(ctx); err != nil {
		return err
	}
	var sending context.Context
	sending, f.stop = context.WithCancel(context.Background())
	transport := &http.Transport{DisableKeepAlives: true}
	for start := 0; start < len(f.payloads); start += 1000 {
		var body bytes.Buffer
		body.WriteString(`{"batch":[`)
		part := f.payloads[start:min(start+1000, len(f.payloads))]
		for i, p := range part {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"type":"track","userId":"u","payload":"%x"}`, p)
		}
		body.WriteString(`]}`)
		f.clients.Go(func() {
			r, err := http.NewRequestWithContext(sending, http.MethodPost, "http://"+f.Addr().String()+"/v1/batch", &body)
			if err != nil {
				return
			}
			r.SetBasicAuth("KEY1", "")
			if resp, err := transport.RoundTrip(r); err == nil {
				resp.Body.Close()
			}
		})
	}
	return nil
}

func (f *fed) Close(ctx context.Context) error {
	if f.stop != nil {
		f.stop()
	}
	err := f.Source.Close(ctx)
	f.clients.Wait()
	return err
}

func (f *fed) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b, ack, err := f.Source.Read(ctx, room)
	for i, m := range b {
		_, hex, _ := strings.Cut(string(m.Data), `"payload":"`)
		hex, _, _ = strings.Cut(hex, `"`)
		data := []byte{}
		_, _ = fmt.Sscanf(hex, "%x", &data)
		at := event.NewBatch(m.Times.Read, [][]byte{data})
		b[i] = at[0]
	}
	return b, ack, err
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }

const track = `{"userId":"u","event":"e"}`

func TestAnswersAfterSettling(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var wg sync.WaitGroup
	var got reply
	wg.Go(func() { got = s.post(t, "/v1/track", strings.NewReader(track), nil) })
	b, ack, err := s.Read(context.Background(), connector.Room{})
	if err != nil || len(b) != 1 {
		t.Fatalf("%d messages, %v", len(b), err)
	}
	if requests, bytes := s.Stay().Budget.Used(); requests != 1 || bytes != int64(b.Bytes()) {
		t.Errorf("%d requests wait with %d bytes", requests, bytes)
	}
	_ = ack(context.Background(), nil)
	wg.Wait()
	if got.code != 200 || got.text != "ok" {
		t.Errorf("%+v", got)
	}
	s.empty(t)
}

func TestFailedEventsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.run(t, func(b event.Batch) event.Outcomes {
		o := make(event.Outcomes, len(b))
		for i, m := range b {
			if strings.Contains(string(m.Data), `"userId":"bad"`) {
				o[i] = errors.New("secret detail")
			}
		}
		return o
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			body, code := `{"batch":[`+track+`,`+track+`]}`, 200
			if i%3 == 0 {
				body, code = `{"batch":[`+track+`,{"userId":"bad"}]}`, 503
			}
			r := s.post(t, "/v1/batch", strings.NewReader(body), nil)
			if r.code != code || (code == 503 && (r.text != "service unavailable\n" || r.head.Get("Retry-After") != "1")) {
				t.Errorf("request %d: %+v", i, r)
			}
		})
	}
	wg.Wait()
	s.empty(t)
}

// TestRequestsShareABatch: what waits is taken together, up to the limit.
func TestRequestsShareABatch(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.MaxBatchMessages = 5 })
	var wg sync.WaitGroup
	for range 7 {
		wg.Go(func() {
			if r := s.post(t, "/v1/batch", strings.NewReader(`{"batch":[`+track+`,`+track+`]}`), nil); r.code != 200 {
				t.Errorf("%+v", r)
			}
		})
	}
	for s.Stay().Hall.Waiting() < 7 {
		runtime.Gosched()
	}
	var sizes []int
	for total := 0; total < 14; {
		b, ack, err := s.Read(context.Background(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(b))
		total += len(b)
		_ = ack(context.Background(), nil)
	}
	wg.Wait()
	if fmt.Sprint(sizes) != "[4 4 4 2]" {
		t.Errorf("batches of %v", sizes)
	}
}

func packed(t *testing.T, text string) *bytes.Buffer {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	s := start(t, func(c *Config) { c.MaxBodyBytes = limit })
	s.run(t, nil)
	zip := http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/x-www-form-urlencoded"}}
	fit := func(n int) string {
		return `{"userId":"u","x":"` + strings.Repeat("x", n-len(`{"userId":"u","x":""}`)) + `"}`
	}
	unknown := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) } // no length
	for _, row := range []struct {
		name   string
		body   io.Reader
		header http.Header
		code   int
		text   string
	}{
		{"gzip and a wrong type", packed(t, track), zip, 200, "ok"},
		{"no length", unknown(track), nil, 200, "ok"},
		{"text/plain", strings.NewReader(track), http.Header{"Content-Type": {"text/plain"}}, 200, "ok"},
		{"as large as may be", strings.NewReader(fit(limit)), nil, 200, "ok"},
		{"as large as may be, gzip", packed(t, fit(limit)), zip, 200, "ok"},
		{"too large", strings.NewReader(fit(limit + 1)), nil, 413, "request size exceeds max limit\n"},
		{"too large, no length", unknown(fit(limit + 1)), nil, 413, "request size exceeds max limit\n"},
		{"too large, gzip", packed(t, fit(limit+1)), zip, 413, "request size exceeds max limit\n"},
		{"bomb", packed(t, strings.Repeat(" ", 5_000_000)), zip, 413, "request size exceeds max limit\n"},
		{"not gzip", strings.NewReader(track), zip, 400, "failed to read body from request\n"},
		{"torn gzip", io.LimitReader(packed(t, track), 30), zip, 400, "failed to read body from request\n"},
		{"empty", strings.NewReader(""), nil, 400, "invalid json\n"},
	} {
		if r := s.post(t, "/v1/track", row.body, row.header); r.code != row.code || r.text != row.text {
			t.Errorf("%s: %d %q", row.name, r.code, r.text)
		}
	}
	s.empty(t)
}

// TestEachRequestHasOneAnswer: many clients, events of random number, nothing lost or doubled.
func TestEachRequestHasOneAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var events atomic.Int64
	s.run(t, func(b event.Batch) event.Outcomes { events.Add(int64(len(b))); return nil })
	var wg sync.WaitGroup
	var sent atomic.Int64
	for i := range 32 {
		wg.Go(func() {
			for j := range 20 {
				n := 1 + (i*7+j)%5
				r := s.post(t, "/v1/batch", strings.NewReader(`{"batch":[`+strings.Repeat(track+",", n-1)+track+`]}`), nil)
				if r.code != 200 || r.text != "ok" {
					t.Errorf("%+v", r)
				}
				sent.Add(int64(n))
			}
		})
	}
	wg.Wait()
	if events.Load() != sent.Load() {
		t.Errorf("%d events were read, %d sent", events.Load(), sent.Load())
	}
	s.empty(t)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.MaxInFlightRequests, c.RateLimitEvents = 2, 5 })
	var wg sync.WaitGroup
	answers := make(chan int, 3)
	for range 2 {
		wg.Go(func() { answers <- s.post(t, "/v1/track", strings.NewReader(track), nil).code })
	}
	for s.Stay().Hall.Waiting() < 2 {
		runtime.Gosched()
	}
	if r := s.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 503 {
		t.Errorf("a third request: %+v", r)
	}
	s.run(t, nil)
	wg.Wait()
	if a, b := <-answers, <-answers; a != 200 || b != 200 {
		t.Errorf("the first two: %d and %d", a, b)
	}
	if r := s.post(t, "/v1/batch", strings.NewReader(`{"batch":[`+track+`,`+track+`,`+track+`,`+track+`]}`), nil); r.code != 429 || r.text != "max requests limit reached\n" {
		t.Errorf("more events than the limit: %+v", r)
	}
	if r := s.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 200 {
		t.Errorf("an event that fits: %+v", r)
	}
	s.empty(t)
}

func TestStoppedReaderTurnsRequestsAway(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var first reply
	wg.Go(func() { first = s.post(t, "/v1/track", strings.NewReader(track), nil) })
	_, ack, err := s.Read(ctx, connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, _, err := s.Read(ctx, connector.Room{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Read: %v", err)
	}
	if r := s.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 503 {
		t.Errorf("a request while nobody reads: %+v", r)
	}
	if resp, err := s.client.Get("http://" + s.Addr().String() + "/health"); err != nil || resp.StatusCode != 503 {
		t.Errorf("health: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	_ = ack(context.Background(), nil)
	wg.Wait()
	if first.code != 200 {
		t.Errorf("the request that was read: %+v", first)
	}
	s.run(t, nil)
	for !s.Stay().Hall.Open() {
		runtime.Gosched()
	}
	if r := s.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 200 {
		t.Errorf("after reading went on: %+v", r)
	}
}

func TestCloseAnswersEveryWaitingRequest(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var wg sync.WaitGroup
	codes := make(chan int, 3)
	send := func() { wg.Go(func() { codes <- s.post(t, "/v1/track", strings.NewReader(track), nil).code }) }
	send()
	_, ack, err := s.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	send()
	send()
	for s.Stay().Hall.Waiting() < 2 {
		runtime.Gosched()
	}
	for range 2 {
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for range 3 {
		if code := <-codes; code != 503 {
			t.Errorf("answered %d", code)
		}
	}
	if err := ack(context.Background(), nil); err != nil { // what was open may be settled afterwards
		t.Error(err)
	}
	s.empty(t)
	if _, _, err := s.Read(context.Background(), connector.Room{}); err != io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	l := newLimiter(rate{100, 100, time.Minute}, nil)
	allow := func(l *limiter, workspace string, n int, now time.Time) bool { return l.take(workspace, n, now) == 0 }
	if !allow(l, "a", 100, now) || allow(l, "a", 1, now) || !allow(l, "b", 1, now) {
		t.Error("a window's worth at once, and no more")
	}
	if allow(l, "a", 2, now.Add(600*time.Millisecond)) || !allow(l, "a", 1, now.Add(600*time.Millisecond)) {
		t.Error("one event every 600 ms")
	}
	if !allow(l, "c", 1000, now) || allow(l, "c", 1, now.Add(time.Minute)) {
		t.Error("a request larger than the limit passes alone")
	}
	if n := newLimiter(rate{}, nil); !allow(n, "a", 1<<30, now) {
		t.Error("no limit")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"workspace_config":    func(c *Config) { c.WorkspaceConfig = "" },
		"address":             func(c *Config) { c.Address = "http://x:1" },
		"max_body_bytes":      func(c *Config) { c.MaxBodyBytes = 0 },
		"max_in_flight_bytes": func(c *Config) { c.MaxInFlightBytes = c.MaxBodyBytes },
		"rate_limit_events":   func(c *Config) { c.RateLimitEvents = -1 },
		"allowed_origins":     func(c *Config) { c.AllowedOrigins = []string{"shop.example"} },
		"workspace_rate_limit": func(c *Config) {
			c.WorkspaceRateLimits = []*WorkspaceRateLimit{{Workspace: "a", Events: 1}, {Workspace: "a", Events: 2}}
		},
		"rate_limit_burst_events":    func(c *Config) { c.RateLimitBurstEvents = -1 },
		"internal_rate_limit_events": func(c *Config) { c.InternalRateLimitEvents = -1 },
		"cert_file":                  func(c *Config) { c.CertFile = "x" },
		"ca_file":                    func(c *Config) { c.CAFile = "x" },
	} {
		c := defaults()
		c.WorkspaceConfig = "x"
		if ps := c.Validate(); len(ps) != 0 {
			t.Fatalf("the defaults: %v", ps)
		}
		change(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != want || ps[0].What == "" || ps[0].Fix == "" {
			t.Errorf("%s: %+v", want, ps)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := build(t, func(c *Config) { c.Address = taken.Addr().String() })
	if err := s.Open(context.Background()); fault.Of(err) != fault.Setup {
		t.Errorf("an address in use: %v", err)
	}
}

// TestDefaults are the limits that RudderStack's documents and server name.
func TestDefaults(t *testing.T) {
	t.Parallel()
	got := defaults()
	if got.Address != "0.0.0.0:8080" || got.MaxBodyBytes != 4000*1024 || got.MaxHeaderBytes != 524288 || got.IdleTimeoutMillis != 720_000 ||
		got.ResponseTimeoutMillis != 10_000 || got.RateLimitEvents != 0 || got.RateLimitWindowSeconds != 60 || got.AllowEventsWithoutIDs {
		t.Errorf("%+v", got)
	}
}
