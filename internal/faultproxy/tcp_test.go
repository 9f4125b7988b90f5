package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/faultproxy"
)

const patience = 2 * time.Minute

// echo is a server that answers each line with the same in capitals, and says good-bye when
// the client has no more.
func echo(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					_, _ = io.WriteString(c, strings.ToUpper(lines.Text())+"\n")
				}
				_, _ = io.WriteString(c, "good-bye\n")
			}()
		}
	}()
	return l.Addr().String()
}

type client struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := tryDial(t, address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t *testing.T, address string) (*client, error) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, bufio.NewReader(c)}, nil
}

func (c *client) say(text string) { _, _ = io.WriteString(c, text+"\n") }

func (c *client) hear(wait time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(wait))
	line, err := c.in.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func (c *client) wants(t *testing.T, want string) {
	t.Helper()
	if got, err := c.hear(patience); err != nil || got != want {
		t.Errorf("heard %q, %v, want %q", got, err, want)
	}
}

func (c *client) silent(t *testing.T) {
	t.Helper()
	if got, err := c.hear(20 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %q, %v, want nothing", got, err)
	}
}

func (c *client) ended(t *testing.T) {
	t.Helper()
	if got, err := c.hear(patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %q, %v, want the end", got, err)
	}
}

func TestTCP(t *testing.T) {
	t.Parallel()
	p := faultproxy.NewTCP(t, echo(t))
	c := dial(t, p.Address)
	c.say("a")
	c.wants(t, "A")

	p.Freeze()
	c.say("b")
	c.silent(t)
	late := dial(t, p.Address)
	late.say("x")
	late.silent(t)
	p.Thaw()
	c.wants(t, "B")
	late.wants(t, "X")

	p.FreezeTo(faultproxy.ToClient)
	before := p.Passed(faultproxy.ToServer)
	c.say("c")
	c.silent(t)
	for p.Passed(faultproxy.ToServer) == before {
		time.Sleep(time.Millisecond)
	}
	p.Cut() // while it is frozen
	c.ended(t)
	p.Thaw()

	p.Refuse()
	// It is reset while it is made, or at once after it.
	if d, err := tryDial(t, p.Address); err == nil {
		d.say("d")
		d.ended(t)
	}
	p.Accept()
	d := dial(t, p.Address)
	d.say("d")
	d.wants(t, "D")

	p.CutAfter(faultproxy.ToClient, 2)
	d.say("efg")
	if got, err := d.hear(patience); got != "EF" && err == nil { // a reset may overtake what was sent
		t.Errorf("heard %q, %v", got, err)
	}
	if p.Opened() != 3 {
		t.Errorf("%d connections were opened", p.Opened())
	}
	for p.Open() != 0 {
		time.Sleep(time.Millisecond)
	}
	e := dial(t, p.Address)
	e.say("h")
	e.wants(t, "H")
	p.HalfClose(faultproxy.ToServer)
	e.wants(t, "good-bye")
	e.ended(t)
}

func TestTCPTime(t *testing.T) {
	t.Parallel()
	p := faultproxy.NewTCP(t, "")
	p.To(echo(t))
	c := dial(t, p.Address)
	p.Delay(50 * time.Millisecond)
	from := time.Now()
	c.say("a")
	c.wants(t, "A")
	if d := time.Since(from); d < 100*time.Millisecond {
		t.Errorf("there and back took %s", d)
	}
	p.Delay(0)
	p.IdleClose(30 * time.Millisecond)
	c.ended(t)
	p.IdleClose(0)
	d := dial(t, p.Address)
	d.silent(t)
	d.say("b")
	d.wants(t, "B")
}
