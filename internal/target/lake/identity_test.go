package lake

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weirdata/weir/internal/event"
)

// readFrom is events as a source reads them, of the partition, from the position on.
func readFrom(partition string, from int, events ...string) event.Batch {
	b := batch(events...)
	event.Origins(b, "stream", partition, func(i int) uint64 { return uint64(from + i) })
	return b
}

// TestDeliveredAgain: events with positions land once in any grouping, alone and beside new ones,
// in one write and over closings, whatever a transform makes of them the second time.
func TestDeliveredAgain(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	c := config(path, func(c *Config) { c.PartitionBy = nil })
	target := opened(t, c)
	a, b := `{"n":1}`, `{"n":2}`
	writes(t, target, readFrom("p", 1, a, b, b))
	writes(t, target, append(readFrom("p", 2, b, b, a), readFrom("q", 1, a)...))
	again := readFrom("p", 1, a, b)
	again[1].Replace([]byte(`{"n":"made again, and not the same"}`))
	writes(t, target, append(again, readFrom("p", 2, b)...))
	if err := target.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	target = opened(t, c)
	writes(t, target, append(readFrom("p", 4, a), readFrom("p", 5, b)...))
	writes(t, target, append(readFrom("p", 5, b), readFrom("p", 5, b)...))
	want := []string{`. {"n":1}`, `. {"n":1}`, `. {"n":1}`, `. {"n":2}`, `. {"n":2}`, `. {"n":2}`}
	if got := landed(t, path); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// TestAnotherEventAtAPosition: a stream that was made anew has other events where there were
// some; they are no less new for that.
func TestAnotherEventAtAPosition(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.PartitionBy = nil }))
	writes(t, target, readFrom("p", 1, `{"n":1}`, `{"n":2}`))
	writes(t, target, readFrom("p", 1, `{"n":3}`, `{"n":2}`, `{"n":4}`))
	if got := landed(t, path); len(got) != 4 {
		t.Errorf("rows %v, want 4", got)
	}
}

// TestPieces: what one message became is recognised piece by piece.
func TestPieces(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.PartitionBy = nil }))
	pieces := func() event.Batch {
		b := readFrom("p", 1, `whole`)[0].Split([]byte(`{"n":1}`), []byte(`{"n":1}`), []byte(`{"n":2}`))
		for i, m := range b {
			m.Meta.Piece = uint32(i)
		}
		return b
	}
	writes(t, target, pieces()[:2])
	writes(t, target, pieces())
	if got := fmt.Sprint(landed(t, path)); got != `[. {"n":1} . {"n":1} . {"n":2}]` {
		t.Errorf("rows %s", got)
	}
}

func BenchmarkIdentities(b *testing.B) {
	events := make([]string, 20_000)
	for i := range events {
		events[i] = fmt.Sprintf(`{"n":%d,"pad":"%0280d"}`, i, i)
	}
	batch := readFrom("p", 1, events...)
	for b.Loop() {
		identities(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
}
