package lake

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/parquet"
)

// write is one Write under way.
type write struct {
	t       *Target
	dataset *catalog.Dataset
	batch   event.Batch
	failed  map[int]error
	ids     []catalog.ID // of the messages, to recognise them by; nil: no message has one
	lanes   []catalog.Lane
	held    *catalog.Reservation
	order   *succession // nil: nobody says
	early   bool        // the schema has to change, and it is not this write's turn
}

// settled reports whether nothing is to be done for the i-th message: it has landed before,
// or an earlier one of the batch is the same.
func (w *write) settled(i int) bool {
	_, twin := w.held.Twin(i)
	return twin || w.held.Landed(i)
}

// shareTwins has messages that were twice in the batch share one outcome.
func (w *write) shareTwins() {
	if len(w.failed) == 0 {
		return
	}
	for i := range w.batch {
		if first, ok := w.held.Twin(i); ok && w.failed[first] != nil {
			w.failed[i] = w.failed[first]
		}
	}
}

// part is the rows of one file.
type part struct {
	folder      *folder
	number      int32 // in all
	place       int   // in the landing; -1 for none
	rows        *parquet.Rows
	row         []int32 // the messages that are its rows, by their place in the batch
	again       []int32 // those that repeat one of them and share its fate
	ids         []catalog.ID
	first, last time.Time
	bytes       int64 // of the file, once it is written
}

// folder is one partition while files of it are filled.
type folder struct {
	partition string
	open      *part                // the file that rows go to; nil for none
	pending   catalog.Index[int32] // the number of the file of each row with an id
	seen      *catalog.Seen        // nil until it is needed
}

// round is the files that are filled together.
type round struct {
	all     []*part
	open    int // how many files take rows
	folders map[string]*folder
	buckets map[int64]*folder
	bucket  int64 // of the last event
	last    *folder
}

func newRound() *round {
	return &round{folders: map[string]*folder{}, buckets: map[int64]*folder{}}
}

// round writes the messages from start on, as many as the limit of open partitions allows,
// and returns the index of the first one after them.
func (w *write) round(ctx context.Context, start int) int {
	options, surveyed := w.t.options, false
	for {
		schema := w.dataset.Schema()
		d := parquet.NewDecoder(schema, options)
		r := newRound()
		end := w.decode(ctx, d, r, start)
		if (d.Strays() && !surveyed || d.Changed()) && w.t.order.before(w.order) {
			w.early = true
			w.again(r, start, end)
			return start
		}
		if d.Strays() && !surveyed {
			// One value must not take a column from the others: see what most of them are.
			options.Prefer, surveyed = w.survey(start, end), true
			w.again(r, start, end)
			continue
		}
		if d.Late() { // what has waited for a type has one
			w.again(r, start, end)
			d.Again()
			r = newRound()
			end = w.decode(ctx, d, r, start)
		}
		next := d.Schema()
		if d.Changed() && len(r.all) > 0 {
			err := w.dataset.Evolve(ctx, schema, next)
			if errors.Is(err, catalog.ErrStale) {
				w.again(r, start, end)
				continue
			}
			if err != nil {
				for _, p := range r.all {
					w.fail(p, err)
				}
				r.release()
				return end
			}
			w.announce(schema, next)
		}
		if end == len(w.batch) {
			w.t.order.decided(w.order)
		}
		w.commit(ctx, r, next)
		r.release()
		return end
	}
}

// again forgets what became of the messages from start to end, which are decoded once more.
func (w *write) again(r *round, start, end int) {
	for i := start; i < end; i++ {
		delete(w.failed, i)
	}
	r.release()
}

// survey is what most values of each field are in the messages from start to end.
func (w *write) survey(start, end int) map[string]parquet.Kind {
	s := parquet.NewSurvey(w.t.options)
	for i := start; i < end; i++ {
		if err := w.failed[i]; (err == nil || parquet.IsMisfit(err)) && !w.settled(i) {
			s.Add(w.batch[i].Data)
		}
	}
	return s.Kinds()
}

// release lets others have the memory of the rows.
func (r *round) release() {
	for _, p := range r.all {
		p.rows.Release()
		p.rows = nil
	}
}

// decode puts messages into parts until one needs a partition too many.
func (w *write) decode(ctx context.Context, d *parquet.Decoder, r *round, start int) int {
	for i := start; i < len(w.batch); i++ {
		if i%1024 == 0 && ctx.Err() != nil {
			for ; i < len(w.batch); i++ {
				w.failed[i] = context.Cause(ctx)
			}
			return i
		}
		if w.settled(i) {
			continue
		}
		m := w.batch[i]
		if err := d.Decode(m.Data); err != nil {
			w.failed[i] = err
			continue
		}
		at, err := w.timeOf(m, d)
		if err != nil {
			d.Forget()
			w.failed[i] = err
			continue
		}
		f := r.folder(w.t.layout, at)
		id, known := w.id(d)
		if known {
			there, err := w.there(ctx, r, f, id, i)
			if there || err != nil {
				d.Forget()
				if err != nil {
					w.failed[i] = err
				}
				continue
			}
		}
		if f.open == nil {
			if r.open >= w.t.config.MaxOpenPartitions {
				d.Forget()
				return i
			}
			r.begin(f, at, w.expected(r, i), known)
		}
		p := f.open
		p.add(d, i, at)
		if known {
			p.ids = append(p.ids, id)
			f.pending.Set(id, p.number)
		}
		if p.rows.Bytes() >= w.t.config.MaxFileBytes {
			f.open = nil
			r.open--
		}
	}
	return len(w.batch)
}

// timeOf is the time of the event that d has decoded.
func (w *write) timeOf(m *event.Message, d *parquet.Decoder) (time.Time, error) {
	value := d.Tap(tapTime)
	at, err := w.t.clock.of(m, value)
	if err == nil && w.t.config.timed() && !value.Fits {
		err = w.t.clock.invalid(errors.New("it does not fit the column of the field, by which the table is partitioned"))
	}
	return at, err
}

// begin opens a part in a folder, for about so many rows.
func (r *round) begin(f *folder, at time.Time, expected int, known bool) {
	f.open = &part{folder: f, number: int32(len(r.all)), rows: parquet.NewRows(), first: at, last: at, row: make([]int32, 0, expected)}
	if known {
		f.open.ids = make([]catalog.ID, 0, expected)
		f.pending.Reserve(expected)
	}
	r.all = append(r.all, f.open)
	r.open++
}

// expected is a guess of how many rows a new file will have: all that are left for the
// first, few for the others.
func (w *write) expected(r *round, i int) int {
	if len(r.all) == 0 {
		return len(w.batch) - i
	}
	return 0
}

func (r *round) folder(l catalog.Layout, at time.Time) *folder {
	bucket := l.Bucket(at)
	if r.last != nil && r.bucket == bucket {
		return r.last
	}
	f := r.buckets[bucket]
	if f == nil {
		name := l.Partition(at)
		if f = r.folders[name]; f == nil {
			f = &folder{partition: name}
			r.folders[name] = f
		}
		r.buckets[bucket] = f
	}
	r.bucket, r.last = bucket, f
	return f
}

func (p *part) add(d *parquet.Decoder, i int, at time.Time) {
	p.rows.Append(d)
	p.row = append(p.row, int32(i))
	if at.Before(p.first) {
		p.first = at
	}
	if at.After(p.last) {
		p.last = at
	}
}

// id is the fingerprint of the event that d has decoded, where events are told apart by one.
// That one has none is said once.
func (w *write) id(d *parquet.Decoder) (id catalog.ID, known bool) {
	if w.t.config.DedupField == "" {
		return id, false
	}
	if id, known = idOf(d); !known {
		w.t.nameless.Do(func() {
			w.t.log.Warn("an event has no id that is a string or a whole number in dedup_field: such events land as often as they come",
				keyPath, w.t.path, "dedup_field", w.t.config.DedupField)
		})
	}
	return id, known
}

// idOf is the fingerprint of the id of the event that d has decoded, if it has one: a string,
// or a whole number of any size.
func idOf(d *parquet.Decoder) (catalog.ID, bool) {
	v := d.Tap(tapID)
	if v.Fits && (v.Kind == parquet.String || v.Kind == parquet.UUID) {
		return catalog.Fingerprint('s', v.Text), true
	}
	if v.Fits && v.Kind == parquet.Int {
		var buf [20]byte
		return catalog.Fingerprint('n', strconv.AppendInt(buf[:0], v.Int, 10)), true
	}
	// A whole number that no INT64 holds is in another column, or rounded.
	raw := d.Raw(tapID)
	digits := bytes.TrimPrefix(raw, []byte{'-'})
	if len(digits) == 0 || len(bytes.TrimLeft(digits, "0123456789")) > 0 {
		return catalog.ID{}, false
	}
	if _, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return catalog.ID{}, false // of another type than its column
	}
	return catalog.Fingerprint('n', raw), true
}

// there reports whether the event with the id is in the partition already, or will be with
// an earlier message: then message i shares that one's fate.
func (w *write) there(ctx context.Context, r *round, f *folder, id catalog.ID, i int) (bool, error) {
	if number, ok := f.pending.Get(id); ok {
		p := r.all[number]
		p.again = append(p.again, int32(i))
		return true, nil
	}
	if f.seen == nil {
		s, err := w.dataset.Seen(ctx, f.partition)
		if err != nil {
			return false, err
		}
		f.seen = s
		if s.Partial || s.Unknown > 0 {
			w.t.warned.Do(func() {
				w.t.log.Warn("events of some files are not recognised when they come again: the files were written without dedup_field, or have more ids than dedup_max_ids",
					keyPath, f.partition, keyFiles, s.Unknown)
			})
		}
	}
	return f.seen.Has(id), nil
}

// name is the name of the file of p: see the package comment.
func (w *write) name(p *part) string {
	type identity struct {
		id   string
		data uint64
	}
	all := make([]identity, len(p.row))
	for k, i := range p.row {
		m := w.batch[i]
		if m.Meta.ID == "" {
			return "events-" + rand.Text()
		}
		all[k] = identity{m.Meta.ID, xxhash.Sum64(m.Data)}
	}
	slices.SortFunc(all, func(a, b identity) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.data, b.data)) })
	h := sha256.New()
	var buf []byte
	for _, x := range all {
		buf = append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(buf[:0], uint64(len(x.id))), x.data), x.id...)
		h.Write(buf)
	}
	return "events-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// announce logs columns that are there for values that fit no other: somebody may want to
// declare a type in the next dataset.
func (w *write) announce(before, after *parquet.Schema) {
	old := variants(before.Fields, "", nil)
	var added []string
	for _, name := range variants(after.Fields, "", nil) {
		if !slices.Contains(old, name) {
			added = append(added, name)
		}
	}
	if len(added) > 0 {
		w.t.log.Warn("values of another type than their column go to columns of their own", keyPath, w.t.path, keyColumns, added)
	}
}

func variants(fields []*parquet.Field, above string, out []string) []string {
	for _, f := range fields {
		if f.Variant != parquet.Main && f.Variant != parquet.Rest {
			out = append(out, above+f.Name)
		}
		end := f
		for end.Elem != nil {
			end = end.Elem
		}
		out = variants(end.Fields, above+f.Name+".", out)
	}
	return out
}
