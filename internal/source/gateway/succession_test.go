package gatewaysource

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
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

func (r *reader) close(t *testing.T) {
	r.stop()
	<-r.done
	if err := r.s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// repeat sends a request over one connection until ctx ends; every answer must be ok, and none
// may be missing.
func repeat(ctx context.Context, t *testing.T, at, request string, sent *atomic.Int64) {
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if _, err := io.WriteString(conn, request); err != nil {
			t.Error(err)
			return
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Error(err)
			return
		}
		text, err := io.ReadAll(r.Body)
		if r.StatusCode != http.StatusOK || string(text) != "ok" || err != nil {
			t.Errorf("answered %s %q, %v", r.Status, text, err)
			return
		}
		sent.Add(1)
	}
}

// TestSuccession: while sources replace each other as reloads do, clients keep their
// connections, whoever serves them, and every event of a request answered ok was read once.
func TestSuccession(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	open := func(change int) *Source {
		c := config(t)
		c.Address, c.MaxRequestEvents = at, 10+change
		s, err := New(t.Context(), connector.Deps{Pipeline: "default"}, c)
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var seen, sent atomic.Int64
	now := read(open(1), &seen)
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	large := `{"userId":"u","x":"` + strings.Repeat("x", 50_000) + `"}`
	odd := plainHead + "Origin: https://shop.example\r\nTE: trailers\r\n" // for net/http
	for _, request := range []string{
		rawPost("/v1/track", plainHead, track), rawPost("/v1/track", plainHead, large),
		rawPost("/v1/track", odd, track), rawPost("/v1/track", odd, large),
	} {
		clients.Go(func() { repeat(ctx, t, at, request, &sent) })
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
		(&served{Source: now.s}).empty(t)
		now = then
	}
	stop()
	clients.Wait()
	now.close(t)
	if seen.Load() != sent.Load() {
		t.Errorf("%d events were read, %d were accepted", seen.Load(), sent.Load())
	}
}

// TestConnectionsMove: when the successors have other settings too, connections go to their
// servers, with the requests that are on the way.
func TestConnectionsMove(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	open := func(change int) *Source {
		c := config(t)
		c.Address, c.MaxConnections = at, 100+change
		s, err := New(t.Context(), connector.Deps{Pipeline: "default"}, c)
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var seen, sent atomic.Int64
	now := read(open(0), &seen)
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { repeat(ctx, t, at, rawPost("/v1/track", plainHead, track), &sent) })
	}
	for i := range 30 {
		for target := sent.Load() + 20; sent.Load() < target && !t.Failed(); {
			runtime.Gosched()
		}
		next := open(1 + i)
		now.stop()
		<-now.done
		then := read(next, &seen)
		if err := now.s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		now = then
	}
	stop()
	clients.Wait()
	now.close(t)
	if seen.Load() != sent.Load() {
		t.Errorf("%d events were read, %d were accepted", seen.Load(), sent.Load())
	}
}

// TestOtherSettings: a successor whose connections have other limits serves on the same address.
func TestOtherSettings(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	open := func(connections int) *served {
		c := config(t)
		c.Address, c.MaxConnections = at, connections
		s, err := New(t.Context(), connector.Deps{Pipeline: "default"}, c)
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return &served{Source: s, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	}
	var seen atomic.Int64
	first := open(5)
	before := read(first.Source, &seen)
	if r := first.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 200 {
		t.Errorf("%+v", r)
	}
	second := open(6)
	after := read(second.Source, &seen)
	if r := second.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 200 {
		t.Errorf("%+v", r)
	}
	before.close(t)
	for i := range 8 { // more than may be open at once
		if r := second.post(t, "/v1/track", strings.NewReader(track), nil); r.code != 200 {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	after.close(t)
	if n := seen.Load(); n != 10 {
		t.Errorf("%d events were read", n)
	}
}

// TestAddressOfAnotherPipeline: it is refused, and says whose it is.
func TestAddressOfAnotherPipeline(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	build := func(pipeline string) *Source {
		c := config(t)
		c.Address = at
		s, err := New(t.Context(), connector.Deps{Pipeline: pipeline}, c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := build("a"), build("b")
	if err := a.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Open(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("listen on %s: pipeline %q of this process", at, "a")) {
		t.Error(err)
	}
	for _, s := range []*Source{a, b} {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
