package pipetest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/event"
)

const rehearsed = `
transform {
  use "js" {
    script = "function main(x) { if (x.Data == 'fails') throw new Error('odd'); if (x.Data == 'drop') { x.FilterOut = true } else if (x.Data != 'same' && x.Data.indexOf('-- ') != 0) { x.Data = '<' + x.Data + '>' }; return x }"
  }
}
target {
  use "http" {
    url = "http://127.0.0.1:1"
  }
}
`

// TestSavedCasesPass: the case that a rehearsal gives passes as long as the config is the same,
// whatever the message, and nothing but the transforms has run: the target answers nobody.
func TestSavedCasesPass(t *testing.T) {
	t.Parallel()
	builder := func() *app.Builder {
		return &app.Builder{Set: all.Connectors(), Log: slog.New(slog.DiscardHandler)}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "p.hcl")
	if err := os.WriteFile(path, []byte(rehearsed), 0o600); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.OneOf(
			rapid.SampledFrom([]string{"same", "drop", "fails", "", "-- out --", "-- filtered --", `{"a":1}`, "x\ny", "\x00\xff", " "}),
			rapid.String(),
			rapid.StringMatching(`-- [a-z.]+ --`),
		).Draw(rt, "data")
		m := &event.Message{Data: []byte(data), Key: rapid.SampledFrom([]string{"", "k", "-- out --"}).Draw(rt, "key")}
		b := builder()
		cfg, found := config.Load([]string{path}, b.Options(func(string) (string, bool) { return "", false }))
		if found.HasErrors() {
			rt.Fatal(found.Text())
		}
		got, err := Rehearse(context.Background(), b, cfg, "default", []string{path}, m, false)
		if err != nil {
			rt.Fatalf("%q: %v", data, err)
		}
		name := filepath.Join(dir, "case.txtar")
		if err := os.WriteFile(name, got.Case, 0o600); err != nil {
			rt.Fatal(err)
		}
		cases, err := Find(name)
		if err != nil || len(cases) != 1 {
			rt.Fatalf("%d cases, %v", len(cases), err)
		}
		different, err := cases[0].Run(context.Background(), *builder(), false)
		if err != nil || different != "" {
			rt.Fatalf("%q: %v\n%s\nof the case\n%s", data, err, different, got.Case)
		}
	})
}
