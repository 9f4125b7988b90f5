package frontdoor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host answers with its name.
type host struct {
	name    string
	refuses atomic.Bool
}

func (h *host) ServeHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, h.name) }
func (h *host) Accepting() bool                                  { return !h.refuses.Load() }

func settings() frontdoor.Settings {
	return frontdoor.Settings{ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 16, MaxConnections: 100}
}

// client asks over one connection, and counts how often it had to connect.
type client struct {
	http     http.Client
	connects atomic.Int32
}

func newClient(t *testing.T) *client {
	c := &client{}
	tr := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c.connects.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	c.http.Transport = tr
	t.Cleanup(tr.CloseIdleConnections)
	return c
}

func (c *client) ask(t *testing.T, address string) string {
	t.Helper()
	r, err := c.http.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r.StatusCode, " ", string(text))
}

// A successor takes over a connection that is open, and only once it has begun its work.
func TestSuccession(t *testing.T) {
	t.Parallel()
	at := frontdoor.Door{Address: addresstest.Free(t), Owner: "a", Settings: settings()}
	c := newClient(t)
	var before *frontdoor.Place
	var old *host
	for i := range 5 {
		h := &host{name: fmt.Sprint("host ", i)}
		p, err := frontdoor.Enter(t.Context(), at, h)
		if err != nil {
			t.Fatal(err)
		}
		if old != nil {
			if got := c.ask(t, at.Address); got != "200 "+old.name {
				t.Errorf("before %s leads: %s", h.name, got)
			}
			old.refuses.Store(true)
			if got := c.ask(t, at.Address); got != "200 "+h.name || before.Successor() != frontdoor.Host(h) {
				t.Errorf("after %s refuses: %s", old.name, got)
			}
			old.refuses.Store(false)
		}
		p.Lead()
		if got := c.ask(t, at.Address); got != "200 "+h.name {
			t.Errorf("when %s leads: %s", h.name, got)
		}
		if before != nil {
			if err := before.Leave(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := c.ask(t, at.Address); got != "200 "+h.name {
			t.Errorf("alone: %s", got)
		}
		before, old = p, h
	}
	if n := c.connects.Load(); n != 1 {
		t.Errorf("the client had to connect %d times", n)
	}
	if err := before.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", at.Address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the door is open after everybody left: %v", err)
	}
}

// A successor that gives up before it began its work changes nothing.
func TestSuccessorThatGivesUp(t *testing.T) {
	t.Parallel()
	at := frontdoor.Door{Address: addresstest.Free(t), Owner: "a", Settings: settings()}
	c := newClient(t)
	first, err := frontdoor.Enter(t.Context(), at, &host{name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Leave(context.Background())
	first.Lead()
	for _, other := range []frontdoor.Settings{settings(), {ReadHeaderTimeout: 2 * time.Minute, MaxConnections: 1}} {
		c.ask(t, at.Address)
		at := at
		at.Settings = other
		second, err := frontdoor.Enter(t.Context(), at, &host{name: "second"})
		if err != nil {
			t.Fatal(err)
		}
		// A new connection may be the other server's, and is the first host's all the same.
		if got := newClient(t).ask(t, at.Address); got != "200 first" {
			t.Error(got)
		}
		if err := second.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.ask(t, at.Address); got != "200 first" || c.connects.Load() != 1 {
			t.Errorf("%s, %d connections", got, c.connects.Load())
		}
	}
}

// A successor with other settings has a server of its own, on the same address.
func TestOtherSettings(t *testing.T) {
	t.Parallel()
	at := frontdoor.Door{Address: addresstest.Free(t), Owner: "a", Settings: settings()}
	first, err := frontdoor.Enter(t.Context(), at, &host{name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	c.ask(t, at.Address)
	at.MaxConnections = 5
	second, err := frontdoor.Enter(t.Context(), at, &host{name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	second.Lead()
	for _, c := range []*client{c, newClient(t)} {
		if got := c.ask(t, at.Address); got != "200 second" {
			t.Error(got)
		}
	}
	if err := first.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if got := newClient(t).ask(t, at.Address); got != "200 second" {
		t.Error(got)
	}
	if err := second.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOneOwner(t *testing.T) {
	t.Parallel()
	at := frontdoor.Door{Address: addresstest.Free(t), Owner: `pipeline "a"`, Settings: settings()}
	p, err := frontdoor.Enter(t.Context(), at, &host{})
	if err != nil {
		t.Fatal(err)
	}
	at.Owner = `pipeline "b"`
	_, err = frontdoor.Enter(t.Context(), at, &host{})
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), `pipeline "a" of this process listens there already`) {
		t.Error(err)
	}
	at.Owner = ""
	if _, err = frontdoor.Enter(t.Context(), at, &host{}); fault.Of(err) != fault.Setup || !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if err := p.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
