package lake

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/parquet"
)

// commit writes the files of a round, several at once. Those whose every message has a
// position land together, by a plan; each of the others is a commit of its own.
func (w *write) commit(ctx context.Context, r *round, schema *parquet.Schema) {
	errs := make([]error, len(r.all))
	columns, err := w.dataset.Columns(ctx, schema)
	if err != nil {
		for _, p := range r.all {
			w.fail(p, err)
		}
		return
	}
	l := w.plan(ctx, r, errs)
	var wg sync.WaitGroup
	for i, p := range r.all {
		if errs[i] != nil {
			continue
		}
		if errs[i] = w.t.enter(ctx); errs[i] != nil {
			continue
		}
		wg.Go(func() {
			defer func() { <-w.t.unsent }()
			encoded := sync.OnceFunc(func() { <-w.t.slots })
			defer encoded()
			errs[i] = w.commitPart(ctx, l, p, schema, columns, encoded)
		})
	}
	wg.Wait()
	l.commit(ctx, w, errs)
	w.register(r, schema, errs)
	for i, p := range r.all {
		if errs[i] != nil {
			w.fail(p, errs[i])
			if p.folder.seen != nil {
				w.dataset.Unsure(p.folder.partition)
			}
			continue
		}
		w.t.committed.add(int64(p.rows.Len()), p.bytes, p.last)
		if p.folder.seen != nil {
			p.folder.seen.Add(p.ids)
		}
	}
}

// landing is the parts of a round that land together.
type landing struct {
	*catalog.Landing
	parts []*part
}

// plan begins to land the parts that can be recognised. Where it cannot, they fail.
func (w *write) plan(ctx context.Context, r *round, errs []error) *landing {
	l := &landing{}
	var partitions []string
	for _, p := range r.all {
		if w.recognised(p) {
			p.place = len(l.parts)
			l.parts = append(l.parts, p)
			partitions = append(partitions, p.folder.partition)
		} else {
			p.place = -1
		}
	}
	if len(l.parts) == 0 {
		return l
	}
	var err error
	if l.Landing, err = w.dataset.Plan(ctx, partitions); err != nil {
		for _, p := range l.parts {
			errs[p.number] = err
		}
	}
	return l
}

// recognised reports whether all messages of a part have an identity.
// Files of a dataset with a table land by a plan in any case.
func (w *write) recognised(p *part) bool {
	return w.t.config.iceberg() != nil || w.ids != nil && !slices.ContainsFunc(p.row, func(i int32) bool { return w.ids[i] == catalog.ID{} })
}

// commit has the parts that were written be there, with what they are recognised by.
func (l *landing) commit(ctx context.Context, w *write, errs []error) {
	if l.Landing == nil {
		return
	}
	n := 0
	for _, p := range l.parts {
		n += len(p.row)
	}
	ids := make([]catalog.ID, 0, n)
	for _, p := range l.parts {
		if errs[p.number] == nil {
			for _, i := range p.row {
				if w.ids != nil && w.ids[i] != (catalog.ID{}) { // it has a position
					ids = append(ids, w.ids[i])
				}
			}
		}
	}
	err := l.Commit(ctx, func(i int) bool { return errs[l.parts[i].number] != nil }, ids, w.lanes)
	if err == nil {
		return
	}
	for _, p := range l.parts {
		if errs[p.number] == nil {
			errs[p.number] = err
		}
	}
}

// enter waits until one more file may be encoded.
func (t *Target) enter(ctx context.Context) error {
	select {
	case t.unsent <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-t.unsent
		return context.Cause(ctx)
	}
}

// commitPart writes the file of a part. It calls encoded when what is left to do needs no
// processor.
func (w *write) commitPart(ctx context.Context, l *landing, p *part, schema *parquet.Schema, columns map[string]int32, encoded func()) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := catalog.File{
		Partition: p.folder.partition, IDs: p.ids,
		Record: catalog.Record{Rows: int64(p.rows.Len()), Events: int64(p.rows.Bytes()), Schema: schema.Version,
			First: p.first.UTC(), Last: p.last.UTC(), At: time.Now().UTC()},
		Encoded: encoded,
		Write:   p.counted(func(out io.Writer) error { return p.rows.Write(out, schema, nil) }),
	}
	if columns != nil {
		var said *parquet.Summary
		f.Summary = func() *parquet.Summary { return said }
		f.Write = p.counted(func(out io.Writer) (err error) {
			said, err = p.rows.WriteTable(out, schema, columns)
			return err
		})
	}
	if p.place >= 0 {
		return l.Write(ctx, p.place, f)
	}
	f.Name = w.name(p)
	_, err := w.dataset.Commit(ctx, f)
	return err
}

func (w *write) fail(p *part, err error) {
	for _, i := range p.row {
		w.failed[int(i)] = err
	}
	for _, i := range p.again {
		w.failed[int(i)] = err
	}
}
