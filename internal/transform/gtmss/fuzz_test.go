package gtmss

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// FuzzPreview: a message passes with its payload as it was, and with a header only that is
// base64, or it is invalid.
func FuzzPreview(f *testing.F) {
	text, err := os.ReadFile("../../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if i == 10 {
			break
		}
		f.Add(line)
	}
	now := time.Now().UTC().Format(layout)
	for _, data := range []string{`{"x-gtm-server-preview":"aGVsbG8="}`, `{"x-gtm-server-preview":7}`, `{"x-gtm-server-preview":"\/\/\/\/"}`, `{}`, `[]`, `{"x-gtm-server-preview":"a`} {
		f.Add(message(now, preview(data), "").Data)
		f.Add(message("2020-01-01 00:00:00", "", preview(data)).Data)
		f.Add(message("x", preview(data), preview(data)).Data)
	}
	tr := build(f, func(*Config) {})
	f.Fuzz(func(t *testing.T, line []byte) {
		m := event.New(bytes.Clone(line))
		out, err := tr.Apply(context.Background(), nil, m)
		if !bytes.Equal(m.Data, line) {
			t.Fatalf("the payload is %q now", m.Data)
		}
		if err != nil {
			if fault.Of(err) != fault.Invalid || len(out) > 0 || len(m.Meta.Headers) > 0 {
				t.Fatalf("%d messages, headers %v, %v", len(out), m.Meta.Headers, err)
			}
			return
		}
		if len(out) != 1 || out[0] != m {
			t.Fatalf("%d messages of one", len(out))
		}
		for name, v := range byName(m.Meta.Headers) {
			if _, err := base64.StdEncoding.DecodeString(v); name != "x-gtm-server-preview" || err != nil {
				t.Fatalf("header %q is %q: %v", name, v, err)
			}
		}
	})
}
