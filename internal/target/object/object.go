// Package object is the target "object": it puts messages into objects of a bucket, one for a
// batch or one for a message.
//
// # Invariants
//
//   - When Write returns nil, every message of the batch is in an object that is there whole and
//     durably. An object is there whole or not at all.
//   - An object with messages that the source has named is called after them ("!{unique}" is a
//     hash of their places and payloads): when the same messages are written again together, the
//     object is there already, with this content, and nothing is written. Its times are those that
//     the source gave, so that the rest of the name is the same too. Messages that come again in
//     another grouping are there twice.
//   - An object is never replaced, unless existing = "replace" says so for names that fields alone
//     decide; of messages of one batch with one such name, the last one counts.
//   - A prefix is read as Firehose reads it (package firehose/prefix), and what stands behind it is as
//     its names are; the UUID is a hash as above.
//   - A value of a payload never leads out of its part of the name, nor out of the prefix.
//   - Objects of Parquet and of CSV have the columns that are declared, and a message that does not fit
//     them is invalid as a whole. Equal messages make equal bytes.
//   - What fails fails with its object: the messages of the others are written.
package object

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Entry is the object target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "object", Summary: "Puts messages into objects of S3, Google Cloud Storage, Azure Blob storage or a folder.", Stability: connector.Experimental, Whole: true,
	Default: defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		return New(d, c)
	},
})

// Target puts objects into a bucket.
type Target struct {
	config  Config
	place   place.Place
	options place.Options
	key     key
	zone    *time.Location
	log     *slog.Logger
	table   *table // of CSV; nil: payloads are no lines of it

	mu         sync.RWMutex
	bucket     blob.Bucket // nil while closed
	conversion *conversion // nil while closed, and where payloads stay as they are
}

var (
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
	_ connector.Doubter = (*Target)(nil)
)

// New returns a target that is not opened.
func New(d connector.Deps, c Config) (*Target, error) {
	p, err := place.Parse(c.Path)
	if err != nil {
		return nil, connector.Blame("path", connector.Remedy(err, ""), err)
	}
	k, err := c.key(d)
	if err != nil {
		return nil, err
	}
	if c.FormatConversion != nil && strings.HasPrefix(d.Component, failureBlock) {
		return nil, connector.Blame("format_conversion", "leave the block out", errors.New("failed messages have a form of their own, and not the columns of a table"))
	}
	zone, err := time.LoadLocation(c.CustomTimeZone)
	if err != nil {
		return nil, connector.Blame("custom_time_zone", "", err)
	}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var lines *table
	if c.CSV != nil {
		lines = c.CSV.table(c.delimiter())
	}
	return &Target{
		config: c, place: p.In(d.Path), key: k, zone: zone, log: log, table: lines,
		options: place.Options{Access: c.access(), Make: true, Properties: c.properties(), Resolve: d.Path, Version: d.Version, Log: log},
	}, nil
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.config.Batching.Limits()
	if t.config.Each == eachMessage {
		l.Eager = true
		return l
	}
	if t.key.grouped() {
		l.Joint, l.MaxGroups = true, t.config.MaxPartitions
		if t.config.WhenExceeded == exceededFail {
			l.Exceeded = exceeded(t.config.MaxPartitions)
		}
		l.Group = func(m *event.Message) string {
			g, err := t.key.group(m)
			if err != nil {
				return "" // it is refused when it is written
			}
			return g
		}
	}
	return l
}

// Inspect implements connector.Inspector.
func (t *Target) Inspect() error { return t.place.Inspect(t.options) }

// Check implements connector.Checker.
func (t *Target) Check(ctx context.Context) error {
	if f := t.config.FormatConversion; f != nil {
		if _, err := f.resolve(ctx, t.options.Version); err != nil {
			return err
		}
	}
	return t.place.Check(ctx, t.options)
}

// sweepAge is how old an upload must be that nobody can be writing any more.
const sweepAge = 24 * time.Hour

// Open implements connector.Target.
func (t *Target) Open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bucket != nil {
		return nil
	}
	var converts *conversion
	if f := t.config.FormatConversion; f != nil {
		var err error
		if converts, err = f.resolve(ctx, t.options.Version); err != nil {
			return err
		}
	}
	b, err := t.place.Open(ctx, t.options)
	if err != nil {
		return err
	}
	if err := b.Sweep(ctx, time.Now().Add(-sweepAge)); err != nil {
		if ctx.Err() != nil {
			return errors.Join(err, b.Close())
		}
		t.log.Warn("what dead writers have left of their uploads cannot be removed, and costs what it is stored for", "path", t.place.String(), "error", err)
	}
	t.bucket, t.conversion = b, converts
	return nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock() // waits for writes in progress
	defer t.mu.Unlock()
	if t.bucket == nil {
		return nil
	}
	err := t.bucket.Close()
	t.bucket, t.conversion = nil, nil
	return err
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.bucket == nil {
		return fault.New(fault.Fatal, fmt.Errorf("write to %s: it is not open", t.place))
	}
	failed := map[int]error{}
	t.writeAll(ctx, t.divide(b, failed), failed)
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}
