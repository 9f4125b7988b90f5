package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// remembered finds out which files the last crawl has seen as they are.
func (c *crawler) remembered(ctx context.Context) error {
	there := map[string]bool{}
	for e, err := range objects(ctx, c.bucket, blob.Query{Prefix: records + "/"}) {
		if err != nil {
			return fmt.Errorf("list what the last crawl has seen: %w", err)
		}
		there[e.Name] = true
	}
	seen := make([]bool, len(c.files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(recordsAtOnce)
	for i, f := range c.files {
		name := recordNameOf(f.Name)
		if !there[name] {
			continue
		}
		g.Go(func() error {
			r, _, err := readRecord(gctx, c.bucket, name, at(c.path, name), false)
			seen[i] = err == nil && r.Bytes == f.Size && r.Seen.Equal(f.Modified)
			return nil // what cannot be read is found out again
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, f := range c.files {
		delete(there, recordNameOf(f.Name))
		if !seen[i] {
			c.result.More++
		}
		c.known[f.Name] = seen[i]
	}
	c.result.Gone = len(there)
	for name := range there {
		c.known[name] = false
	}
	return nil
}

// recordNameOf is the name of the record of a data file.
func recordNameOf(file string) string {
	return recordName(folderOf(file), strings.TrimSuffix(base(file), suffix))
}

// write makes what was found the description of the dataset.
func (c *crawler) write(ctx context.Context, next *parquet.Schema) error {
	var fields [2][]byte
	for i, s := range []*parquet.Schema{c.have, next} {
		text, err := json.Marshal(s.Fields)
		if err != nil {
			return err
		}
		fields[i] = text
	}
	if changed := !bytes.Equal(fields[0], fields[1]); changed || c.result.New {
		next.Version = c.have.Version + 1
		text, err := json.MarshalIndent(next, "", " ")
		if err == nil {
			_, err = c.bucket.Create(ctx, schemaName(next.Version), append(text, '\n'))
		}
		if errors.Is(err, blob.ErrExists) {
			return fault.New(fault.Transient, fmt.Errorf("another crawl has written its columns meanwhile; crawl it again: %w", err))
		}
		if err != nil {
			return fmt.Errorf("write its columns: %w", err)
		}
		c.result.Schema = next.Version
	}
	if err := c.remember(ctx); err != nil {
		return fmt.Errorf("write what was found of its files: %w", err)
	}
	if err := c.describe(ctx); err != nil {
		return fmt.Errorf("describe it: %w", err)
	}
	c.result.Written = true
	return nil
}

// remember writes the records of files that have none, and removes those without a file.
func (c *crawler) remember(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(recordsAtOnce)
	for i, f := range c.files {
		seen := c.known[f.Name]
		delete(c.known, f.Name)
		if seen {
			continue
		}
		c.records[i].Schema = c.result.Schema
		text, name := c.records[i].encode(nil), recordNameOf(f.Name)
		g.Go(func() error { return createAnew(gctx, c.bucket, name, text) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for name := range c.known {
		if err := c.bucket.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *crawler) describe(ctx context.Context) error {
	c.about.Format = formatAlien
	text, err := json.Marshal(c.about)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if c.result.New {
		return blob.Ensure(ctx, c.bucket, description, text)
	}
	if have, _, err := c.bucket.Get(ctx, description); err == nil && bytes.Equal(have, text) {
		return nil
	}
	_, err = c.bucket.Replace(ctx, description, c.version, text)
	return err
}
