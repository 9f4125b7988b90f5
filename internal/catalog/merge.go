package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/parquet"
)

// merge is the files of one bin on their way into others.
type merge struct {
	c      *compactor
	schema *parquet.Schema
	bin    []stored
	o      CompactOptions
	files  []*parquet.Reader
	rows   []spot // in the order in which they are written
	ids    []ID   // of the rows that stay, and of what was recognised before
	result Compaction
	group  int  // rows of a row group
	each   int  // rows of a file
	timed  bool // keys are microseconds
}

// spot is where a row is.
type spot struct {
	key  int64
	file int32
	row  int32
}

// merge puts the rows of the bin into as few files as can be. seen are ids whose rows are left
// out; those of the bin are added.
func (c *compactor) merge(ctx context.Context, schema *parquet.Schema, bin []stored, seen *Index[struct{}], o CompactOptions) (_ Compaction, err error) {
	m := &merge{c: c, schema: schema, bin: bin, o: o}
	defer func() {
		for _, f := range m.files {
			err = errors.Join(err, f.Close())
		}
	}()
	unpacked, size := int64(0), int64(0)
	for _, f := range bin {
		r, err := c.reader(ctx, f.Info)
		if err != nil {
			return m.result, err
		}
		m.files = append(m.files, r)
		unpacked += r.Unpacked()
		size += f.Size
	}
	if err := m.order(ctx, seen); err != nil {
		return m.result, err
	}
	total := int64(len(m.rows)) + m.result.Duplicates
	m.group = int(min(max(o.Memory/max(unpacked/max(total, 1), 1), 1), math.MaxInt32))
	m.each = int(max(o.Large/max(size/max(total, 1), 1), 1))
	into := (len(m.rows) + m.each - 1) / m.each
	if into > 0 {
		m.each = (len(m.rows) + into - 1) / into
	}
	m.result.Partition, m.result.Files, m.result.Into = folderOf(bin[0].Name), len(bin), into
	m.result.Rows, m.result.Bytes = int64(len(m.rows)), size
	if o.DryRun {
		return m.result, nil
	}
	return m.result, m.write(ctx)
}

// order finds out which rows stay, and in what order.
func (m *merge) order(ctx context.Context, seen *Index[struct{}]) error {
	column, err := m.sortColumn()
	if err != nil {
		return err
	}
	for i, f := range m.files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := int(f.NumRows())
		first := len(m.rows)
		if err := m.keys(f, i, n, column); err != nil {
			return err
		}
		if seen == nil {
			continue
		}
		stay := m.rows[first:first]
		all := m.rows[first:]
		if err := eachID(f, columnOf(m.schema, m.o.Dedup), func(row int, id ID, known bool) {
			if known {
				if _, there := seen.Get(id); there {
					m.result.Duplicates++
					return
				}
				seen.Set(id, struct{}{})
			}
			stay = append(stay, all[row])
		}); err != nil {
			return err
		}
		m.rows = m.rows[:first+len(stay)]
	}
	byKey := func(a, b spot) int { return cmp.Compare(a.key, b.key) }
	if column != nil && !slices.IsSortedFunc(m.rows, byKey) {
		slices.SortStableFunc(m.rows, byKey)
	}
	return m.recognised(ctx)
}

// recognised gathers the ids by which the target recognises events of these files.
func (m *merge) recognised(ctx context.Context) error {
	var known Index[struct{}]
	known.Reserve(len(m.rows))
	for _, f := range m.bin {
		name := recordName(folderOf(f.Name), base(f.Name[:len(f.Name)-len(suffix)]))
		_, ids, err := readRecord(ctx, m.c.bucket, name, at(m.c.path, name), true)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, there := known.Get(id); !there {
				known.Set(id, struct{}{})
				m.ids = append(m.ids, id)
			}
		}
	}
	return nil
}

// keys adds the rows of a file with the keys they are sorted by.
func (m *merge) keys(f *parquet.Reader, number, n int, column []string) error {
	m.rows = slices.Grow(m.rows, n)
	if column == nil {
		for row := range n {
			m.rows = append(m.rows, spot{0, int32(number), int32(row)})
		}
		return nil
	}
	return eachCell(f, column, func(row int, cell parquet.Cell) {
		key := int64(math.MinInt64) // rows without one come first
		switch cell.Kind {
		case parquet.Unknown:
		case parquet.Double:
			key = sortable(cell.Real)
		default:
			key = cell.Int
		}
		m.rows = append(m.rows, spot{key, int32(number), int32(row)})
	})
}

// sortable is a whole number in the order of doubles.
func sortable(x float64) int64 {
	n := int64(math.Float64bits(x))
	if n < 0 {
		return math.MinInt64 - n
	}
	return n
}

// sortColumn is the column that rows are sorted by: the one that is asked for, or the one whose
// least and greatest values are the times that the records of all the files have; nil for none.
func (m *merge) sortColumn() ([]string, error) {
	if m.o.Sort != "" {
		names := columnOf(m.schema, m.o.Sort)
		kind := kindOf(m.schema, names)
		m.timed = isTime(kind)
		if !m.timed && kind != parquet.Int && kind != parquet.Double {
			return nil, fmt.Errorf("rows cannot be sorted by %q, which is of type %s: name a time or a number", m.o.Sort, kind)
		}
		return names, nil
	}
	for _, names := range times(m.schema.Fields, nil) {
		if m.isTimeOf(names) {
			m.timed = true
			return names, nil
		}
	}
	return nil, nil
}

func isTime(k parquet.Kind) bool {
	return k == parquet.Timestamp || k == parquet.TimestampS || k == parquet.TimestampMs || k == parquet.TimestampUs
}

func kindOf(s *parquet.Schema, names []string) parquet.Kind {
	fields, kind := s.Fields, parquet.Unknown
	for _, name := range names {
		for _, f := range fields {
			if f.Name == name {
				kind, fields = f.Kind, f.Fields
				break
			}
		}
	}
	return kind
}

// times are the columns of times, in no list.
func times(fields []*parquet.Field, above []string) (out [][]string) {
	for _, f := range fields {
		names := append(slices.Clip(above), f.Name)
		if isTime(f.Kind) {
			out = append(out, names)
		}
		if f.Kind == parquet.Object {
			out = append(out, times(f.Fields, names)...)
		}
	}
	return out
}

func (m *merge) isTimeOf(names []string) bool {
	for i, f := range m.files {
		if m.bin[i].Rows == 0 {
			continue
		}
		low, high := int64(math.MaxInt64), int64(math.MinInt64)
		for g := range f.Groups() {
			b, known := f.Scan(g).Bounds(names...)
			if !known || b.Low.Kind == parquet.Unknown {
				return false
			}
			low, high = min(low, b.Low.Int), max(high, b.High.Int)
		}
		if low != m.bin[i].First.UnixMicro() || high != m.bin[i].Last.UnixMicro() {
			return false
		}
	}
	return true
}

// write plans, writes and commits the files.
func (m *merge) write(ctx context.Context) error {
	c := m.c
	p := compaction{Number: c.next, Writer: c.writer}
	c.next++
	for i := range m.result.Into {
		p.Files = append(p.Files, fileName(m.folder(), fmt.Sprintf("events-c%012d-%s-%d", p.Number, c.writer[:8], i)))
	}
	for _, f := range m.bin {
		p.Replaces = append(p.Replaces, f.Name)
	}
	text, err := json.Marshal(p)
	if err == nil {
		err = blob.Ensure(ctx, c.bucket, compactionName(p.Number), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("plan compaction %d: %w", p.Number, err)
	}
	c.step("planned")
	for i, name := range p.Files {
		from := i * m.each
		if err := m.file(ctx, i, name, m.rows[from:min(from+m.each, len(m.rows))]); err != nil {
			return err
		}
		c.step("file written")
	}
	for _, f := range m.bin {
		if err := c.keep(ctx, f.Info); err != nil {
			return fmt.Errorf("copy %s aside: %w", f.Name, err)
		}
	}
	c.step("copied aside")
	o := compacted{Number: p.Number, Writer: c.writer, At: time.Now().UTC(), Partition: m.folder(), Files: p.Files, Replaced: p.Replaces,
		Rows: m.result.Rows, Duplicates: m.result.Duplicates, Before: m.result.Bytes, After: m.result.IntoSize}
	have, err := c.end(ctx, o)
	if err != nil {
		return fmt.Errorf("commit compaction %d: %w", p.Number, err)
	}
	if have.Writer != c.writer || len(have.Replaced) == 0 {
		return fmt.Errorf("commit compaction %d: another process has begun to compact the dataset, and has undone it", p.Number)
	}
	c.step("committed")
	return c.clear(ctx, p, o)
}

// folder is the partition as names have it.
func (m *merge) folder() string {
	if dir := folderOf(m.bin[0].Name); dir != "." {
		return dir
	}
	return ""
}

// file writes the i-th file: the rows in their order, a row group after the other.
func (m *merge) file(ctx context.Context, i int, name string, rows []spot) (err error) {
	c := m.c
	out, err := c.bucket.Writer(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	counted := &counter{to: out}
	w, err := parquet.NewWriter(counted, m.schema, nil)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(rows, m.group) {
		loaded, err := m.load(ctx, part)
		if err != nil {
			return errors.Join(err, w.Close())
		}
		w.Write(loaded)
		loaded.Release()
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := out.Commit(ctx); err != nil {
		// Its name is this compaction's alone: what is there is it.
		if _, headErr := c.bucket.Head(context.WithoutCancel(ctx), name); headErr != nil {
			return errors.Join(err, headErr)
		}
	}
	m.result.IntoSize += counted.n
	r, ids := m.record(i, rows)
	r.Bytes = counted.n
	text := r.encode(ids)
	record := recordName(m.folder(), base(name[:len(name)-len(suffix)]))
	// Its name is this compaction's alone, too, and only this is ever written there.
	if _, err := c.bucket.Create(ctx, record, text); err != nil && !errors.Is(err, blob.ErrExists) {
		if _, headErr := c.bucket.Head(context.WithoutCancel(ctx), record); headErr != nil {
			return errors.Join(err, headErr)
		}
	}
	return nil
}

// record is the record of the i-th file.
func (m *merge) record(i int, rows []spot) (Record, []ID) {
	r := Record{Rows: int64(len(rows)), Schema: m.schema.Version, At: time.Now().UTC(), Distinct: m.o.Dedup}
	per := (len(m.ids) + m.result.Into - 1) / m.result.Into
	ids := m.ids[min(i*per, len(m.ids)):min((i+1)*per, len(m.ids))]
	for _, f := range m.bin {
		if r.First.IsZero() || !f.First.IsZero() && f.First.Before(r.First) {
			r.First = f.First
		}
		if f.Last.After(r.Last) {
			r.Last = f.Last
		}
		r.Events += f.Events
	}
	r.Events = int64(float64(r.Events) * float64(len(rows)) / float64(max(m.result.Rows+m.result.Duplicates, 1)))
	if m.timed && m.o.Sort == "" && m.result.Into > 1 {
		r.First, r.Last = time.UnixMicro(rows[0].key).UTC(), time.UnixMicro(rows[len(rows)-1].key).UTC()
	}
	return r, ids
}

// load reads rows from their files, in order.
func (m *merge) load(ctx context.Context, rows []spot) (*parquet.Rows, error) {
	// As they are loaded: by file, then by place.
	loaded := make([]int32, len(rows))
	for i := range loaded {
		loaded[i] = int32(i)
	}
	byPlace := func(a, b int32) int {
		return cmp.Or(cmp.Compare(rows[a].file, rows[b].file), cmp.Compare(rows[a].row, rows[b].row))
	}
	inOrder := slices.IsSortedFunc(loaded, byPlace)
	if !inOrder {
		slices.SortFunc(loaded, byPlace)
	}
	out := parquet.NewRows()
	out.Expect(len(rows))
	for i := 0; i < len(loaded); {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		file, n := rows[loaded[i]].file, i
		f := m.files[file]
		keep := make([]bool, f.NumRows())
		for ; n < len(loaded) && rows[loaded[n]].file == file; n++ {
			keep[rows[loaded[n]].row] = true
		}
		which := func(row int) bool { return keep[row] }
		if n-i == len(keep) {
			which = nil
		}
		if err := out.Load(f, m.schema, which); err != nil {
			return nil, err
		}
		i = n
	}
	if inOrder {
		return out, nil
	}
	order := make([]int32, len(rows))
	for at, i := range loaded {
		order[i] = int32(at)
	}
	sorted := out.Pick(order)
	out.Release()
	return sorted, nil
}
