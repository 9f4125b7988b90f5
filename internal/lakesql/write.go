package lakesql

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/weirdata/weir/internal/jsontext"
)

// WriteCSV writes all rows as CSV, with a line of the names first; null is an empty field.
func (r *Rows) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	err := c.Write(r.Columns)
	cells := make([]string, len(r.Columns))
	for err == nil {
		row, ok := r.Next()
		if !ok {
			break
		}
		for i, v := range row {
			cells[i] = ""
			if v != nil {
				cells[i] = text(v)
			}
		}
		err = c.Write(cells)
	}
	c.Flush()
	return errors.Join(err, c.Error(), r.Close())
}

// WriteJSON writes all rows as JSON objects, one a line. Objects and lists are what they were.
func (r *Rows) WriteJSON(w io.Writer) error {
	b := bufio.NewWriter(w)
	var err error
	for err == nil {
		row, ok := r.Next()
		if !ok {
			break
		}
		line := []byte{'{'}
		for i, v := range row {
			if i > 0 {
				line = append(line, ',')
			}
			line = append(jsontext.AppendString(line, r.Columns[i]), ':')
			line = r.appendJSON(line, i, v)
		}
		_, err = b.Write(append(line, '}', '\n'))
	}
	return errors.Join(err, b.Flush(), r.Close())
}

func (r *Rows) appendJSON(line []byte, i int, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(line, "null"...)
	case bool:
		return strconv.AppendBool(line, v)
	case int64:
		return strconv.AppendInt(line, v, 10)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return append(line, "null"...)
		}
		return append(line, text(v)...)
	}
	s := text(v)
	if r.json[i] && json.Valid([]byte(s)) {
		return append(line, s...)
	}
	return jsontext.AppendString(line, s)
}

// Cells writes all rows to f as texts without control characters, null as NULL. The cells are
// valid until f returns.
func (r *Rows) Cells(f func(cells []string) error) error {
	cells := make([]string, len(r.Columns))
	var err error
	for err == nil {
		row, ok := r.Next()
		if !ok {
			break
		}
		for i, v := range row {
			cells[i] = "NULL"
			if v != nil {
				cells[i] = shown(text(v))
			}
		}
		err = f(cells)
	}
	return errors.Join(err, r.Close())
}

// text is a value as text.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Sprint(v)
		}
		if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
			return strconv.FormatFloat(v, 'e', -1, 64)
		}
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	return fmt.Sprint(v)
}

// shown is text as it may be shown on a terminal: nothing in it is a command to that.
func shown(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Page is the first rows of an answer, as texts; nil is null.
type Page struct {
	Columns []string
	Rows    [][]*string
	// More says that there are more rows than that, and Cut that a cell is longer than what is here.
	More, Cut bool
}

// PageLimits bound a page: rows, bytes of all cells, and bytes of one.
type PageLimits struct{ Rows, Bytes, Cell int }

// Page reads as many rows as the limits allow, and ends the answer.
func (r *Rows) Page(most PageLimits) (*Page, error) {
	p := &Page{Columns: r.Columns}
	for size := 0; ; {
		row, ok := r.Next()
		if !ok {
			break
		}
		if len(p.Rows) == most.Rows || size >= most.Bytes {
			p.More = true
			break
		}
		cells := make([]*string, len(row))
		for i, v := range row {
			if v == nil {
				continue
			}
			s := text(v)
			if len(s) > most.Cell {
				s, p.Cut = s[:most.Cell], true
			}
			s = strings.ToValidUTF8(s, "\uFFFD")
			size += len(s)
			cells[i] = &s
		}
		p.Rows = append(p.Rows, cells)
	}
	return p, r.Close()
}
