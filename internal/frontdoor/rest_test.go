package frontdoor_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/frontdoor"
)

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

// refuses answers 413 without a look at the body, after some of it was read.
type refuses struct {
	reads int64
	seen  atomic.Int32
}

func (*refuses) Accepting() bool { return true }
func (h *refuses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.seen.Add(1)
	_, _ = io.CopyN(io.Discard, r.Body, h.reads)
	http.Error(w, "too large", http.StatusRequestEntityTooLarge)
}

// TestEarlyAnswer: a client that sends all of its body before it reads gets the answer that came
// before; what it sent is never taken for another request.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	const smuggled = "\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, row := range map[string]struct {
		size    int
		reads   int64
		chunked bool
		head    string
	}{
		"small":                  {size: 10},
		"what net/http reads":    {size: 256 << 10},
		"longer":                 {size: 256<<10 + 1},
		"large":                  {size: 20 << 20},
		"large, begun":           {size: 20 << 20, reads: 1 << 20},
		"large, read":            {size: 5 << 20, reads: 5<<20 + 1},
		"chunks":                 {size: 20 << 20, chunked: true},
		"chunks, begun":          {size: 20 << 20, reads: 1 << 20, chunked: true},
		"begun after a question": {size: 20 << 20, reads: 1, head: "Expect: 100-continue\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &refuses{reads: row.reads}
			p, err := frontdoor.Enter(t.Context(), frontdoor.Door{Address: "127.0.0.1:0", Settings: settings()}, h)
			if err != nil {
				t.Fatal(err)
			}
			p.Lead()
			defer func() {
				if err := p.Leave(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			conn, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			head, body := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n", row.head, row.size), strings.Repeat("x", row.size)
			if row.size > len(smuggled) {
				body = body[len(smuggled):] + smuggled
			}
			if row.chunked {
				head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
			if _, err := io.WriteString(conn, head+body); err != nil {
				t.Fatalf("send: %v", err)
			}
			in := bufio.NewReader(conn)
			code := 100
			for code == 100 {
				r, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("no answer: %v", err)
				}
				code = r.StatusCode
				if text, err := io.ReadAll(r.Body); code != 100 && (string(text) != "too large\n" || err != nil) {
					t.Errorf("%q, %v", text, err)
				}
			}
			if code != http.StatusRequestEntityTooLarge || h.seen.Load() != 1 {
				t.Errorf("%d, %d requests", code, h.seen.Load())
			}
		})
	}
}

// TestEarlyAnswerIsBounded: who never stops sending is cut off, and nothing is left of it.
func TestEarlyAnswerIsBounded(t *testing.T) {
	t.Parallel()
	p, err := frontdoor.Enter(t.Context(), frontdoor.Door{Address: "127.0.0.1:0", Settings: settings()}, &refuses{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
	sent := 0
	for chunk := make([]byte, 1<<20); err == nil && sent < 1<<30; sent += len(chunk) {
		_, err = conn.Write(chunk)
	}
	if err == nil {
		t.Errorf("%d bytes were taken, %v", sent, err)
	}
	if err := p.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
