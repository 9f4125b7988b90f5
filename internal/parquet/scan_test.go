package parquet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/parquet"
)

// closer is bytes as a file.
type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

// jsonOf is a cell as the JSON that its column was made of; empty for none.
func jsonOf(t *testing.T, c parquet.Cell) string {
	t.Helper()
	var v any
	switch c.Kind {
	case parquet.Unknown:
		return ""
	case parquet.Bool:
		v = c.Int == 1
	case parquet.Int:
		v = c.Int
	case parquet.Double:
		v = c.Real
	case parquet.String:
		v = string(c.Text)
	case parquet.JSON:
		v = json.RawMessage(bytes.Clone(c.Text))
	default:
		t.Fatalf("a cell of kind %s", c.Kind)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestScanFindsWhatWasWritten reads random events column by column, all rows or some of them,
// and compares each cell with what the event says.
func TestScanFindsWhatWasWritten(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			d := parquet.NewDecoder(&parquet.Schema{}, options)
			var events []map[string]json.RawMessage
			n := 1 + r.IntN(5000)
			rows := parquet.NewRows()
			sparse := r.IntN(4)
			for i := range n {
				var b strings.Builder
				fmt.Fprintf(&b, `{"n":%d`, i)
				if r.IntN(sparse+1) == 0 {
					fmt.Fprintf(&b, `,"s":"%s","x":%d.5,"b":%t`, strings.Repeat("x", r.IntN(300)), r.IntN(1000), r.IntN(2) == 0)
				}
				if r.IntN(3) == 0 {
					fmt.Fprintf(&b, `,"o":{"k":%d,"l":[%s]}`, r.IntN(10), strings.TrimSuffix(strings.Repeat("7,", r.IntN(40)), ","))
				}
				if r.IntN(3) == 0 {
					fmt.Fprintf(&b, `,"l":[%s null]`, strings.Repeat(`{"a":1},`, r.IntN(400)))
				}
				b.WriteString("}")
				if err := d.Decode([]byte(b.String())); err != nil {
					t.Fatal(err)
				}
				rows.Append(d)
				var m map[string]json.RawMessage
				if err := json.Unmarshal([]byte(b.String()), &m); err != nil {
					t.Fatal(err)
				}
				events = append(events, m)
			}
			f, err := parquet.Open(save(t, rows, d.Schema()))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			step := 1 + r.IntN(3)*r.IntN(700)
			for _, name := range []string{"n", "s", "x", "b", "o", "l"} {
				scan := f.Scan(0)
				c, err := scan.Column(name)
				if err != nil {
					t.Fatal(err)
				}
				for i := r.IntN(step); i < n && c != nil; i += 1 + r.IntN(step) {
					cell, err := c.At(int64(i))
					if err != nil {
						t.Fatal(err)
					}
					want := string(events[i][name])
					if name == "o" { // an empty list before the first full one has no column, or one beside
						want = strings.Replace(want, `,"l":[]`, "", 1)
					}
					got := strings.Replace(strings.Replace(jsonOf(t, cell), `,"l":[]`, "", 1), `,"l__json":[]`, "", 1)
					if name == "l" {
						want = strings.ReplaceAll(want, " ", "")
					}
					if got != want && name != "l" || name == "l" && got != want && got != "" {
						t.Fatalf("%s of row %d is %s, not %s", name, i, got, want)
					}
				}
				if c != nil {
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			b, known := f.Scan(0).Bounds("n")
			if diff := cmp.Diff(parquet.Bounds{Low: parquet.Cell{Kind: parquet.Int}, High: parquet.Cell{Kind: parquet.Int, Int: int64(n - 1)}, Values: int64(n)}, b); diff != "" || !known {
				t.Errorf("the bounds (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzScan changes a file: reading it answers, or says what is wrong, and never more.
func FuzzScan(f *testing.F) {
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	rows := parquet.NewRows()
	for i := range 200 {
		if err := d.Decode([]byte(fmt.Sprintf(`{"n":%d,"s":"text %d","k":"%d","o":{"x":%d.5,"l":[1,%d]},"b":true}`, i, i, i%3, i, i))); err != nil {
			f.Fatal(err)
		}
		rows.Append(d)
	}
	var b bytes.Buffer
	if err := rows.Write(&b, d.Schema(), nil); err != nil {
		f.Fatal(err)
	}
	whole := b.Bytes()
	f.Add(uint32(20), byte(1), uint32(0), byte(0))
	f.Add(uint32(len(whole)-40), byte(0x80), uint32(400), byte(3))
	f.Fuzz(func(t *testing.T, at uint32, flip byte, again uint32, other byte) {
		text := bytes.Clone(whole)
		text[int(at)%len(text)] ^= flip
		text[int(again)%len(text)] ^= other
		r, err := parquet.NewReader("x", closer{bytes.NewReader(text)}, int64(len(text)))
		if err != nil {
			return
		}
		defer r.Close()
		for g := range r.Groups() {
			s := r.Scan(g)
			for _, name := range []string{"n", "s", "k", "o", "b", "none"} {
				s.Bounds(name)
				c, err := s.Column(name)
				if err != nil || c == nil {
					continue
				}
				for row := range min(s.Len(), 300) {
					if _, err := c.At(row); err != nil {
						break
					}
				}
				_ = c.Close()
			}
		}
	})
}
