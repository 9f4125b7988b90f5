package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/console"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lakesql"
)

// lakes are the datasets of what runs, for the console: what weir lake ls, schema and sql tell, by the
// access that their targets have.
type lakes struct{ app *app.App }

var _ console.Lakes = lakes{}

// errStarting is that what a config lands is not known before it runs.
var errStarting = errors.New("Weir has not started yet: its state says what it waits for")

// Limits of what the console is given.
const (
	datasetPatience = 15 * time.Second
	datasetsAtOnce  = 4
	longestValue    = 4 << 20
)

var lakePage = lakesql.PageLimits{Rows: 1000, Bytes: 4 << 20, Cell: 8 << 10}

func lakeID(l *app.Lake) string { return l.Pipeline + "/" + l.Component }

// Datasets implements console.Lakes.
func (l lakes) Datasets(ctx context.Context) ([]console.Dataset, error) {
	if l.app.Plan() == nil {
		return nil, errStarting
	}
	all := l.app.Lakes()
	out := make([]console.Dataset, len(all))
	slots := make(chan struct{}, datasetsAtOnce)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = datasetOf(ctx, &all[i])
		})
	}
	wait.Wait()
	return out, nil
}

func datasetOf(ctx context.Context, l *app.Lake) console.Dataset {
	ctx, done := context.WithTimeoutCause(ctx, datasetPatience, fmt.Errorf("it could not be looked at within %s", datasetPatience))
	defer done()
	out := console.Dataset{ID: lakeID(l), Path: l.Dataset(), Pipeline: l.Pipeline, Component: l.Component, Columns: []console.LakeColumn{}}
	out.Table, _ = catalog.Name(out.Path)
	err := lookAt(ctx, l, &out)
	switch {
	case err == nil && out.Files == 0, errors.Is(err, catalog.ErrAbsent):
		out.Absent = true
	case err != nil && ctx.Err() != nil:
		out.Error = context.Cause(ctx).Error()
	case err != nil:
		out.Error = err.Error()
	}
	return out
}

func lookAt(ctx context.Context, l *app.Lake, out *console.Dataset) error {
	s, err := l.Look(ctx)
	if err != nil {
		return err
	}
	about, err := s.Describe(ctx)
	if err != nil {
		s.Close()
		return err
	}
	out.Files, out.Rows, out.Bytes, out.Partitions, out.Schema, out.Committed = about.Files, about.Rows, about.Bytes, len(about.Partitions), about.Schema, about.Written
	for _, p := range about.Partitions {
		if out.First.IsZero() || !p.First.IsZero() && p.First.Before(out.First) {
			out.First = p.First
		}
		if p.Last.After(out.Last) {
			out.Last = p.Last
		}
	}
	db, err := lakesql.Of(ctx, out.Path, []*catalog.Snapshot{s}, lakesql.Options{})
	if err != nil {
		return err
	}
	for _, c := range db.Columns() {
		out.Columns = append(out.Columns, console.LakeColumn(c))
	}
	return db.Close()
}

// Query implements console.Lakes.
func (l lakes) Query(ctx context.Context, id, sql string) (_ *console.LakeAnswer, err error) {
	all := l.app.Lakes()
	for i := range all {
		if lakeID(&all[i]) != id {
			continue
		}
		s, err := all[i].Look(ctx)
		if errors.Is(err, catalog.ErrAbsent) {
			return nil, fmt.Errorf("%w: nothing has landed there yet", console.ErrQuery)
		}
		if err != nil {
			return nil, err
		}
		return asked(ctx, s, sql)
	}
	if l.app.Plan() == nil {
		return nil, errStarting
	}
	return nil, fmt.Errorf("%w: no target that runs lands events in a dataset %q", console.ErrQuery, id)
}

func asked(ctx context.Context, s *catalog.Snapshot, sql string) (_ *console.LakeAnswer, err error) {
	db, err := lakesql.Of(ctx, s.Path, []*catalog.Snapshot{s}, lakesql.Options{MaxValue: longestValue})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return nil, ofQuery(err)
	}
	p, err := rows.Page(lakePage)
	if err != nil {
		return nil, ofQuery(err)
	}
	out := &console.LakeAnswer{Columns: p.Columns, Rows: p.Rows, More: p.More, Cut: p.Cut}
	if out.Rows == nil {
		out.Rows = [][]*string{}
	}
	return out, nil
}

// ofQuery is what is wrong with a query, where that is what is wrong.
func ofQuery(err error) error {
	if fault.Of(err) == fault.Setup {
		return fmt.Errorf("%w: %w", console.ErrQuery, err)
	}
	return err
}
