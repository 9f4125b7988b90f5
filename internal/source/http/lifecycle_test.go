package httpsource

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestCloseAnswersEveryWaitingRequest(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	var wg sync.WaitGroup
	answers := make([]reply, 4)
	post := func(i int) { wg.Go(func() { answers[i] = p.post(t, strings.NewReader("1"), nil) }) }
	post(0)
	_, ack, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	post(1)
	_, ack2, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	post(2)
	post(3)
	for requests(p.Source) < 4 {
		runtime.Gosched()
	}
	_ = ack(context.Background(), nil)
	for range 2 {
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if answers[0].code != 202 {
		t.Errorf("settled request: %+v", answers[0])
	}
	for i, r := range answers[1:] {
		if r.code != 503 || r.after != "1" {
			t.Errorf("request %d: %+v", i+1, r)
		}
	}
	// The batch that was still open may be settled afterwards.
	if err := ack2(context.Background(), nil); err != nil {
		t.Error(err)
	}
	idle(t, p.Source)
	if _, _, err := p.Read(context.Background(), connector.Room{}); err != io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
}

func TestStoppedReaderTurnsRequestsAway(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var first, second reply
	wg.Go(func() { first = p.post(t, strings.NewReader("1"), nil) })
	_, ack, err := p.Read(ctx, connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, _, err := p.Read(ctx, connector.Room{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Read: %v", err)
	}
	second = p.post(t, strings.NewReader("2"), nil)
	if second.code != 503 || !strings.Contains(second.text, "stopping") {
		t.Errorf("a request while nobody reads: %+v", second)
	}
	// What was read before is still worked on, and gets its own answer.
	_ = ack(context.Background(), nil)
	wg.Wait()
	if first.code != 202 {
		t.Errorf("the request that was read: %+v", first)
	}
	p.run(t, nil)
	for !p.Stay().Accepting() {
		runtime.Gosched()
	}
	if r := p.post(t, strings.NewReader("3"), nil); r.code != 202 {
		t.Errorf("after reading went on: %+v", r)
	}
}

func TestClientThatGoesAway(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	post := func(body string) context.CancelFunc {
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
		go func() {
			if resp, err := p.client.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		return cancel
	}
	// Gone before its events were read: they never are.
	cancel := post("before")
	for requests(p.Source) != 1 {
		runtime.Gosched()
	}
	cancel()
	for requests(p.Source) != 0 {
		runtime.Gosched()
	}
	// Gone after: they stay in the pipeline, and the ack has nobody to answer.
	cancel = post("after")
	b, ack, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if string(b[0].Data) != "after" {
		t.Errorf("read %q", b[0].Data)
	}
	cancel()
	if n := requests(p.Source); n != 1 {
		t.Errorf("%d requests in flight", n)
	}
	if err := ack(context.Background(), event.Outcomes{errors.New("x")}); err != nil {
		t.Error(err)
	}
	idle(t, p.Source)
}

func TestLimitsOnWhatIsInFlight(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) {
		c.MaxInFlightRequests, c.MaxBodyBytes, c.MaxInFlightBytes, c.RetryAfterSeconds = 2, 1000, 1500, 9
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if r := p.post(t, strings.NewReader(strings.Repeat("x", 1000)), nil); r.code != 202 {
			t.Errorf("first: %+v", r)
		}
	})
	_, ack, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.post(t, strings.NewReader(strings.Repeat("x", 900)), nil); r.code != 503 || r.after != "9" || !strings.Contains(r.text, "in flight") {
		t.Errorf("too many bytes: %+v", r)
	}
	wg.Go(func() {
		if r := p.post(t, strings.NewReader("x"), nil); r.code != 202 {
			t.Errorf("second: %+v", r)
		}
	})
	_, ack2, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.post(t, strings.NewReader("x"), nil); r.code != 503 {
		t.Errorf("too many requests: %+v", r)
	}
	_, _ = ack(context.Background(), nil), ack2(context.Background(), nil)
	wg.Wait()
	idle(t, p.Source)
}

func TestResponseTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		c.URL = "127.0.0.1:0"
		s, err := New(context.Background(), connector.Deps{}, c)
		if err != nil {
			t.Fatal(err)
		}
		post := func() (*httptest.ResponseRecorder, time.Duration) {
			w, began := httptest.NewRecorder(), time.Now()
			(&session{s, s.Stay()}).handle(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("1")))
			return w, time.Since(began)
		}
		// Nobody reads: the events are given up with the answer.
		if w, d := post(); w.Code != 503 || d.Round(time.Second) != 30*time.Second || w.Header().Get("Retry-After") != "1" {
			t.Errorf("unread: %d after %v", w.Code, d)
		}
		idle(t, s)
		// Somebody read and is slow: the events stay in flight.
		var ack connector.Ack
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, ack, _ = s.Read(context.Background(), connector.Room{})
		}()
		if w, d := post(); w.Code != 503 || d.Round(time.Second) != 30*time.Second {
			t.Errorf("unsettled: %d after %v", w.Code, d)
		}
		if n := requests(s); n != 1 {
			t.Errorf("%d requests in flight", n)
		}
		<-read
		_ = ack(context.Background(), nil)
		idle(t, s)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.ReadTimeoutMillis = 50 })
	// A body that is refused unread must not hold its connection either.
	for method, code := range map[string]string{"POST": "408", "PUT": "405"} {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		_, _ = io.WriteString(conn, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+code+" ") {
			t.Errorf("%s: %s, %v", method, answer, err)
		}
	}
	idle(t, p.Source)
}

func TestReadTimeoutDoesNotEndTheWait(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.ReadTimeoutMillis = 1000 })
	done := make(chan reply, 1)
	go func() { done <- p.post(t, strings.NewReader("1"), nil) }()
	_, ack, err := p.Read(context.Background(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-done:
		t.Fatalf("answered before the events were settled: %+v", r)
	case <-time.After(1500 * time.Millisecond):
	}
	_ = ack(context.Background(), nil)
	if r := <-done; r.code != 202 {
		t.Errorf("answer: %+v", r)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	c := defaults()
	c.URL = p.Addr().String()
	s, err := New(context.Background(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(context.Background()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "listen on "+c.URL) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close without Open: %v", err)
	}
	if err := p.Open(context.Background()); err == nil {
		t.Error("Open twice")
	}
}

// TestAbandonedWork: what nobody settles any more takes no room from a source that is opened
// again, and a late ack gives nothing back twice.
func TestAbandonedWork(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) {
		c.MaxInFlightRequests, c.MaxBodyBytes, c.MaxLineBytes, c.MaxInFlightBytes = 2, 50, 50, 100
	})
	for n := range 5 {
		var wg sync.WaitGroup
		url := "http://" + p.Addr().String() + "/"
		for range 2 {
			wg.Go(func() {
				r, err := p.client.Post(url, "text/plain", strings.NewReader("1"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = r.Body.Close()
				if r.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("opening %d: %s", n, r.Status)
				}
			})
		}
		var acks []connector.Ack
		for got := 0; got < 2; {
			b, ack, err := p.Read(t.Context(), connector.Room{})
			if err != nil {
				t.Fatal(err)
			}
			got, acks = got+len(b), append(acks, ack)
		}
		if err := p.Source.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := p.Open(t.Context()); err != nil {
			t.Fatalf("opening %d: %v", n+1, err)
		}
		if n%2 == 0 {
			for _, ack := range acks {
				_ = ack(t.Context(), nil)
			}
		}
		idle(t, p.Source)
	}
}
