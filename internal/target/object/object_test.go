package object_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/target/object"
)

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(object.Entry), "../../..") }

func build(t *testing.T, dir string, change func(*object.Config)) connector.Target {
	t.Helper()
	target, err := object.Entry.Build(t.Context(), connector.Deps{Dir: dir}, func(into any) error {
		c := into.(*object.Config)
		c.Path = "out"
		if change != nil {
			change(c)
		}
		if ps := c.Validate(); len(ps) > 0 {
			return fmt.Errorf("%v", ps)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func opened(t *testing.T, dir string, change func(*object.Config)) connector.Target {
	t.Helper()
	target := build(t, dir, change)
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return target
}

// objects is the content by name.
func objects(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	root := filepath.Join(dir, "out")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || strings.Contains(path, ".staging") {
			return err
		}
		data, err := os.ReadFile(path)
		got[strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(root)+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func conformance(t *testing.T, change func(*object.Config), lines bool, refused [][]byte) {
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			dir := t.TempDir()
			return func() connector.Target { return build(t, dir, change) }, func() [][]byte {
				var ps [][]byte
				for _, o := range objects(t, dir) {
					if !lines {
						ps = append(ps, []byte(o))
						continue
					}
					for l := range bytes.Lines([]byte(o)) {
						ps = append(ps, bytes.TrimSuffix(l, []byte("\n")))
					}
				}
				return ps
			}
		},
		Refused: refused,
		Broken: func(t *testing.T) connector.Target {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "out"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return build(t, dir, change)
		},
		Want:     fault.Setup,
		Features: conntest.TargetFeatures{Binary: !lines, Empty: true},
	})
}

func TestConformance(t *testing.T) {
	t.Run("batch", func(t *testing.T) { conformance(t, nil, true, [][]byte{[]byte("two\nlines")}) })
	t.Run("message", func(t *testing.T) {
		conformance(t, func(c *object.Config) { c.Each = "message" }, false, nil)
	})
}

// at is a message that a source has read at a place, at a time.
func at(n int, payload string) *event.Message {
	m := event.New([]byte(payload))
	m.Meta.Origin = &event.Origin{Stream: "orders", Partition: "3", Position: []byte{0, byte(n)}, At: time.Date(2026, 11, 29, 18, 5, n, 7e6, time.UTC)}
	m.Times.Read = time.Now()
	return m
}

func write(t *testing.T, target connector.Target, b ...*event.Message) map[int]error {
	t.Helper()
	err := target.Write(t.Context(), b)
	if partial, ok := errors.AsType[*connector.Partial](err); ok {
		return partial.Failed
	}
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

// TestKeys: the expressions of a key.
func TestKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"x/!{field:shop.id}": "x/a%2Fb",
		"!{timestamp:yyyy/MM/dd/HH}/!{field:n}!{extension}":        "2026/11/29/18/7.json",
		"year=!{yyyy}/month=!{MM}/day=!{dd}/!{HH}-!{mm}!{field:n}": "year=2026/month=11/day=29/18-057",
		"!{timestamp:'at 'yyyyMMdd''HHmmss.SSS}-!{field:n}":        "at 20261129'180501.007-7",
		"!{stream}/!{partition}/!{field:n}":                        "orders/3/7",
	} {
		dir := t.TempDir()
		target := opened(t, dir, func(c *object.Config) { c.Name, c.Each = key, "message" })
		if failed := write(t, target, at(1, `{"shop":{"id":"a/b"},"n":7}`)); len(failed) > 0 {
			t.Errorf("%s: %v", key, failed)
		}
		if _, ok := objects(t, dir)[want]; !ok {
			t.Errorf("%s: %v, want %s", key, objects(t, dir), want)
		}
	}
}

// TestFields: messages of different fields go to different objects, and one that has no field,
// or leads elsewhere, harms nobody.
func TestFields(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := opened(t, dir, func(c *object.Config) { c.Name = "shop=!{field:shop}/!{unique}" })
	failed := write(t, target, at(1, `{"shop":"a"}`), at(2, `{"shop":"b"}`), at(3, `{"n":1}`), at(4, `{"shop":"a","n":2}`), at(5, `{"shop":".."}`),
		at(6, `no JSON`), at(7, `{"shop":"`+strings.Repeat("x", 300)+`"}`), at(8, "{\"shop\":\"a\",\n\"n\":3}"), at(9, `{"shop":"../../etc"}`))
	for i, n := range []int{2, 5, 6, 7} {
		if fault.Of(failed[n]) != fault.Invalid || len(failed) != 4 {
			t.Errorf("%d: message %d: %v of %v", i, n, failed[n], failed)
		}
	}
	folders := map[string]string{}
	for name, content := range objects(t, dir) {
		folders[strings.SplitN(name, "/", 2)[0]] = content
	}
	want := map[string]string{"shop=a": "{\"shop\":\"a\"}\n{\"shop\":\"a\",\"n\":2}\n", "shop=b": "{\"shop\":\"b\"}\n", "shop=%2E%2E": "{\"shop\":\"..\"}\n", "shop=%2E.%2F..%2Fetc": "{\"shop\":\"../../etc\"}\n"}
	if len(folders) != len(want) {
		t.Errorf("%v", folders)
	}
	for folder, content := range want {
		if folders[folder] != content {
			t.Errorf("%s holds %q, want %q", folder, folders[folder], content)
		}
	}
	group := target.(connector.Limiter).Limits().Group
	if group == nil || group(at(1, `{"shop":"a"}`)) == group(at(2, `{"shop":"b"}`)) || group(at(1, `{"shop":"a"}`)) != group(at(2, `{"shop":"a"}`)) {
		t.Error("batches are not of one shop each")
	}
}

// TestDeliveredAgain: the same messages again, after a restart too, are the object that is
// there; others, in another order or without a place are not.
func TestDeliveredAgain(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"none", "gzip", "zstd"} {
		dir := t.TempDir()
		batch := func() []*event.Message { return []*event.Message{at(1, "one"), at(2, "two")} }
		for range 3 {
			target := opened(t, dir, func(c *object.Config) { c.Compression = compression })
			if failed := write(t, target, batch()...); len(failed) > 0 {
				t.Fatal(failed)
			}
		}
		got := objects(t, dir)
		if len(got) != 1 {
			t.Errorf("%s: %v", compression, got)
		}
		for name, content := range got {
			if !strings.HasPrefix(name, "2026/11/29/18/") || !strings.HasSuffix(name, map[string]string{"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}[compression]) {
				t.Errorf("the name is %s", name)
			}
			if text := unpacked(t, compression, content); text != "one\ntwo\n" {
				t.Errorf("%s: %q", compression, text)
			}
		}
		target := opened(t, dir, func(c *object.Config) { c.Compression = compression })
		for _, b := range [][]*event.Message{{at(2, "two"), at(1, "one")}, {at(1, "one")}, {at(1, "other"), at(2, "two")}, {at(3, "one"), at(4, "two")}, {event.New([]byte("one"))}, {event.New([]byte("one"))}} {
			if failed := write(t, target, b...); len(failed) > 0 {
				t.Fatal(failed)
			}
		}
		if got := objects(t, dir); len(got) != 7 {
			t.Errorf("%s: %d objects, want 7", compression, len(got))
		}
	}
}

func unpacked(t *testing.T, compression, content string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(content)
	var err error
	switch compression {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(r)
		if err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExisting: a key of fields alone meets what is there.
func TestExisting(t *testing.T) {
	t.Parallel()
	for _, existing := range []string{"refuse", "replace"} {
		dir := t.TempDir()
		target := opened(t, dir, func(c *object.Config) { c.Name, c.Each, c.Existing = "!{field:id}", "message", existing })
		if failed := write(t, target, at(1, `{"id":1,"n":1}`), at(2, `{"id":2}`), at(3, `{"id":1,"n":2}`)); len(failed) > 0 {
			t.Fatal(failed)
		}
		if failed := write(t, target, at(3, `{"id":1,"n":2}`)); len(failed) > 0 { // the same again
			t.Fatal(failed)
		}
		failed := write(t, target, at(4, `{"id":1,"n":3}`), at(5, `{"id":3}`))
		want := `{"id":1,"n":3}`
		if existing == "refuse" {
			want = `{"id":1,"n":2}`
			if len(failed) != 1 || fault.Of(failed[0]) != fault.Invalid {
				t.Errorf("%v", failed)
			}
		} else if len(failed) > 0 {
			t.Errorf("%v", failed)
		}
		got := objects(t, dir)
		if got["1"] != want || got["3"] != `{"id":3}` || len(got) != 3 {
			t.Errorf("%s: %v", existing, got)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	text := "x"
	for field, change := range map[string]func(*object.Config){
		"path":                       func(c *object.Config) { c.Path = "s4://bucket/x" },
		"each":                       func(c *object.Config) { c.Each = "event" },
		"existing":                   func(c *object.Config) { c.Existing = "replace" },
		"compression":                func(c *object.Config) { c.Compression = "lz4" },
		"delimiter":                  func(c *object.Config) { c.Each, c.Delimiter = "message", &text },
		"metadata":                   func(c *object.Config) { c.Metadata = map[string]string{"a b": ""} },
		"batching.max_message_bytes": func(c *object.Config) { b := *c.Batching; b.MaxMessageBytes = 1 << 40; c.Batching = &b },
	} {
		c := *object.Entry.Default().(*object.Config)
		c.Path = "x"
		if ps := c.Validate(); len(ps) > 0 {
			t.Fatalf("the default is refused: %v", ps)
		}
		change(&c)
		ps := c.Validate()
		if !slices.ContainsFunc(ps, func(p connector.Problem) bool { return p.Field == field && p.Fix != "" }) {
			t.Errorf("%s: %v", field, ps)
		}
	}
	for _, key := range []string{"", "/x/!{unique}", "a//!{unique}", "!{unique}/", "x", "!{unique", "!{nothing}", "!{timestamp:}/!{unique}", "!{timestamp:EEEEE}/!{unique}", "!{timestamp:MMMMM}/!{unique}",
		"!{timestamp:'x}/!{unique}", "!{partitionKeyFromQuery:k}/!{unique}", "!{firehose:error-output-type}/!{unique}", "../!{unique}", "!{field:}/!{unique}", "a\\!{unique}"} {
		c := *object.Entry.Default().(*object.Config)
		c.Path, c.Name = "x", key
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != "name" || ps[0].Fix == "" {
			t.Errorf("key %q: %v", key, ps)
		}
	}
}
