package parquet_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/parquet"
)

// TestLoadedRowsAreTheSame loads some rows of several files, of a schema that has grown, in
// another order, and writes them in several row groups.
func TestLoadedRowsAreTheSame(t *testing.T) {
	t.Parallel()
	all := slices.Sorted(maps.Keys(makers))
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 5, rapid.ID).Draw(rt, "columns")
		files := rapid.IntRange(1, 4).Draw(rt, "files")
		seed := rapid.Uint64().Draw(rt, "seed")
		r := rand.New(rand.NewPCG(seed, 9))
		keeps := rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(rt, "keeps")
		schema := &parquet.Schema{}
		var open []*parquet.Reader
		var want []string
		var kept [][]bool
		for i := range files {
			n := rapid.SampledFrom([]int{0, 1, 9, 513}).Draw(rt, "rows")
			used := names[:min(len(names), 1+i+r.IntN(2))]
			often := rapid.SampledFrom([]float64{0, 0.1, 0.9}).Draw(rt, "missing")
			d := parquet.NewDecoder(schema, options)
			var mine []bool
			rows := parquet.NewRows()
			for _, e := range table(seed+uint64(i), n, used, func(string) float64 { return often }) {
				if err := d.Decode([]byte(e)); err != nil {
					t.Fatal(err)
				}
				rows.Append(d)
				mine = append(mine, r.Float64() < keeps)
				if mine[len(mine)-1] {
					want = append(want, e)
				}
			}
			schema = d.Schema()
			f, err := parquet.Open(save(t, rows, schema))
			if err != nil {
				t.Fatal(err)
			}
			open, kept = append(open, f), append(kept, mine)
		}
		rows := parquet.NewRows()
		for i, f := range open {
			keep := func(row int) bool { return kept[i][row] }
			if keeps == 1 {
				keep = nil
			}
			if err := rows.Load(f, schema, keep); err != nil {
				rt.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if rows.Len() != len(want) {
			rt.Fatalf("%d rows of %d", rows.Len(), len(want))
		}
		order := r.Perm(len(want))
		if rapid.Bool().Draw(rt, "some") {
			order = order[:len(order)/2]
		}
		var b bytes.Buffer
		w, err := parquet.NewWriter(&b, schema, nil)
		if err != nil {
			t.Fatal(err)
		}
		var expected []string
		var part []int32
		for i, k := range order {
			expected = append(expected, want[k])
			part = append(part, int32(k))
			if r.IntN(200) == 0 || i == len(order)-1 {
				w.Write(rows.Pick(part))
				part = part[:0]
			}
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		f, err := parquet.NewReader("x", closer{bytes.NewReader(b.Bytes())}, int64(b.Len()))
		if err != nil {
			rt.Fatal(err)
		}
		var got []string
		for {
			row, err := f.Next(nil)
			if err != nil {
				break
			}
			got = append(got, string(row))
		}
		same(t, got, expected)
	})
}

// TestNumbersOfOneObjectWiden has whole numbers before the first one with a fraction, in the
// object that decides the type of their column.
func TestNumbersOfOneObjectWiden(t *testing.T) {
	t.Parallel()
	for _, e := range []string{
		`{"a":[26,1.5,7]}`, `{"a":[[1],[2.5,3]]}`, `{"l":[{"x":26},{"x":1.5},{"x":-3}]}`, `{"l":[{"x":26},{"x":[1.5,"s"]},{"x":2}]}`, `{"l":[{"x":[26]},{"x":[1.5,"s"]}]}`,
	} {
		same(t, readAll(t, file(t, parquet.NewDecoder(&parquet.Schema{}, options), e, e)), []string{e, e})
	}
}
