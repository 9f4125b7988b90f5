package blobtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/blob"
)

// model is what a bucket should hold.
type model struct {
	objects map[string]string
	writers map[int]*modelWriter
}

// modelWriter is a writer that has not ended, and what was written to it.
type modelWriter struct {
	blob.Writer
	name, data string
}

// modelParts are what names are made of: few, so that calls meet; with bytes before and
// behind the slash in order.
var modelParts = []string{"a", "a-", "a0", "b", "é"}

func drawName(t *rapid.T) string {
	parts := rapid.SliceOfN(rapid.SampledFrom(modelParts), 1, 3).Draw(t, "name")
	return strings.Join(parts, "/")
}

// fits reports whether the name is neither in another one's place nor above it.
func (m *model) fits(name string) bool {
	for have := range m.objects {
		if strings.HasPrefix(have, name+"/") || strings.HasPrefix(name, have+"/") {
			return false
		}
	}
	return true
}

// testModel makes random calls, through two buckets on one place, and compares each answer
// with the model's.
func testModel(t *testing.T, open func() blob.Bucket) {
	buckets := []blob.Bucket{open(), open()}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := &model{objects: map[string]string{}, writers: map[int]*modelWriter{}}
		root := fmt.Sprintf("round %d/", round) // a place of its own for each history
		defer func() {
			for _, w := range m.writers {
				if err := w.Abort(); err != nil {
					t.Error(err)
				}
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"create":  func(t *rapid.T) { m.create(t, pick(t, buckets), root) },
			"replace": func(t *rapid.T) { m.replace(t, pick(t, buckets), root) },
			"delete":  func(t *rapid.T) { m.remove(t, pick(t, buckets), root) },
			"get":     func(t *rapid.T) { m.get(t, pick(t, buckets), root) },
			"list":    func(t *rapid.T) { m.list(t, pick(t, buckets), root) },
			"begin":   func(t *rapid.T) { m.begin(t, pick(t, buckets), root) },
			"end":     func(t *rapid.T) { m.end(t) },
		})
	})
}

func pick(t *rapid.T, buckets []blob.Bucket) blob.Bucket {
	return buckets[rapid.IntRange(0, len(buckets)-1).Draw(t, "bucket")]
}

// known is the outcome of a call, as one of the sentinels, "" or an error.
func known(err error) error {
	for _, e := range []error{blob.ErrExists, blob.ErrNotFound, blob.ErrChanged} {
		if errors.Is(err, e) {
			return e
		}
	}
	return err
}

func (m *model) create(t *rapid.T, b blob.Bucket, root string) {
	name, data := drawName(t), rapid.StringN(0, 8, 20).Draw(t, "data")
	if !m.fits(name) {
		t.Skip()
	}
	_, err := b.Create(t.Context(), root+name, []byte(data))
	m.created(t, name, data, err)
}

func (m *model) created(t *rapid.T, name, data string, err error) {
	var want error
	if _, ok := m.objects[name]; ok {
		want = blob.ErrExists
	}
	if known(err) != want { //nolint:errorlint // known is the sentinel itself
		t.Fatalf("create %q: %v, want %v", name, err, want)
	}
	if err == nil {
		m.objects[name] = data
	}
}

func (m *model) replace(t *rapid.T, b blob.Bucket, root string) {
	name, data := drawName(t), rapid.StringN(0, 8, 20).Draw(t, "data")
	have, there := m.objects[name]
	seen := blob.Version("none")
	var want error
	switch {
	case !there:
		want = blob.ErrNotFound
	case rapid.Bool().Draw(t, "seen"):
		_, v, err := b.Get(t.Context(), root+name)
		if err != nil {
			t.Fatal(err)
		}
		seen = v
	default:
		want = blob.ErrChanged
	}
	_, err := b.Replace(t.Context(), root+name, seen, []byte(data))
	if known(err) != want { //nolint:errorlint // known is the sentinel itself
		t.Fatalf("replace %q, which holds %q: %v, want %v", name, have, err, want)
	}
	if err == nil {
		m.objects[name] = data
	}
}

func (m *model) remove(t *rapid.T, b blob.Bucket, root string) {
	names := rapid.SliceOfN(rapid.Custom(drawName), 0, 3).Draw(t, "names")
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = root + name
		delete(m.objects, name)
	}
	if err := b.Delete(t.Context(), full...); err != nil {
		t.Fatalf("delete %q: %v", names, err)
	}
}

func (m *model) get(t *rapid.T, b blob.Bucket, root string) {
	name := drawName(t)
	want, there := m.objects[name]
	got, _, err := b.Get(t.Context(), root+name)
	_, headErr := b.Head(t.Context(), root+name)
	if !there {
		if !errors.Is(err, blob.ErrNotFound) || !errors.Is(headErr, blob.ErrNotFound) {
			t.Fatalf("get %q, which is not there: %q, %v; head %v", name, got, err, headErr)
		}
		return
	}
	if err != nil || headErr != nil || string(got) != want {
		t.Fatalf("get %q: %q, %v, want %q; head %v", name, got, err, want, headErr)
	}
	offset, length := rapid.IntRange(0, 25).Draw(t, "offset"), rapid.IntRange(-1, 25).Draw(t, "length")
	r, err := b.Open(t.Context(), root+name, int64(offset), int64(length))
	if err != nil {
		t.Fatal(err)
	}
	part, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	tail := want[min(offset, len(want)):]
	if length >= 0 {
		tail = tail[:min(length, len(tail))]
	}
	if !bytes.Equal(part, []byte(tail)) {
		t.Fatalf("open %q from %d, %d bytes: %q, want %q", name, offset, length, part, tail)
	}
}

func (m *model) list(t *rapid.T, b blob.Bucket, root string) {
	q := blob.Query{Limit: rapid.IntRange(0, 4).Draw(t, "limit"), Folders: rapid.Bool().Draw(t, "folders")}
	if rapid.Bool().Draw(t, "below") {
		q.Prefix = drawName(t)
		if rapid.Bool().Draw(t, "within") {
			q.Prefix += "/"
		}
	}
	if rapid.Bool().Draw(t, "behind") {
		q.After = drawName(t)
		if rapid.Bool().Draw(t, "a folder") {
			q.After += "/"
		}
	}
	want := m.names(q)
	full := q
	full.Prefix = root + q.Prefix
	if q.After != "" {
		full.After = root + q.After
	}
	var got []string
	for info, err := range blob.All(t.Context(), b, full) {
		if err != nil {
			t.Fatalf("list %+v: %v", q, err)
		}
		name := strings.TrimPrefix(info.Name, root)
		if !info.Folder() && info.Size != int64(len(m.objects[name])) {
			t.Fatalf("list %+v: %q has %d bytes", q, name, info.Size)
		}
		got = append(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list %+v (-want +got):\n%s", q, diff)
	}
}

// names is the whole list of a query.
func (m *model) names(q blob.Query) []string {
	set := map[string]bool{}
	for name := range m.objects {
		if !strings.HasPrefix(name, q.Prefix) {
			continue
		}
		if i := strings.IndexByte(name[len(q.Prefix):], '/'); q.Folders && i >= 0 {
			name = name[:len(q.Prefix)+i+1]
		}
		if name > q.After {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (m *model) begin(t *rapid.T, b blob.Bucket, root string) {
	if len(m.writers) >= 3 {
		t.Skip()
	}
	name := drawName(t)
	w, err := b.Writer(t.Context(), root+name)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for m.writers[at] != nil {
		at++
	}
	mine := &modelWriter{Writer: w, name: name}
	m.writers[at] = mine
	for _, part := range rapid.SliceOfN(rapid.StringN(0, 8, 10), 0, 3).Draw(t, "parts") {
		if _, err := io.WriteString(w, part); err != nil {
			t.Fatal(err)
		}
		mine.data += part
	}
}

func (m *model) end(t *rapid.T) {
	if len(m.writers) == 0 {
		t.Skip()
	}
	at := rapid.SampledFrom(slices.Sorted(maps.Keys(m.writers))).Draw(t, "writer")
	w := m.writers[at]
	delete(m.writers, at)
	if rapid.Bool().Draw(t, "abort") || !m.fits(w.name) {
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		return
	}
	m.created(t, w.name, w.data, w.Commit(t.Context()))
}
