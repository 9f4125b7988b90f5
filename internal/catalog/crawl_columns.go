package catalog

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirdata/weir/internal/parquet"
)

// columns finds the columns that the files have, and what they become by the policy.
func (c *crawler) columns(ctx context.Context, policy Policy) (found, next *parquet.Schema, err error) {
	c.records = make([]Record, len(c.files))
	if c.result.Format == jsonFiles {
		found, next, err = c.jsonColumns(ctx, policy)
	} else if found, err = c.parquetColumns(ctx); err == nil {
		next = &parquet.Schema{Fields: parquet.Overlay(c.have.Fields, found.Fields, policy == Update)}
	}
	if err != nil {
		return nil, nil, err
	}
	for i, f := range c.files {
		r := &c.records[i]
		r.Bytes, r.At, r.Seen = f.Size, time.Now().UTC(), f.Modified
		c.result.Rows += r.Rows
		c.result.Bytes += r.Bytes
	}
	return found, next, c.remembered(ctx)
}

func (c *crawler) parquetColumns(ctx context.Context) (*parquet.Schema, error) {
	all := make([][]*parquet.Field, len(c.files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(recordsAtOnce)
	for i, f := range c.files {
		g.Go(func() error {
			r, err := c.reader(ctx, f)
			if err != nil {
				return err
			}
			all[i], c.records[i].Rows = r.Schema.Fields, r.NumRows()
			return r.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := &parquet.Schema{}
	for _, fields := range all {
		out.Fields = parquet.Union(out.Fields, fields)
	}
	return out, nil
}

// jsonColumns reads the files twice: for what most values of a field are, then for columns.
func (c *crawler) jsonColumns(ctx context.Context, policy Policy) (found, next *parquet.Schema, err error) {
	survey := parquet.NewSurvey(asAdopted)
	for _, f := range c.files {
		if _, _, err := c.eachObject(ctx, f, func(object []byte) error { survey.Add(object); return nil }); err != nil {
			return nil, nil, err
		}
	}
	o := asAdopted
	o.Prefer = survey.Kinds()
	fresh, kept := parquet.NewDecoder(&parquet.Schema{}, o), parquet.NewDecoder(c.have, o)
	for i, f := range c.files {
		rows, bad, err := c.eachObject(ctx, f, func(object []byte) error {
			err := fresh.Decode(object)
			if err == nil && policy != Update {
				err = kept.Decode(object)
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		c.records[i].Rows = rows
		c.result.Malformed += bad
	}
	found, next = fresh.Schema(), kept.Schema()
	if policy == Update {
		next = found
	}
	return found, &parquet.Schema{Fields: next.Fields}, nil
}

// compare says how the columns differ from those that there were, and what becomes of that.
func (c *crawler) compare(found, next *parquet.Schema) {
	applied := changes(c.have.Fields, next.Fields)
	for _, x := range changes(c.have.Fields, found.Fields) {
		x.Applied = slices.Contains(applied, x)
		applied = slices.DeleteFunc(applied, func(y ColumnChange) bool { return x.Column == y.Column })
		c.result.Changes = append(c.result.Changes, x)
	}
	for _, x := range applied {
		x.Applied = true
		c.result.Changes = append(c.result.Changes, x)
	}
}

// changes are what makes b of a.
func changes(a, b []*parquet.Field) (out []ColumnChange) {
	before, after := typesOf(a, "", nil), typesOf(b, "", nil)
	types := func(all []columnType) map[string]string {
		m := map[string]string{}
		for _, t := range all {
			m[t.column] = t.kind
		}
		return m
	}
	was, is := types(before), types(after)
	for _, t := range after {
		if from, there := was[t.column]; !there {
			out = append(out, ColumnChange{Column: t.column, Change: "added", To: t.kind})
		} else if from != t.kind {
			out = append(out, ColumnChange{Column: t.column, Change: "changed", From: from, To: t.kind})
		}
	}
	for _, t := range before {
		if _, there := is[t.column]; !there {
			out = append(out, ColumnChange{Column: t.column, Change: "gone", From: t.kind})
		}
	}
	return out
}

type columnType struct{ column, kind string }

// typesOf are the columns with their types, in order.
func typesOf(fields []*parquet.Field, above string, out []columnType) []columnType {
	for _, f := range fields {
		kind, end := f.TypeName(), f
		name := above + f.Name
		for end.Elem != nil {
			if name += "[]"; end.Kind == parquet.Map {
				name = strings.TrimSuffix(name, "[]") + "{}"
			}
			end = end.Elem
			kind += " of " + end.TypeName()
		}
		out = append(out, columnType{above + f.Name, kind})
		out = typesOf(end.Fields, name+".", out)
	}
	return out
}
