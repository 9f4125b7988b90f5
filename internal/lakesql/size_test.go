package lakesql_test

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/lakesql"
	"github.com/weirdata/weir/internal/parquet"
)

// sized makes a dataset of so many files of five rows, a hundred in each landing and each in an hour of its
// own, with a hundred columns.
func sized(b *testing.B, files int) string {
	b.Helper()
	const columns, each, rows = 100, 100, 5
	path := filepath.Join(b.TempDir(), "wide")
	d, err := catalog.Open(b.Context(), path, catalog.Options{Layout: catalog.Units()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	}()
	var text strings.Builder
	for i := range columns {
		fmt.Fprintf(&text, `,"column_%d":%d`, i, i)
	}
	base := d.Schema()
	decoder := parquet.NewDecoder(base, decoding)
	for first := 0; first < files; first += each {
		var hours []time.Time
		var partitions []string
		for i := range each {
			at := ten.AddDate(-1, 0, 0).Add(time.Duration((first+i)%2000) * time.Hour)
			hours, partitions = append(hours, at), append(partitions, catalog.Layout(catalog.Units()).Partition(at))
		}
		l, err := d.Plan(b.Context(), partitions)
		if err != nil {
			b.Fatal(err)
		}
		for i, at := range hours {
			r := parquet.NewRows()
			for n := range rows {
				if err := decoder.Decode(fmt.Appendf(nil, `{"n":%d%s}`, first+i+n, text.String())); err != nil {
					b.Fatal(err)
				}
				r.Append(decoder)
			}
			if decoder.Changed() && base.Version == 0 {
				if err := d.Evolve(b.Context(), base, decoder.Schema()); err != nil {
					b.Fatal(err)
				}
				base = decoder.Schema()
			}
			err := l.Write(b.Context(), i, catalog.File{Partition: partitions[i], Record: catalog.Record{Rows: rows, First: at, Last: at, At: at},
				Write: func(w io.Writer) error { return r.Write(w, base, nil) }})
			if err != nil {
				b.Fatal(err)
			}
			r.Release()
		}
		if err := l.Commit(b.Context(), func(int) bool { return false }, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	return path
}

// BenchmarkAtSize is what it costs to look into a dataset of many small files, to plan its compaction and
// to open it for writing: ten times the files have to cost about ten times as much, and ls and open
// less than a second at ten thousand.
func BenchmarkAtSize(b *testing.B) {
	for _, files := range []int{1000, 10_000} {
		path := sized(b, files)
		measure := func(name string, do func() error) {
			b.Run(fmt.Sprintf("files=%d/%s", files, name), func(b *testing.B) {
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		measure("ls", func() error {
			s, err := catalog.Describe(b.Context(), path)
			if err == nil && s.Files != files {
				err = fmt.Errorf("%d files", s.Files)
			}
			return err
		})
		query := func(text string) func() error {
			return func() error {
				db, err := lakesql.Open(b.Context(), path, lakesql.Options{})
				if err != nil {
					return err
				}
				defer func() { _ = db.Close() }()
				rows, err := db.Query(b.Context(), text)
				if err != nil {
					return err
				}
				return rows.WriteJSON(io.Discard)
			}
		}
		measure("sql/all", query("SELECT count(*), sum(column_7) FROM wide"))
		measure("sql/day", query("SELECT count(*), sum(column_7) FROM wide WHERE year = 2025 AND month = 12 AND day = 1"))
		measure("plan", func() error {
			return catalog.Compact(b.Context(), path, catalog.CompactOptions{DryRun: true})
		})
		measure("open", func() error {
			d, err := catalog.Open(b.Context(), path, catalog.Options{Layout: catalog.Units()})
			if err != nil {
				return err
			}
			return d.Close()
		})
	}
}
