package httpsource

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/weirdata/weir/internal/connector"
)

func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n c \n"), 3, 10)
	f.Add([]byte("\r\r\n\x00\n\xff"), 1, 1)
	f.Add([]byte(""), 1, 1)
	f.Fuzz(func(t *testing.T, body []byte, limit, maxLine int) {
		limit, maxLine = 1+(limit&0x3f), 1+(maxLine&0xff)
		var want [][]byte
		ok := true
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			line = bytes.TrimSuffix(line, []byte("\r"))
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			want = append(want, line)
			ok = ok && len(line) <= maxLine
		}
		ok = ok && len(want) <= limit
		got, no := split(body, limit, maxLine)
		if (no == nil) != ok {
			t.Fatalf("refusal %v, want accepted: %v", no, ok)
		}
		if no != nil {
			if no.code != 400 || got != nil {
				t.Fatalf("refusal %+v with %d lines", no, len(got))
			}
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q, want %q", got, want)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) || cap(got[i]) != len(got[i]) {
				t.Fatalf("line %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// FuzzBody sends arbitrary bytes as every encoding: there is an answer, and nothing stays
// in flight.
func FuzzBody(f *testing.F) {
	f.Add([]byte("a\nb"), "")
	f.Add([]byte("\x1f\x8b\x08\x00"), "gzip")
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00"), "zstd")
	c := defaults()
	c.URL, c.MaxBodyBytes = "127.0.0.1:0", 1<<16
	s, err := New(context.Background(), connector.Deps{}, c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header["Content-Encoding"] = []string{encoding}
		s.Stay().Budget.Enter()
		b, held, no := (&session{s, s.Stay()}).accept(httptest.NewRecorder(), r)
		switch {
		case no != nil && (no.code < 400 || no.code > 503 || no.text == "" || len(b) > 0):
			t.Fatalf("refusal %+v of %d messages", no, len(b))
		case len(b) > c.RequestBatchLimit || b.Bytes() > c.MaxBodyBytes || int64(b.Bytes()) > held && len(b) > 0:
			t.Fatalf("%d messages of %d bytes hold %d", len(b), b.Bytes(), held)
		}
		s.Stay().Budget.Leave(held)
		idle(t, s)
	})
}
