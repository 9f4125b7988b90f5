package failures

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// text is any text, also such as is no UTF-8.
func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"s400", "é<&>\u2028", "\xff\x00", `","x":"`, "a b"}), rapid.StringN(0, 20, 60))
}

func contexts() *rapid.Generator[Context] {
	return rapid.Custom(func(t *rapid.T) Context {
		return Context{Pipeline: text().Draw(t, "pipeline"), Key: text().Draw(t, "key"), ID: text().Draw(t, "id"),
			Scope: event.Scope{Workspace: text().Draw(t, "workspace"), Source: text().Draw(t, "source"), Destination: text().Draw(t, "destination")}}
	})
}

// TestRowsKnowWhoseTheyAre: in every format a row says in which pipeline its message failed,
// whose it is, its key and its ID, and a row that is bounded still keeps to its limit and has
// the whole context or none.
func TestRowsKnowWhoseTheyAre(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := contexts().Draw(t, "context")
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		limit := rapid.SampledFrom([]int{0, 600, 2000}).Draw(t, "limit")
		body := bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 10, 3000}).Draw(t, "size"))
		f := Format{Artifact: Artifact, Version: "1.2.3", Forwarding: kind == ForwardingError, Context: c}
		var row []byte
		var err error
		if kind == SizeViolation {
			row, err = f.Oversized(readAt, body, 5, limit)
		} else {
			row, err = f.Invalid(readAt, body, body, errNo, limit)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(row)
		if err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		member, err := c.member(limit)
		if err != nil {
			t.Fatal(err)
		}
		want := c
		if member == "" {
			want = Context{}
		}
		if limit == 0 && want != c {
			t.Fatal("without a limit the context is left out")
		}
		if d := cmp.Diff(want, got.Context); d != "" || got.Kind != kind || limit > 0 && len(row) > limit {
			t.Fatalf("%s\n%d bytes of %d; -want +got:\n%s", row, len(row), limit, d)
		}
	})
}

// TestOthersSayNothing: what another product writes beside its rows is not taken for a context.
func TestOthersSayNothing(t *testing.T) {
	t.Parallel()
	row := `{"data":{"failure":{"errors":["no"],"timestamp":"2026-05-26T16:45:15Z"},"payload":"snow","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0","weir":{"key":"k"}}`
	f, err := Parse([]byte(row))
	if err != nil || f.Context != (Context{}) {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestReplaysFindTheirWay: what is sent again of a file has scope, key and ID as it had them
// when it failed, and only the chosen are sent.
func TestReplaysFindTheirWay(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "failed")
	var file bytes.Buffer
	for i, d := range []string{"s400", "kaf", "s400"} {
		f := generic
		f.Context = Context{Pipeline: "deliver", Key: fmt.Sprint("key", i), ID: fmt.Sprint("id", i), Scope: event.Scope{Workspace: "w", Source: "s", Destination: d}}
		row, err := f.Invalid(readAt, nil, fmt.Append(nil, i), errNo, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(append(row, '\n'))
	}
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &FileSource{Plan: Plan{Selection: Selection{Scope: map[queue.Axis]string{queue.ByDestination: "s400"}}, Tally: &Tally{}}, Path: name}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, _, err := s.Read(t.Context(), connector.Room{})
	if err != nil || len(b) != 2 {
		t.Fatal(len(b), err)
	}
	for i, m := range b {
		want := event.Scope{Workspace: "w", Source: "s", Destination: "s400"}
		if m.Meta.Scope == nil || *m.Meta.Scope != want || m.Key != fmt.Sprint("key", 2*i) || m.Meta.ID != fmt.Sprint("id", 2*i) {
			t.Errorf("%q: %q, %+v", m.Data, m.Key, m.Meta)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSelectionByContext chooses by every part of it, and by pipeline those too that do not say.
func TestSelectionByContext(t *testing.T) {
	t.Parallel()
	f := &Failure{Kind: GenericError, Errors: []string{errors.New("no").Error()},
		Context: Context{Pipeline: "p", Scope: event.Scope{Workspace: "w", Source: "s", Destination: "d"}}}
	for _, row := range []struct {
		sel  Selection
		want bool
	}{
		{Selection{}, true},
		{Selection{Scope: map[queue.Axis]string{queue.ByWorkspace: "w", queue.BySource: "s", queue.ByDestination: "d"}}, true},
		{Selection{Scope: map[queue.Axis]string{queue.ByWorkspace: "x"}}, false},
		{Selection{Scope: map[queue.Axis]string{queue.BySource: ""}}, false},
		{Selection{Scope: map[queue.Axis]string{queue.ByDestination: "d2"}}, false},
		{Selection{Pipeline: "p"}, true},
		{Selection{Pipeline: "q"}, false},
	} {
		if got := row.sel.Match(f); got != row.want {
			t.Errorf("%+v: %t", row.sel, got)
		}
	}
	if sel := (Selection{Pipeline: "q"}); !sel.Match(&Failure{}) {
		t.Error("one that does not say where it failed is not chosen")
	}
}
