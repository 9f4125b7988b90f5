package gatewaysource

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// TestNoRoom: while there is no room for events, every request is told to come back, whoever
// reads it, and health says so; a connection goes on afterwards.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	s := build(t, nil)
	var full atomic.Bool
	s.RefuseWhile(func() error {
		if full.Load() {
			return errors.New("full")
		}
		return nil
	})
	p := opened(t, s)
	var events atomic.Int64
	p.run(t, func(b event.Batch) event.Outcomes { events.Add(int64(len(b))); return nil })
	for _, no := range []bool{false, true, false} {
		full.Store(no)
		before := events.Load()
		replies := []reply{
			p.raw(t, 1, rawPost("/v1/track", plainHead, track))[0],                  // express
			p.raw(t, 1, rawPost("/v1/track", plainHead+"Expect: \r\n", track))[0],   // net/http
			p.post(t, "/v1/batch", strings.NewReader(`{"batch":[`+track+`]}`), nil), // kept alive
		}
		for i, r := range replies {
			switch {
			case no && (r.code != http.StatusServiceUnavailable || r.head.Get("Retry-After") != "1"):
				t.Errorf("request %d without room: %d %v", i, r.code, r.head)
			case !no && r.code != http.StatusOK:
				t.Errorf("request %d: %d %q", i, r.code, r.text)
			}
		}
		if no != (events.Load() == before) {
			t.Errorf("%d events were read, no room: %t", events.Load()-before, no)
		}
		want := http.StatusOK
		if no {
			want = http.StatusServiceUnavailable
		}
		resp, err := p.client.Get("http://" + p.Addr().String() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("health: %s, want %d", resp.Status, want)
		}
	}
}

// TestAttended: an attended source answers also before it is open, between two openings and after
// them, until it is dismissed; then the address is free.
func TestAttended(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Address = addresstest.Free(t)
	s, err := New(t.Context(), connector.Deps{Pipeline: "p"}, c)
	if err != nil {
		t.Fatal(err)
	}
	p := &served{s, &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(p.client.CloseIdleConnections)
	code := func() int {
		t.Helper()
		resp, err := p.client.Post("http://KEY1:@"+c.Address+"/v1/track", "application/json", strings.NewReader(track))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		return resp.StatusCode
	}
	for range 2 {
		for range 2 {
			if err := s.Attend(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if n := code(); n != http.StatusServiceUnavailable {
				t.Errorf("closed: %d", n)
			}
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					b, ack, err := s.Read(ctx, connector.Room{})
					if err != nil {
						return
					}
					event.Track(b, func(o event.Outcomes) { _ = ack(ctx, o) })
					for _, m := range b {
						event.Settle(m, nil)
					}
				}
			}()
			if n := code(); n != http.StatusOK {
				t.Errorf("open: %d", n)
			}
			stop()
			<-ended
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Dismiss(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.client.CloseIdleConnections()
		if _, err := p.client.Get("http://" + c.Address + "/health"); err == nil {
			t.Error("somebody answers after the end")
		}
	}
}

// TestMalformedChunks: a body that is divided wrongly is the client's mistake, which sending it
// again would repeat.
func TestMalformedChunks(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.run(t, nil)
	for name, body := range map[string]string{
		"no length":       "\r\n{}\r\n0\r\n\r\n",
		"no number":       "xyz\r\n{}\r\n0\r\n\r\n",
		"no end of chunk": "2\r\n{}{}\r\n0\r\n\r\n",
		"far too long":    "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		"a bare line end": "2\n{}\r\n0\r\n\r\n",
		"a long line":     "2;" + strings.Repeat("x", 10000) + "\r\n{}\r\n0\r\n\r\n",
		"a bad trailer":   "2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
	} {
		r := s.raw(t, 1, "POST /v1/track HTTP/1.1\r\n"+plainHead+"Transfer-Encoding: chunked\r\n\r\n"+body)
		if r[0].code != http.StatusBadRequest {
			t.Errorf("%s: %d %q", name, r[0].code, r[0].text)
		}
	}
}
