package failures

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rowsOf is a file of rows with these payloads, and a line that is no row after each.
func rowsOf(t *testing.T, payloads ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range payloads {
		row, err := generic.Invalid(readAt, nil, []byte(p), errNo, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\nsomething else\n", row)
	}
	return out.Bytes()
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// replay reads a source to its end, settles what keep says, and returns the payloads read.
func replay(t *testing.T, s connector.Source, keep func(payload string) error) []string {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		b, ack, err := s.Read(t.Context(), connector.Room{})
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		o := make(event.Outcomes, len(b))
		for i, m := range b {
			got = append(got, string(m.Data))
			if keep != nil {
				o[i] = keep(string(m.Data))
			}
		}
		if err := ack(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestFilesAreReplayedOnce: what was settled is not sent again, what was not is; a file that
// has grown is gone on with; nothing is written into it.
func TestFilesAreReplayedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	text := rowsOf(t, "a", "b", "a", "c")
	put(t, path, text)
	source := func(again bool) (*FileSource, *Tally) {
		tally := &Tally{}
		return &FileSource{Plan: Plan{Tally: tally}, Path: path, Journal: JournalOf(path), Again: again}, tally
	}
	s, tally := source(false)
	equal(t, "first", replay(t, s, func(p string) error {
		if p == "b" {
			return event.ErrUnsettled
		}
		return nil
	}), "a", "b", "a", "c")
	if tally.Sent.Load() != 4 || tally.Settled.Load() != 3 || tally.AsRead.Load() != 0 || tally.Skipped() != (Skipped{Other: 4}) {
		t.Errorf("first: %d sent, %d settled, skipped %+v", tally.Sent.Load(), tally.Settled.Load(), tally.Skipped())
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, text) {
		t.Error("the file was changed")
	}
	put(t, path, append(text, rowsOf(t, "a")...))
	s, tally = source(false)
	equal(t, "second", replay(t, s, nil), "b", "a")
	if tally.Before.Load() != 3 {
		t.Errorf("second: %d were replayed before", tally.Before.Load())
	}
	s, _ = source(false)
	equal(t, "third", replay(t, s, nil))
	s, _ = source(true)
	equal(t, "again", replay(t, s, nil), "a", "b", "a", "c", "a")
	// Another file of the same name has other rows.
	put(t, path, rowsOf(t, "zz", "b"))
	s, _ = source(false)
	equal(t, "another file", replay(t, s, nil), "zz", "b")
}

// TestAJournalThatIsTorn names no row by mistake, and is gone on with.
func TestAJournalThatIsTorn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	put(t, path, rowsOf(t, "a", "b"))
	s := &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
	replay(t, s, nil)
	whole, err := os.ReadFile(JournalOf(path))
	if err != nil || bytes.Count(whole, []byte("\n")) != 2 {
		t.Fatalf("%q, %v", whole, err)
	}
	for n := range whole {
		put(t, JournalOf(path), whole[:n])
		s := &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
		want := []string{"a", "b"}
		switch first := bytes.IndexByte(whole, '\n'); {
		case n == len(whole)-1:
			want = nil
		case n >= first:
			want = []string{"b"}
		}
		equal(t, fmt.Sprint(n, " bytes"), replay(t, s, nil), want...)
		s = &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
		equal(t, fmt.Sprint(n, " bytes, afterwards"), replay(t, s, nil))
	}
}

func TestOneReplayOfAFileAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	put(t, path, rowsOf(t, "a"))
	first := &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
	if err := first.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
	if err := second.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "another replay of this file runs") {
		t.Errorf("a second one: %v", err)
	}
	if err := errors.Join(second.Close(t.Context()), first.Close(t.Context())); err != nil {
		t.Error(err)
	}
	nowhere := &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: filepath.Join(path, "journal")}
	if err := nowhere.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "name one elsewhere with --journal FILE") {
		t.Errorf("a journal that cannot be made: %v", err)
	}
}

// TestOnlyWhatWasThereIsRead: what a replay appends to the file is not read by it.
func TestOnlyWhatWasThereIsRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	text := rowsOf(t, "a", "b")
	put(t, path, text)
	s := &FileSource{Plan: Plan{Tally: &Tally{}, Limit: 0}, Path: path}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, path, append(text, rowsOf(t, "c")...))
	b, _, err := s.Read(t.Context(), connector.Room{})
	if err != nil || len(b) != 2 {
		t.Errorf("%d messages, %v", len(b), err)
	}
	if _, _, err := s.Read(t.Context(), connector.Room{}); err != io.EOF {
		t.Errorf("then %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFilesThatAreCompressed(t *testing.T) {
	t.Parallel()
	text := rowsOf(t, "a", strings.Repeat("b", 1<<20), "c")
	var zipped, zst bytes.Buffer
	g := gzip.NewWriter(&zipped)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{"plain": text, "gzip": zipped.Bytes(), "zstd": zst.Bytes()} {
		path := filepath.Join(t.TempDir(), "failed")
		put(t, path, data)
		var ids []string
		scan := func(f *Failure) error { ids = append(ids, f.ID); return nil }
		for range 2 { // from the file, and from a stream
			if _, err := ScanFile(t.Context(), path, nil, scan, true); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := ScanFile(t.Context(), "-", bytes.NewReader(data), scan, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(ids) != 9 || !slices.Equal(ids[:3], ids[3:6]) || !slices.Equal(ids[:3], ids[6:]) {
			t.Errorf("%s: IDs %q", name, ids)
		}
		if name == "plain" {
			continue
		}
		put(t, path, data[:len(data)-5])
		if _, err := ScanFile(t.Context(), path, nil, scan, true); err == nil {
			t.Errorf("%s: a file that is torn is no error", name)
		}
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	none := func(*Failure) error { t.Error("a failure"); return nil }
	if _, err := ScanFile(t.Context(), path, nil, none, false); err != nil {
		t.Error(err)
	}
	if _, err := ScanFile(t.Context(), path, nil, none, true); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := ScanFile(t.Context(), t.TempDir(), nil, none, true); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
	equal(t, "a source", replay(t, &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}, nil))
	if _, err := os.Stat(JournalOf(path)); err == nil {
		t.Error("a journal of nothing")
	}
	if err := (&FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Must: true}).Open(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestSelection: each part of a selection, and all at once.
func TestSelection(t *testing.T) {
	t.Parallel()
	f := &Failure{ID: "7", Kind: ForwardingError, Time: readAt, Errors: []string{"HTTP: bad request"}, Code: "400 Bad Request", Payload: []byte("12345"), Refusal: "413"}
	cause := func(text string) Cause {
		c, err := ParseCause(text)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, test := range map[string]struct {
		s    Selection
		want bool
	}{
		"everything":     {Selection{}, true},
		"cause":          {Selection{Cause: cause("bad req")}, true},
		"code":           {Selection{Cause: cause("400 Bad")}, true},
		"refusal":        {Selection{Cause: cause("413")}, true},
		"another cause":  {Selection{Cause: cause("Bad.Request")}, false},
		"expression":     {Selection{Cause: cause("/^HTTP.*(bad|good)/")}, true},
		"no match":       {Selection{Cause: cause("/^bad/")}, false},
		"slashes":        {Selection{Cause: cause("//")}, false},
		"since":          {Selection{Since: readAt}, true},
		"since later":    {Selection{Since: readAt.Add(time.Second)}, false},
		"until":          {Selection{Until: readAt}, false},
		"until later":    {Selection{Until: readAt.Add(time.Second)}, true},
		"size":           {Selection{MinSize: 5, MaxSize: 5}, true},
		"too small":      {Selection{MinSize: 6}, false},
		"too large":      {Selection{MaxSize: 4}, false},
		"ID":             {Selection{IDs: map[string]bool{"7": true}}, true},
		"another ID":     {Selection{IDs: map[string]bool{"8": true}}, false},
		"all but the ID": {Selection{Cause: cause("HTTP"), MinSize: 1, IDs: map[string]bool{"8": true}}, false},
	} {
		if got := test.s.Match(f); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
		if (name == "everything") != test.s.Empty() {
			t.Errorf("%s: empty is %t", name, test.s.Empty())
		}
	}
	if _, err := ParseCause("/(/"); err == nil {
		t.Error("a broken expression is none")
	}
}

// TestLimit: over several places it is one.
func TestLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plan := Plan{Tally: &Tally{}, Limit: 3}
	var all []connector.Source
	for _, name := range []string{"one", "two"} {
		path := filepath.Join(dir, name)
		put(t, path, rowsOf(t, name+"1", name+"2"))
		all = append(all, &FileSource{Plan: plan, Path: path, Journal: JournalOf(path)})
	}
	closed := 0
	equal(t, "three of four", replay(t, &Sources{All: all, Closed: func() { closed++ }}, nil), "one1", "one2", "two1")
	if closed == 0 {
		t.Error("the end was not told")
	}
}

func TestASourceThatCannotBeOpenedClosesTheOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "failed")
	put(t, path, rowsOf(t, "a"))
	good := func() *FileSource {
		return &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path, Journal: JournalOf(path)}
	}
	s := &Sources{All: []connector.Source{good(), &FileSource{Plan: Plan{Tally: &Tally{}}, Path: path + "x", Must: true}}}
	if err := s.Open(context.Background()); err == nil {
		t.Fatal("no error")
	}
	equal(t, "afterwards", replay(t, good(), nil), "a")
}
