package httptarget

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is one request as the server got it.
type seen struct {
	method, path string
	header       http.Header
	body         string
}

// server records requests and answers each with answer, or 200.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	reqs []seen
}

func serve(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, body string)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(s.handler(answer))
	t.Cleanup(s.Close)
	return s
}

func (s *server) handler(answer func(http.ResponseWriter, *http.Request, string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.reqs = append(s.reqs, seen{r.Method, r.URL.RequestURI(), r.Header.Clone(), string(body)})
		s.mu.Unlock()
		if answer != nil {
			answer(w, r, string(body))
		}
	})
}

func (s *server) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.reqs...)
}

func (s *server) bodies() []string {
	var bs []string
	for _, r := range s.requests() {
		bs = append(bs, r.body)
	}
	return bs
}

func build(t testing.TB, url string, change func(*Config)) *Target {
	t.Helper()
	c := defaults()
	c.URL = url
	c.RequestTimeoutInMillis = 120_000 // more than any machine needs
	if change != nil {
		change(&c)
	}
	target, err := New(context.Background(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close(context.Background()) })
	return target
}

func messages(payloads ...string) event.Batch {
	var b event.Batch
	for _, p := range payloads {
		b = append(b, event.New([]byte(p)))
	}
	return b
}

func rules(rs ...Rule) func(*Config) {
	return func(c *Config) { c.ResponseRules = &ResponseRules{Rules: rs} }
}
