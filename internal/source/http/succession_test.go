package httpsource

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// reader reads a source until stop, as a pipeline does.
type reader struct {
	s    *Source
	stop context.CancelFunc
	done chan struct{}
}

func read(s *Source, seen *atomic.Int64) *reader {
	ctx, stop := context.WithCancel(context.Background())
	r := &reader{s, stop, make(chan struct{})}
	go func() {
		defer close(r.done)
		for {
			b, ack, err := s.Read(ctx, connector.Room{})
			if err != nil {
				return
			}
			seen.Add(int64(len(b)))
			event.Track(b, func(o event.Outcomes) { _ = ack(ctx, o) })
			for _, m := range b {
				event.Settle(m, nil)
			}
		}
	}()
	return r
}

// While sources replace each other as reloads do, with clients that keep their connections
// busy, every request is answered 202 and its event is read once.
func TestSuccession(t *testing.T) {
	t.Parallel()
	address := addresstest.Free(t)
	open := func(change int) *Source {
		c := defaults()
		c.URL, c.RequestBatchLimit = address, 10+change
		if change%3 == 0 {
			c.MaxConnections = 500 // another server, on the same address
		}
		s, err := New(t.Context(), connector.Deps{Pipeline: "default"}, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	var seen, sent atomic.Int64
	now := read(open(1), &seen)
	var sources []*Source

	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			c := http.Client{Transport: tr}
			for ctx.Err() == nil {
				// Bodies can be sent again and have a key, so that the transport may repeat a
				// request that met a connection being closed, as it may by RFC 9110.
				req, _ := http.NewRequest(http.MethodPost, "http://"+address+"/", strings.NewReader("event"))
				req.Header.Set("Idempotency-Key", "x")
				r, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = r.Body.Close()
				if r.StatusCode != http.StatusAccepted {
					t.Errorf("answered %s", r.Status)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 20 {
		for target := sent.Load() + 20; sent.Load() < target && !t.Failed(); {
			runtime.Gosched()
		}
		next := open(i)
		now.stop() // the next one has not begun to read: what waits goes there
		<-now.done
		then := read(next, &seen)
		if err := now.s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		sources = append(sources, now.s)
		now = then
	}
	stop()
	clients.Wait()
	if seen.Load() < sent.Load() {
		t.Errorf("%d events were read, %d were accepted", seen.Load(), sent.Load())
	}
	for _, s := range sources {
		idle(t, s)
	}
	now.stop()
	<-now.done
	if err := now.s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A request that waits while its source stops goes to the source that comes after.
func TestWaitingRequestMovesOn(t *testing.T) {
	t.Parallel()
	old := start(t, nil)
	l := old.Addr().String()
	if err := old.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := func() *Source {
		c := defaults()
		c.URL = l
		s, err := New(t.Context(), connector.Deps{Pipeline: "default"}, c)
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open()
	answered := make(chan int, 1)
	go func() {
		r, err := http.Post("http://"+l, "text/plain", strings.NewReader("event"))
		if err != nil {
			t.Error(err)
			close(answered)
			return
		}
		_ = r.Body.Close()
		answered <- r.StatusCode
	}()
	for first.Stay().Hall.Waiting() == 0 {
		runtime.Gosched()
	}
	second := open()
	over, end := context.WithCancel(t.Context())
	end()
	if _, _, err := first.Read(over, connector.Room{}); !errors.Is(err, context.Canceled) { // which is how a pipeline stops reading
		t.Error(err)
	}
	b, ack, err := second.Read(t.Context(), connector.Room{})
	if err != nil || len(b) != 1 || string(b[0].Data) != "event" {
		t.Fatal(b, err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_ = ack(t.Context(), nil)
	if code := <-answered; code != http.StatusAccepted {
		t.Errorf("answered %d", code)
	}
	idle(t, first)
	http.DefaultClient.CloseIdleConnections()
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
