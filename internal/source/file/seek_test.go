package file

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestSeekMoved reads a range of a file that was renamed, and compressed, and removed since; and
// of one that was truncated.
func TestSeekMoved(t *testing.T) {
	t.Parallel()
	for _, positions := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			open := func() *Source {
				return opened(t, source(dir, "app.log*", func(c *Config) {
					c.Follow = true
					if positions {
						c.PositionFile = path("position")
					}
				}))
			}
			s := open()
			var all event.Batch
			for i := range 20 {
				appendTo(t, path("app.log"), fmt.Sprintf("line %d\n", i))
			}
			b, ack, err := s.Read(t.Context(), connector.Room{})
			if err != nil || len(b) != 20 {
				t.Fatalf("%d messages, %v", len(b), err)
			}
			all = b
			if err := ack(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			place := func(m *event.Message) connector.Position {
				return connector.Position{Bytes: m.Meta.Origin.Position}
			}
			r := connector.Range{Stream: all[3].Meta.Origin.Stream, Partition: all[3].Meta.Origin.Partition, First: place(all[3]), Last: place(all[12])}
			seeks := func(when string, there bool) {
				t.Helper()
				p, err := s.Seek(t.Context(), r)
				var got event.Batch
				for err == nil {
					var some event.Batch
					some, err = p.Read(t.Context(), connector.Room{Messages: 4})
					got = append(got, some...)
				}
				if !there {
					if fault.Of(err) != fault.Invalid {
						t.Errorf("%s: %d messages, %v, want that it is gone", when, len(got), err)
					}
					return
				}
				if err != io.EOF || len(got) != 10 {
					t.Errorf("%s: %d messages, %v, want 10", when, len(got), err)
					return
				}
				for i, m := range got {
					if string(m.Data) != fmt.Sprint("line ", i+3) || m.Meta.Origin.Compare(all[i+3].Meta.Origin) != 0 || m.Meta.Origin.Partition != r.Partition {
						t.Errorf("%s: message %d is %s", when, i, m.Data)
					}
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			rename(t, path("app.log"), path("app.log.1"))
			seeks("renamed, and nobody has looked", true)
			appendTo(t, path("app.log"), "new\n")
			wantLines(t, "renamed", everything(t, s), "new")
			seeks("renamed", true)
			content, err := os.ReadFile(path("app.log.1"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, path("app.log.1.gz"), string(compressed(t, "gzip", string(content))))
			if err := os.Remove(path("app.log.1")); err != nil {
				t.Fatal(err)
			}
			for range 10 { // until the file that is gone is let go
				wantLines(t, "compressed", everything(t, s), "")
			}
			seeks("compressed", true)
			if positions {
				closed(t, s)
				s = open()
				wantLines(t, "restarted", everything(t, s), "")
				seeks("compressed before a restart", true)
			}
			if err := os.Remove(path("app.log.1.gz")); err != nil {
				t.Fatal(err)
			}
			seeks("removed", false)

			appendTo(t, path("app.log"), "last\n")
			b, _, err = s.Read(t.Context(), connector.Room{})
			if err != nil || len(b) != 1 {
				t.Fatalf("%d messages, %v", len(b), err)
			}
			r.Partition, r.First, r.Last = b[0].Meta.Origin.Partition, place(b[0]), place(b[0])
			write(t, path("app.log"), "abc\nold!\n")
			seeks("truncated, and nobody has looked", false)
			everything(t, s)
			seeks("truncated", false)
			closed(t, s)
		})
	}
}
