package object_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/target/object"
)

// made is a target in a block of a config, or why there is none.
func made(dir, block string, change func(*object.Config)) (connector.Target, error) {
	return object.Entry.Build(context.Background(), connector.Deps{Dir: dir, Pipeline: "orders", Component: block + ".object"}, func(into any) error {
		c := into.(*object.Config)
		c.Path = "out"
		change(c)
		if ps := c.Validate(); len(ps) > 0 {
			return &connector.Misconfigured{Field: ps[0].Field, Fix: ps[0].Fix, Err: errors.New(ps[0].What)}
		}
		return nil
	})
}

func prefixed(prefix string) func(*object.Config) {
	return func(c *object.Config) { c.Prefix = &prefix }
}

// TestPrefix: names are as Firehose's, with the partition keys of the messages; what is delivered
// again is there already.
func TestPrefix(t *testing.T) {
	t.Parallel()
	const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	batch := func() []*event.Message {
		var b []*event.Message
		for n, shop := range []string{"a", "b/c", "a", ""} {
			m := at(n, `{"n":1}`)
			if shop != "" {
				firehose.FromQuery.Set(m, "shop", shop)
			}
			firehose.FromLambda.Set(m, "year", "2026")
			b = append(b, m)
		}
		return b
	}
	for _, row := range []struct {
		prefix, zone string
		want         []string
		failed       int
	}{
		{"logs", "UTC", []string{`logs2026/11/29/18/orders-1-2026-11-29-18-05-00-` + uuid}, 0},
		{"", "Asia/Tokyo", []string{`2026/11/30/03/orders-1-2026-11-30-03-05-00-` + uuid}, 0},
		{"s=!{partitionKeyFromQuery:shop}/y=!{partitionKeyFromLambda:year}/", "UTC",
			[]string{`s=a/y=2026/orders-1-2026-11-29-18-05-00-` + uuid, `s=b%2Fc/y=2026/orders-1-2026-11-29-18-05-01-` + uuid}, 1},
	} {
		dir := t.TempDir()
		target, err := made(dir, "target", func(c *object.Config) { c.Prefix, c.CustomTimeZone = &row.prefix, row.zone })
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			failed := write(t, target, batch()...)
			if len(failed) != row.failed {
				t.Errorf("%s: %v", row.prefix, failed)
			}
			for i, err := range failed {
				if f, ok := errors.AsType[*firehose.Failure](err); i != 3 || !ok || fault.Of(err) != fault.Invalid || f.Type != firehose.ProcessingFailedType {
					t.Errorf("%d: %v", i, err)
				}
			}
			got := objects(t, dir)
			for _, want := range row.want {
				n := 0
				for name := range got {
					if regexp.MustCompile("^" + want + "$").MatchString(name) {
						n++
					}
				}
				if n != 1 || len(got) != len(row.want) {
					t.Errorf("%q: %v, want one %s", row.prefix, got, want)
				}
			}
		}
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestErrorPrefix: failed records are told apart by what failed.
func TestErrorPrefix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, err := object.Entry.Build(t.Context(), connector.Deps{Dir: dir, Pipeline: "failures/orders", Component: "failure_target.object"}, func(into any) error {
		c := into.(*object.Config)
		c.Path = "out"
		prefixed("bad/!{firehose:error-output-type}/!{timestamp:yyyy}/")(c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var b []*event.Message
	for i, kind := range []firehose.OutputType{firehose.ProcessingFailedType, firehose.ConversionFailedType, firehose.PartitionsExceeded, "../../etc", ""} {
		m := at(i, `{"rawData":"errorOutputType"}`)
		row, err := failures.Format{}.Record(m, (&firehose.Failure{Type: kind, Code: "c", Message: "m"}).Refuse(), 0)
		if err != nil {
			t.Fatal(err)
		}
		m.Replace(row)
		b = append(b, m)
	}
	if failed := write(t, target, append(b, at(9, `{"schema":"iglu:another form"}`))...); len(failed) > 0 {
		t.Fatal(failed)
	}
	lines := map[string]int{}
	for name, content := range objects(t, dir) {
		if !strings.Contains(name, "/2026/orders-1-2026-11-29-") {
			t.Errorf("the name is %s", name)
		}
		lines[name[:strings.LastIndexByte(name, '/')]] += strings.Count(content, "\n")
	}
	if len(lines) != 3 || lines["bad/processing-failed/2026"] != 4 || lines["bad/format-conversion-failed/2026"] != 1 || lines["bad/activePartitionExceeded/2026"] != 1 {
		t.Errorf("%v", lines)
	}
	if err := target.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPrefixRefused: what Firehose refuses is refused before anything starts, at its place.
func TestPrefixRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		block, field string
		change       func(*object.Config)
	}{
		{"target", "prefix", prefixed("x/!{firehose:error-output-type}/")},
		{"target", "prefix", prefixed("x/!{timestamp:YYYY}/")},
		{"filter_target", "prefix", prefixed("x/!{nothing}/")},
		{"failure_target", "prefix", prefixed("x/!{timestamp:yyyy}/")},
		{"failure_target", "prefix", prefixed("!{firehose:error-output-type}/!{partitionKeyFromLambda:x}/")},
		{"target", "name", func(c *object.Config) { prefixed("x/")(c); c.Name = "!{unique}" }},
		{"target", "existing", func(c *object.Config) { prefixed("x/")(c); c.Existing = "replace" }},
		{"target", "extension", func(c *object.Config) { prefixed("x/")(c); e := "JSON"; c.Extension = &e }},
		{"target", "stream_name", func(c *object.Config) { prefixed("x/")(c); c.StreamName = "a/b" }},
		{"target", "stream_name", func(c *object.Config) { c.StreamName = "a" }},
		{"target", "custom_time_zone", func(c *object.Config) { c.CustomTimeZone = "Berlin" }},
		{"target", "max_partitions", func(c *object.Config) { c.MaxPartitions = 0 }},
		{"target", "when_exceeded", func(c *object.Config) { c.WhenExceeded = "drop" }},
	} {
		_, err := made(t.TempDir(), row.block, row.change)
		if m, ok := errors.AsType[*connector.Misconfigured](err); !ok || m.Field != row.field || m.Fix == "" {
			t.Errorf("%s %s: %v", row.block, row.field, err)
		}
	}
	for _, block := range []string{"target", "failure_target"} {
		if _, err := made(t.TempDir(), block, prefixed("plain/")); err != nil {
			t.Errorf("%s: %v", block, err)
		}
	}
}

// TestPartitionLimit: what the engine is told of partition keys.
func TestPartitionLimit(t *testing.T) {
	t.Parallel()
	for _, fail := range []bool{false, true} {
		target, err := made(t.TempDir(), "target", func(c *object.Config) {
			prefixed("!{partitionKeyFromQuery:shop}/")(c)
			if c.MaxPartitions = 3; fail {
				c.WhenExceeded = "fail"
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		l := target.(connector.Limiter).Limits()
		f, ok := errors.AsType[*firehose.Failure](l.Exceeded)
		if l.MaxGroups != 3 || !l.Joint || ok != fail || fail && f.Type != firehose.PartitionsExceeded {
			t.Errorf("%+v", l)
		}
	}
}

// TestCompressions: each is read by another's reader, and equal messages are equal bytes.
func TestCompressions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`{"n":12345,"text":"a line of some length"}`, 20_000)
	for compression, read := range map[string]func(data []byte) ([]byte, error){
		"gzip": func(data []byte) ([]byte, error) {
			r, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		},
		"zstd": func(data []byte) ([]byte, error) {
			r, err := zstd.NewReader(nil)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return r.DecodeAll(data, nil)
		},
		"zip": func(data []byte) ([]byte, error) {
			z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil || len(z.File) != 1 || strings.Contains(z.File[0].Name, "/") {
				return nil, errors.Join(err, errors.New("not one file"))
			}
			r, err := z.File[0].Open()
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		},
		"snappy": func(data []byte) ([]byte, error) {
			rest, ok := bytes.CutPrefix(data, []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1})
			if !ok {
				return nil, errors.New("no header of snappy-java")
			}
			var all []byte
			for len(rest) > 0 {
				n := binary.BigEndian.Uint32(rest)
				block, err := snappy.Decode(nil, rest[4:4+n])
				if err != nil {
					return nil, err
				}
				all, rest = append(all, block...), rest[4+n:]
			}
			return all, nil
		},
		"hadoop_snappy": func(rest []byte) ([]byte, error) {
			var all []byte
			for len(rest) > 0 {
				whole, n := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
				block, err := snappy.Decode(nil, rest[8:8+n])
				if err != nil || len(block) != int(whole) || n > 256<<10 {
					return nil, errors.Join(err, errors.New("a block of another length"))
				}
				all, rest = append(all, block...), rest[8+n:]
			}
			return all, nil
		},
	} {
		var seen string
		for range 2 {
			dir := t.TempDir()
			target, err := made(dir, "target", func(c *object.Config) { prefixed("x/")(c); c.Compression = compression })
			if err != nil {
				t.Fatal(err)
			}
			if err := target.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if failed := write(t, target, at(1, long), at(2, "two"), at(3, "")); len(failed) > 0 {
				t.Fatal(failed)
			}
			for name, content := range objects(t, dir) {
				text, err := read([]byte(content))
				if err != nil || string(text) != long+"\ntwo\n\n" {
					t.Errorf("%s: %d bytes, %v", compression, len(text), err)
				}
				if want := map[string]string{"gzip": ".gz", "zstd": ".zst", "zip": ".zip"}[compression]; !strings.HasSuffix(name, want) || want == "" && !strings.HasSuffix(name, ".snappy") {
					t.Errorf("%s: %s", compression, name)
				}
				if seen != "" && seen != name+content {
					t.Errorf("%s: equal messages are other bytes", compression)
				}
				seen = name + content
			}
			if err := target.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
