package frontdoor_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/frontdoor"
)

// lines is an express that answers lines of text with the name of the host, panics at
// "panic", and leaves what begins with a verb to net/http.
type lines struct{}

func (lines) Serve(l *frontdoor.Line) (rest []byte, on bool) {
	buf := make([]byte, 1000)
	for {
		l.Busy(false)
		if l.Closing() {
			return nil, false
		}
		if l.Moved() {
			return nil, true
		}
		n, err := l.Read(buf)
		if err != nil {
			return nil, l.Moved()
		}
		l.Busy(true)
		text := string(buf[:n])
		h, ok := l.Host(nil, nil).(*host)
		switch {
		case strings.HasPrefix(text, "GET "):
			return buf[:n], true
		case text == "panic\n":
			panic("asked for")
		case !ok:
			return nil, false
		}
		if _, err := io.WriteString(l, h.name+"\n"); err != nil {
			return nil, false
		}
	}
}

type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, address string) *talk {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &talk{t, conn, bufio.NewReader(conn)}
}

func (k *talk) say(text string) (string, error) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, text+"\n"); err != nil {
		return "", err
	}
	answer, err := k.in.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// TestExpress: its connections are served by the host that leads, go to net/http with what was
// read, end alone by a panic, and go on when a successor has other settings.
func TestExpress(t *testing.T) {
	t.Parallel()
	at := frontdoor.Door{Address: addresstest.Free(t), Owner: "a", Settings: settings()}
	at.Express = lines{}
	first, err := frontdoor.Enter(t.Context(), at, &host{name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	first.Lead()
	stays, panics, asks := dial(t, at.Address), dial(t, at.Address), dial(t, at.Address)
	for _, k := range []*talk{stays, panics, asks} {
		if got, err := k.say("x"); got != "first" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got, err := panics.say("panic"); err == nil {
		t.Errorf("a panic was answered %q", got)
	}
	if _, err := io.WriteString(asks.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := http.ReadResponse(asks.in, nil); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", r, err)
	}
	before := first
	for _, name := range []string{"second", "third"} {
		at.MaxConnections++ // another server
		next, err := frontdoor.Enter(t.Context(), at, &host{name: name})
		if err != nil {
			t.Fatal(err)
		}
		next.Lead()
		if err := before.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		if got, err := stays.say("x"); got != name || err != nil {
			t.Errorf("%q, %v: want %s", got, err, name)
		}
		before = next
	}
	if err := before.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := stays.say("x"); err == nil {
		t.Errorf("after everybody left: %q", got)
	}
}
