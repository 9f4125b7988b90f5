// Package blobtest is what a bucket has to do, as tests: the promises of package blob one
// after the other, a model that random calls are compared with, and processes that are
// killed in the middle of their work.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/blob"
)

// Place makes an empty place for objects, and returns what opens a bucket on it: each call
// one more, as another process would.
type Place func(t testing.TB) (open func() blob.Bucket)

// Run tests the buckets of the places that new makes.
func Run(t *testing.T, place Place) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, func() blob.Bucket)
	}{
		{"Create", testCreate},
		{"Replace", testReplace},
		{"Get", testGet},
		{"Writer", testWriter},
		{"Names", testNames},
		{"List", testList},
		{"ListWhileItChanges", testListWhileItChanges},
		{"Delete", testDelete},
		{"Ensure", testEnsure},
		{"Cancelled", testCancelled},
		{"Sweep", testSweep},
		{"Creators", testCreators},
		{"Replacers", testReplacers},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, place(t))
		})
	}
}

func create(t testing.TB, b blob.Bucket, name, data string) blob.Version {
	t.Helper()
	v, err := b.Create(t.Context(), name, []byte(data))
	if err != nil {
		t.Fatalf("Create(%q): %v", name, err)
	}
	return v
}

func wantContent(t testing.TB, b blob.Bucket, name, want string) blob.Version {
	t.Helper()
	data, v, err := b.Get(t.Context(), name)
	if err != nil || string(data) != want {
		t.Fatalf("Get(%q) = %.100q, %v, want %.100q", name, data, err, want)
	}
	info, err := b.Head(t.Context(), name)
	if err != nil || info.Name != name || info.Size != int64(len(want)) || info.Modified.IsZero() {
		t.Fatalf("Head(%q) = %+v, %v, want %d bytes", name, info, err, len(want))
	}
	return v
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func wantNone(t testing.TB, b blob.Bucket, name string) {
	t.Helper()
	_, _, err := b.Get(t.Context(), name)
	wantErr(t, "Get "+name, err, blob.ErrNotFound)
	wantErr(t, "Get "+name, err, fs.ErrNotExist)
	_, err = b.Head(t.Context(), name)
	wantErr(t, "Head "+name, err, blob.ErrNotFound)
	_, err = b.Open(t.Context(), name, 0, -1)
	wantErr(t, "Open "+name, err, blob.ErrNotFound)
}

func testCreate(t *testing.T, open func() blob.Bucket) {
	b, other := open(), open()
	wantNone(t, b, "a/b/c")
	v := create(t, b, "a/b/c", "first")
	if _, err := other.Create(t.Context(), "a/b/c", []byte("second")); !errors.Is(err, blob.ErrExists) || !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "a/b/c") {
		t.Errorf("a second Create: %v", err)
	}
	if got := wantContent(t, other, "a/b/c", "first"); got != v || v == "" {
		t.Errorf("version %q by Get, %q by Create", got, v)
	}
	create(t, b, "empty", "")
	wantContent(t, b, "empty", "")
	large := strings.Repeat("0123456789abcdef", 1<<17)
	create(t, b, "large", large)
	wantContent(t, b, "large", large)
	wantNone(t, b, "a")
	wantNone(t, b, "a/b/c/d")
	data := []byte("mine")
	if _, err := b.Create(t.Context(), "kept", data); err != nil {
		t.Fatal(err)
	}
	data[0] = 'x'
	wantContent(t, b, "kept", "mine")
}

func testReplace(t *testing.T, open func() blob.Bucket) {
	b, other := open(), open()
	if _, err := b.Replace(t.Context(), "n", "nothing", []byte("x")); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Replace of nothing: %v", err)
	}
	wantNone(t, b, "n")
	one := create(t, b, "n", "1")
	two, err := other.Replace(t.Context(), "n", one, []byte("2"))
	if err != nil || two == one || two == "" {
		t.Fatalf("Replace = %q, %v; it was %q", two, err, one)
	}
	for _, seen := range []blob.Version{one, ""} {
		if _, err := b.Replace(t.Context(), "n", seen, []byte("3")); !errors.Is(err, blob.ErrChanged) {
			t.Errorf("Replace of version %q: %v", seen, err)
		}
	}
	if v := wantContent(t, b, "n", "2"); v != two {
		t.Errorf("version %q by Get, %q by Replace", v, two)
	}
	if err := b.Delete(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Replace(t.Context(), "n", two, []byte("3")); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Replace of what was deleted: %v", err)
	}
	wantNone(t, b, "n")
	if _, err := b.Replace(t.Context(), "n", two, make([]byte, blob.MaxWhole+1)); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("Replace by too much: %v", err)
	}
}

func testGet(t *testing.T, open func() blob.Bucket) {
	b := open()
	const text = "0123456789"
	create(t, b, "n", text)
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, text}, {0, 0, ""}, {0, 3, "012"}, {3, 4, "3456"}, {7, -1, "789"}, {7, 100, "789"}, {10, -1, ""}, {10, 1, ""}, {1 << 40, -1, ""}, {1 << 40, 5, ""},
	} {
		r, err := b.Open(t.Context(), "n", c.offset, c.length)
		if err != nil {
			t.Fatalf("Open(%d, %d): %v", c.offset, c.length, err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(got) != c.want {
			t.Errorf("Open(%d, %d) reads %q, %v, want %q", c.offset, c.length, got, err, c.want)
		}
	}
	if _, err := b.Open(t.Context(), "n", -1, 1); err == nil {
		t.Error("a negative offset is accepted")
	}
	// A reader that has begun keeps what it began with, or says that it cannot.
	r, err := b.Open(t.Context(), "n", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, v, err := b.Get(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replace(t.Context(), "n", v, []byte("something else")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err == nil && string(got) != text {
		t.Errorf("a reader that had begun reads %q", got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func writerOf(t testing.TB, b blob.Bucket, name string, parts ...string) blob.Writer {
	t.Helper()
	w, err := b.Writer(t.Context(), name)
	if err != nil {
		t.Fatalf("Writer(%q): %v", name, err)
	}
	for _, p := range parts {
		if n, err := io.WriteString(w, p); err != nil || n != len(p) {
			t.Fatalf("Write to %q = %d, %v", name, n, err)
		}
	}
	return w
}

func testWriter(t *testing.T, open func() blob.Bucket) {
	b, other := open(), open()
	part := strings.Repeat("x", 1<<20)
	w := writerOf(t, b, "a/n", "begin", part, part, part, "", "end")
	wantNone(t, other, "a/n")
	wantNames(t, other, blob.Query{})
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, other, "a/n", "begin"+part+part+part+"end")
	if err := w.Commit(t.Context()); err == nil {
		t.Error("a second Commit says that it is done")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a writer that has ended writes")
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort behind Commit: %v", err)
	}
	wantContent(t, b, "a/n", "begin"+part+part+part+"end")

	w = writerOf(t, b, "a/n", "another")
	wantErr(t, "Commit of a name that is taken", w.Commit(t.Context()), blob.ErrExists)
	wantContent(t, b, "a/n", "begin"+part+part+part+"end")

	w = writerOf(t, b, "gone", part)
	for range 2 {
		if err := w.Abort(); err != nil {
			t.Errorf("Abort: %v", err)
		}
	}
	if err := w.Commit(t.Context()); err == nil {
		t.Error("Commit behind Abort says that it is done")
	}
	wantNone(t, b, "gone")
	first, second := writerOf(t, b, "both", "first"), writerOf(t, other, "both", "second")
	if err := second.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "Commit of the slower one", first.Commit(t.Context()), blob.ErrExists)
	wantContent(t, b, "both", "second")
	if err := writerOf(t, b, "nothing").Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, b, "nothing", "")
	wantNames(t, b, blob.Query{}, "a/n", "both", "nothing")
}

// Good and Bad are names.
var (
	Good = []string{"a", "year=2024/month=04/events-1.parquet", ".hidden", "_weir/x", "a b", "Zürich/日本", "%41", "a+b&c=d;e,f@g!h'(i)~$#[j]{k}", "..a", "a...b",
		strings.Repeat("n", blob.MaxPart), strings.Repeat("deep/", 100) + "n", "-", "con/fig"}
	Bad = []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/./b", "a\\b", "..\\a", "a\x00b", "a\nb", "\x7f", "\xff", "a.", "a./b", " a", "a ",
		"a/ b", strings.Repeat("n", blob.MaxPart+1), strings.Repeat("deep/", 200) + "n"}
)

func testNames(t *testing.T, open func() blob.Bucket) {
	b := open()
	for _, name := range Good {
		create(t, b, name, "at "+name)
	}
	want := slices.Sorted(slices.Values(Good))
	wantNames(t, open(), blob.Query{}, want...)
	for _, name := range Good {
		wantContent(t, b, name, "at "+name)
	}
	for _, name := range Bad {
		_, err := b.Create(t.Context(), name, []byte("x"))
		wantErr(t, "Create", err, blob.ErrName)
		_, err = b.Replace(t.Context(), name, "x", []byte("x"))
		wantErr(t, "Replace", err, blob.ErrName)
		_, err = b.Writer(t.Context(), name)
		wantErr(t, "Writer", err, blob.ErrName)
		_, _, err = b.Get(t.Context(), name)
		wantErr(t, "Get", err, blob.ErrName)
		_, err = b.Open(t.Context(), name, 0, -1)
		wantErr(t, "Open", err, blob.ErrName)
		_, err = b.Head(t.Context(), name)
		wantErr(t, "Head", err, blob.ErrName)
		wantErr(t, "Delete", b.Delete(t.Context(), "a", name), blob.ErrName)
	}
	for _, prefix := range []string{"/", "../", "a/../", "a//", "a\\", "\xff", "./a", strings.Repeat("n", blob.MaxName+1)} {
		_, err := b.List(t.Context(), blob.Query{Prefix: prefix})
		wantErr(t, "List", err, blob.ErrName)
	}
	wantNames(t, b, blob.Query{}, want...)
}

// namesOf is the query's whole list.
func namesOf(t testing.TB, b blob.Bucket, q blob.Query) []string {
	t.Helper()
	var names []string
	for info, err := range blob.All(t.Context(), b, q) {
		if err != nil {
			t.Fatalf("List(%+v): %v", q, err)
		}
		names = append(names, info.Name)
	}
	return names
}

func wantNames(t testing.TB, b blob.Bucket, q blob.Query, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, namesOf(t, b, q)); diff != "" {
		t.Errorf("List(%+v) (-want +got):\n%s", q, diff)
	}
}

func testList(t *testing.T, open func() blob.Bucket) {
	b := open()
	wantNames(t, b, blob.Query{})
	wantNames(t, b, blob.Query{Folders: true})
	for i, name := range []string{"b/2", "a-", "a/x/1", "a/y", "a0", "b/1", "c", "a/x/2"} {
		create(t, b, name, strings.Repeat("x", i))
	}
	all := []string{"a-", "a/x/1", "a/x/2", "a/y", "a0", "b/1", "b/2", "c"}
	for limit := range 10 {
		wantNames(t, b, blob.Query{Limit: limit}, all...)
		wantNames(t, b, blob.Query{Limit: limit, Durable: true}, all...)
		wantNames(t, b, blob.Query{Limit: limit, Folders: true}, "a-", "a/", "a0", "b/", "c")
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a"}, "a-", "a/x/1", "a/x/2", "a/y", "a0")
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a", Folders: true}, "a-", "a/", "a0")
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a/", Folders: true}, "a/x/", "a/y")
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a/x", Folders: true}, "a/x/")
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a/x/", Folders: true}, "a/x/1", "a/x/2")
		wantNames(t, b, blob.Query{Limit: limit, After: "a/x/1"}, all[2:]...)
		wantNames(t, b, blob.Query{Limit: limit, After: "a/x/1", Folders: true}, "a0", "b/", "c")
		wantNames(t, b, blob.Query{Limit: limit, After: "a/", Folders: true}, "a0", "b/", "c")
		wantNames(t, b, blob.Query{Limit: limit, After: "a/"}, all[1:]...)
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "a/", After: "b"})
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "c/"})
		wantNames(t, b, blob.Query{Limit: limit, Prefix: "none/at/all"})
	}
	for i := range 4 {
		create(t, b, "pages/"+strconv.Itoa(i), "")
	}
	page, err := b.List(t.Context(), blob.Query{Prefix: "pages/", Limit: 3})
	if err != nil || len(page) != 3 || page[2].Name != "pages/2" || page[2].Folder() || page[0].Modified.IsZero() {
		t.Errorf("a page is %+v, %v", page, err)
	}
	page, err = b.List(t.Context(), blob.Query{Prefix: "b", Folders: true})
	if err != nil || len(page) != 1 || !page[0].Folder() {
		t.Errorf("a folder is %+v, %v", page, err)
	}
	page, err = b.List(t.Context(), blob.Query{Prefix: "c"})
	if err != nil || len(page) != 1 || page[0].Size != 6 {
		t.Errorf("an object is %+v, %v", page, err)
	}
}

// testListWhileItChanges lists while objects come and go: what was there all the time is in
// every list, once, in order.
func testListWhileItChanges(t *testing.T, open func() blob.Bucket) {
	b := open()
	var stay []string
	for i := range 20 {
		name := fmt.Sprintf("d/%02d/stay", i)
		create(t, b, name, "x")
		stay = append(stay, name)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			mine := open()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("d/%02d/%d-go", i%20, w)
				if err := errors.Join(second(mine.Create(context.Background(), name, []byte("y"))), mine.Delete(context.Background(), name)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		got := namesOf(t, b, blob.Query{Prefix: "d/", Limit: 7})
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("a list is not in order: %v", got)
		}
		kept := slices.DeleteFunc(got, func(name string) bool { return !strings.HasSuffix(name, "stay") })
		if !slices.Equal(kept, stay) {
			t.Errorf("a list has %v", kept)
		}
	}
	close(stop)
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }

func testDelete(t *testing.T, open func() blob.Bucket) {
	b, other := open(), open()
	for _, name := range []string{"a/1", "a/2", "a/3", "b"} {
		create(t, b, name, "x")
	}
	if err := other.Delete(t.Context(), "a/1", "none", "none/at/all", "b", "a/1", "a/2/below"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, blob.Query{}, "a/2", "a/3")
	wantNone(t, b, "b")
	if err := b.Delete(t.Context(), "a"); err != nil { // no object
		t.Fatal(err)
	}
	if err := b.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a/2", "a/3"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, b, blob.Query{})
	wantNames(t, b, blob.Query{Folders: true})
	if err := b.Delete(t.Context(), "a"); err != nil { // not even a folder
		t.Fatal(err)
	}
	create(t, other, "a/1", "again")
	wantContent(t, b, "a/1", "again")
}

func testEnsure(t *testing.T, open func() blob.Bucket) {
	b := open()
	for range 2 { // the second as if the answer to the first was lost
		if err := blob.Ensure(t.Context(), b, "n", []byte("mine")); err != nil {
			t.Error(err)
		}
	}
	wantErr(t, "Ensure of another content", blob.Ensure(t.Context(), b, "n", []byte("yours")), blob.ErrExists)
	wantContent(t, b, "n", "mine")
}

func testCancelled(t *testing.T, open func() blob.Bucket) {
	b := open()
	v := create(t, b, "n", "x")
	w := writerOf(t, b, "w", "half")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough of it")
	cancel(cause)
	_, err := b.Create(ctx, "new", nil)
	wantErr(t, "Create", err, cause)
	_, err = b.Replace(ctx, "n", v, nil)
	wantErr(t, "Replace", err, cause)
	_, err = b.Writer(ctx, "new")
	wantErr(t, "Writer", err, cause)
	_, _, err = b.Get(ctx, "n")
	wantErr(t, "Get", err, cause)
	_, err = b.Open(ctx, "n", 0, -1)
	wantErr(t, "Open", err, cause)
	_, err = b.Head(ctx, "n")
	wantErr(t, "Head", err, cause)
	_, err = b.List(ctx, blob.Query{})
	wantErr(t, "List", err, cause)
	wantErr(t, "Delete", b.Delete(ctx, "n"), cause)
	wantErr(t, "Commit", w.Commit(ctx), cause)
	wantNames(t, b, blob.Query{}, "n")
}

// testSweep: a sweep leaves those alone who began after the time it is given.
func testSweep(t *testing.T, open func() blob.Bucket) {
	b, other := open(), open()
	past := time.Now().Add(-time.Hour)
	if err := b.Sweep(t.Context(), past); err != nil {
		t.Fatal(err)
	}
	w := writerOf(t, b, "n", "alive")
	for _, sweeper := range []blob.Bucket{b, other} {
		if err := sweeper.Sweep(t.Context(), past); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatalf("behind a sweep: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			mine := open()
			for k := range 10 {
				if err := errors.Join(second(mine.Create(context.Background(), fmt.Sprintf("s/%d/%d", i, k), nil)), mine.Sweep(context.Background(), past)); err != nil {
					t.Errorf("beside a sweep: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := namesOf(t, other, blob.Query{Prefix: "s/"}); len(got) != 40 {
		t.Errorf("%d objects: %v", len(got), got)
	}
	wantContent(t, b, "n", "alive")
}

// testCreators: of all who create one name, exactly one succeeds, and its content is there.
func testCreators(t *testing.T, open func() blob.Bucket) {
	const names, creators = 12, 6
	winners := make([]atomic.Int32, names)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for c := range creators {
		b := open()
		wg.Go(func() {
			<-begin
			for n := range names {
				name := fmt.Sprintf("folder %d/n", n)
				data := strings.Repeat(strconv.Itoa(c), 1000)
				err := second(b.Create(context.Background(), name, []byte(data)))
				if c%2 == 1 && errors.Is(err, blob.ErrExists) {
					w := writerOf(t, b, name, data)
					err = w.Commit(context.Background())
				}
				switch {
				case err == nil:
					if before := winners[n].Swap(int32(c) + 1); before != 0 {
						t.Errorf("%s was created by %d and by %d", name, before-1, c)
					}
				case !errors.Is(err, blob.ErrExists):
					t.Errorf("%s: %v", name, err)
				}
				if got, _, err := b.Get(context.Background(), name); err != nil || len(got) != 1000 || len(bytes.Trim(got, string(got[:1]))) > 0 {
					t.Errorf("%s holds %.20q, %v, while it is created", name, got, err)
				}
			}
		})
	}
	close(begin)
	wg.Wait()
	b := open()
	for n := range names {
		wantContent(t, b, fmt.Sprintf("folder %d/n", n), strings.Repeat(strconv.Itoa(int(winners[n].Load())-1), 1000))
	}
}

// testReplacers: no replacement is lost, and none is made twice. Each adds an id of its own, and
// so finds out about one that was made and whose answer was lost.
func testReplacers(t *testing.T, open func() blob.Bucket) {
	b := open()
	create(t, b, "list", "")
	const writers, each = 4, 8
	var wg sync.WaitGroup
	for w := range writers {
		mine := open()
		wg.Go(func() {
			for done := 0; done < each; {
				id := fmt.Sprintf("%d-%d", w, done)
				text, v, err := mine.Get(context.Background(), "list")
				if err != nil {
					t.Error(err)
					return
				}
				if slices.Contains(strings.Fields(string(text)), id) {
					done++
					continue
				}
				if _, err := mine.Replace(context.Background(), "list", v, append(text, " "+id...)); err != nil && !errors.Is(err, blob.ErrChanged) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	text, _, err := b.Get(t.Context(), "list")
	ids := strings.Fields(string(text))
	slices.Sort(ids)
	if err != nil || len(ids) != writers*each || len(slices.Compact(ids)) != writers*each {
		t.Errorf("the list has %d of %d, %v: %s", len(ids), writers*each, err, text)
	}
}
