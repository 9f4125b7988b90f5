package snowplow

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

// TestUsualSorts: what has the usual form sorts as text in the order of time.
func TestUsualSorts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		form := func(name string) string {
			at := time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, name), rapid.Int64Range(0, 999).Draw(t, name+" ms")*1e6).UTC()
			return at.Format(rapid.SampledFrom([]string{collectorLayout, "2006-01-02 15:04:05.000", "2006-01-02 15:04:05"}).Draw(t, name+" layout"))
		}
		a, b := form("a"), form("b")
		if !usual(a) || !usual(b) {
			t.Fatalf("%q or %q is not usual", a, b)
		}
		x, errA := time.Parse(collectorLayout, a)
		y, errB := time.Parse(collectorLayout, b)
		if errA != nil || errB != nil || a < b && x.After(y) {
			t.Fatalf("%q and %q are %s and %s", a, b, x, y)
		}
	})
}

func FuzzCollected(f *testing.F) {
	f.Add([]byte("a\tb\tc\t2026-05-26 16:45:15.123\t"))
	f.Add([]byte("\t\t\t"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m := event.New(line)
		text := collected(m)
		fields := strings.Split(string(line), "\t")
		want := ""
		if len(fields) > int(CollectorTstamp)+1 {
			want = fields[CollectorTstamp]
		}
		if text != want {
			t.Errorf("%q, want %q", text, want)
		}
		if _, err := time.Parse(collectorLayout, text); err == nil && len(text) < 19 {
			t.Errorf("%q is a timestamp", text)
		}
		if usual(text) && strings.Trim(text, "0123456789-:. ") != "" {
			t.Errorf("%q is usual", text)
		}
	})
}
