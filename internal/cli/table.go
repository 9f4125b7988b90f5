package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// tableWriter is a tabwriter that knows how wide the terminal is: lines of cells with tabs between,
// the first with the heads. What fits is aligned as ever, as is what goes into a file or a
// program. Otherwise a last column of sentences is wrapped, where that leaves it room, or long
// cells are cut, but for the first, by which the line is called; and where that is not enough,
// each line becomes a few lines of its own.
type tableWriter struct {
	w         io.Writer
	width     int  // 0: any
	sentences bool // in the last column
	text      bytes.Buffer
}

func newTable(w io.Writer) *tableWriter { return &tableWriter{w: w, width: columns(w)} }

// Write takes lines of cells.
func (t *tableWriter) Write(p []byte) (int, error) { return t.text.Write(p) }

const (
	gap      = 2  // between columns
	leastCut = 8  // no cell is cut to less
	leastOf  = 20 // the last column is wrapped to no less
)

// Flush prints the table.
func (t *tableWriter) Flush() error {
	var rows [][]string
	for line := range strings.Lines(t.text.String()) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	widths := widest(rows)
	fixed := 0
	for _, n := range widths[:max(len(widths)-1, 0)] {
		fixed += n + gap
	}
	last := len(widths) - 1
	switch {
	case t.width == 0 || last < 0 || fixed+widths[last] <= t.width:
	case t.sentences && t.width-fixed >= leastOf:
		rows = wrapLast(rows, last, t.width-fixed)
	case len(rows) > 1 && !cut(rows, widths, t.width):
		return t.records(rows)
	}
	aligned := tabwriter.NewWriter(t.w, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(aligned, strings.Join(row, "\t"))
	}
	t.text.Reset()
	return aligned.Flush()
}

func widest(rows [][]string) (widths []int) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// wrapLast breaks the cells of the last column into lines of width.
func wrapLast(rows [][]string, last, width int) (out [][]string) {
	for _, row := range rows {
		if len(row) <= last {
			out = append(out, row)
			continue
		}
		lines := wrap(row[last], width)
		if len(lines) == 0 {
			lines = []string{""}
		}
		for i, line := range lines {
			cells := make([]string, last, last+1)
			if i == 0 {
				copy(cells, row)
			}
			out = append(out, append(cells, clipped(line, width)))
		}
	}
	return out
}

// cut shortens the cells of the widest columns behind the first until the table has width; false
// says that it cannot have.
func cut(rows [][]string, widths []int, width int) bool {
	total := func() (n int) {
		for _, w := range widths {
			n += w + gap
		}
		return n - gap
	}
	for total() > width {
		if len(widths) < 2 {
			return false
		}
		i := 1 + slices.Index(widths[1:], slices.Max(widths[1:]))
		if widths[i] <= leastCut {
			return false
		}
		widths[i]--
	}
	for _, row := range rows {
		for i := range row {
			row[i] = clipped(row[i], widths[i])
		}
	}
	return true
}

// clipped is a cell in at most width columns.
func clipped(cell string, width int) string {
	if utf8.RuneCountInString(cell) <= width {
		return cell
	}
	return shorten(cell, width-1) // and a mark that something is missing
}

// records prints each line as its first cell, and below it the others with their heads.
func (t *tableWriter) records(rows [][]string) error {
	heads := rows[0]
	var b strings.Builder
	for _, row := range rows[1:] {
		fmt.Fprintln(&b, row[0])
		line := ""
		for i, cell := range row[1:] {
			if i+1 >= len(heads) || cell == "" {
				continue
			}
			pair := strings.ToLower(heads[i+1]) + " " + cell
			if line != "" && gap+utf8.RuneCountInString(line)+gap+utf8.RuneCountInString(pair) > t.width {
				fmt.Fprintln(&b, strings.Repeat(" ", gap)+line)
				line = ""
			}
			if line != "" {
				line += strings.Repeat(" ", gap)
			}
			line += pair
		}
		if line != "" {
			fmt.Fprintln(&b, strings.Repeat(" ", gap)+line)
		}
	}
	t.text.Reset()
	_, err := io.WriteString(t.w, b.String())
	return err
}

// columns is how wide the terminal is that w writes to; 0 when it is none, or does not say.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !terminal(f) {
		return 0
	}
	return windowWidth(f)
}
