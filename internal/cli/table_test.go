package cli

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTablesFit: whatever is in a table and however wide the terminal is, no line is wider
// than it where the cells allow that at all, and the first cell of each row is there, whole.
func TestTablesFit(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	word := func(most int) string { return strings.Repeat("é", 1+random.IntN(most)) }
	for range 3000 {
		var out bytes.Buffer
		table := newTable(&out)
		table.width, table.sentences = 24+random.IntN(120), random.IntN(2) == 0
		columns := 2 + random.IntN(7)
		heads := []string{"ID"}
		for i := 1; i < columns; i++ {
			heads = append(heads, strings.ToUpper(word(8)))
		}
		fmt.Fprintln(table, strings.Join(heads, "\t"))
		var firsts []string
		for range 1 + random.IntN(6) {
			row := []string{word(12)}
			for i := 1; i < columns; i++ {
				row = append(row, word(8+random.IntN(8)))
			}
			if table.sentences {
				row[columns-1] += strings.Repeat(" "+word(8), random.IntN(20))
			}
			firsts = append(firsts, row[0])
			fmt.Fprintln(table, strings.Join(row, "\t"))
		}
		width := table.width
		if err := table.Flush(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if n := utf8.RuneCountInString(strings.TrimRight(line, " ")); n > width {
				// A pair of a head and a cell on a line of its own may be wider.
				if strings.HasPrefix(line, "  ") && !strings.Contains(strings.TrimSpace(line), "  ") {
					continue
				}
				t.Fatalf("a line has %d of %d columns:\n%s", n, width, text)
			}
		}
		rest := "\n" + text
		for _, first := range firsts {
			var found bool
			if _, rest, found = strings.Cut(rest, "\n"+first); !found {
				t.Fatalf("%q is not there:\n%s", first, text)
			}
		}
	}
}

// TestLiveLineFits: where the terminal is narrow, what matters least is left out first.
func TestLiveLineFits(t *testing.T) {
	t.Parallel()
	parts := totals{read: 20_000, written: 19_000, filtered: 12, failed: 3, flying: 40}.parts(totals{}, 1e9, 5e9)
	before := 1 << 10
	for width := 200; width > 0; width-- {
		line := fit(parts, "  queued 7  dead 0", width)
		for _, part := range []string{"in 20k/s", "out 19k/s", "failed 3", "in flight 40", "queued 7", "dead 0"} {
			if !strings.Contains(line, part) {
				t.Fatalf("%d columns: %q is not in %q", width, part, line)
			}
		}
		if len(line) > before {
			t.Fatalf("%d columns: more is shown than in %d: %q", width, width+1, line)
		}
		before = len(line)
	}
	if whole := fit(parts, "", 0); !strings.Contains(whole, "filtered") || !strings.Contains(whole, "total") || whole != fit(parts, "", 200) {
		t.Errorf("where there is room: %q", whole)
	}
}
