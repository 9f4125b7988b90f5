package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// writers is how many objects of a batch are written at once.
const writers = 8

// group is the messages of an object.
type group struct {
	values   string // of the key
	at       []int  // in the batch
	messages event.Batch

	rows  *parquet.Rows // of an object of Parquet
	lines []byte        // of one of CSV
}

// divide puts the messages of a batch into groups, in their order. Those that have no place are
// in failed.
func (t *Target) divide(b event.Batch, failed map[int]error) []*group {
	var all []*group
	open := map[string]*group{}
	f := t.former()
	for i, m := range b {
		values, err := t.key.group(m)
		if err == nil {
			err = f.read(m)
		}
		if err != nil {
			failed[i] = err
			continue
		}
		g := open[values]
		if g == nil || t.config.Each == eachMessage && t.key.unique() {
			g = &group{values: values}
			open[values] = g
			all = append(all, g)
		}
		g.at, g.messages = append(g.at, i), append(g.messages, m)
		f.add(g)
	}
	if t.config.Each == eachMessage { // of those with one name the last one counts
		for _, g := range all {
			g.messages = g.messages[len(g.messages)-1:]
		}
	}
	return all
}

// writeAll writes groups, some at once.
func (t *Target) writeAll(ctx context.Context, groups []*group, failed map[int]error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, writers)
	for _, g := range groups {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			err := t.put(ctx, g)
			g.release()
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, i := range g.at {
				failed[i] = err
			}
		})
	}
	wg.Wait()
}

// put writes the object of a group.
func (t *Target) put(ctx context.Context, g *group) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name, err := t.name(g)
	if err == nil {
		err = blob.CheckName(name)
	}
	if err != nil {
		return fault.New(fault.Invalid, err)
	}
	data, err := t.encode(g, name)
	if err != nil {
		return err
	}
	err = t.create(ctx, name, data)
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	return t.meet(ctx, name, data, err)
}

func (t *Target) create(ctx context.Context, name string, data []byte) error {
	w, err := t.bucket.Writer(ctx, name)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Commit(ctx)
}

// meet decides about an object whose name is taken. One that is called after these messages holds
// them, whatever compressed it; else one with this content is this one.
func (t *Target) meet(ctx context.Context, name string, data []byte, taken error) error {
	switch {
	case t.key.named():
		_, err := t.bucket.Head(ctx, name) // what it finds is durable
		return err
	case t.key.unique():
		return taken // by chance: the next try has another name
	}
	const tries = 10
	for range tries {
		same, err := t.same(ctx, name, data)
		switch {
		case same && err == nil:
			return nil
		case errors.Is(err, blob.ErrNotFound): // it has gone since
			if err := t.create(ctx, name, data); !errors.Is(err, blob.ErrExists) {
				return err
			}
			continue
		case err != nil:
			return err
		case t.config.Existing != existingOthers:
			return fault.New(fault.Invalid, fmt.Errorf("%w, with another content: set existing = \"replace\", or add !{unique} to the name", taken))
		}
		_, v, err := t.bucket.Get(ctx, name)
		if err == nil {
			_, err = t.bucket.Replace(ctx, name, v, data)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, blob.ErrChanged) && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return fmt.Errorf("%w, and others replace it again and again", taken)
}

// same reports whether an object has this content.
func (t *Target) same(ctx context.Context, name string, data []byte) (bool, error) {
	info, err := t.bucket.Head(ctx, name) // what it finds is durable
	if err != nil || info.Size != int64(len(data)) {
		return false, err
	}
	r, err := t.bucket.Open(ctx, name, 0, -1)
	if err != nil {
		return false, err
	}
	have, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return false, err
	}
	return bytes.Equal(have, data), nil
}

// name is the name of a group's object.
func (t *Target) name(g *group) (string, error) {
	values := strings.Split(g.values, "\x00")
	at := oldest(g.messages).In(t.zone)
	var failed error
	name := t.key.name(at, func(p piece) string {
		switch p.kind {
		case isUnique:
			return t.uniqueOf(g)
		case isUUID:
			return t.uuidOf(g)
		case isRandom:
			return randomString()
		case isFirst:
			return strconv.FormatInt(oldest(g.messages).Unix(), 10)
		case isLast:
			return strconv.FormatInt(newest(g.messages).Unix(), 10)
		}
		v := values[0]
		values = values[1:]
		if p.kind == isPrefix {
			if v, failed = evaluate(p.prefix, at, g.messages[0]); failed != nil {
				return ""
			}
		}
		return v
	})
	return name, failed
}

// oldest is the time of the oldest message.
func oldest(b event.Batch) time.Time {
	return extreme(b, func(at, first time.Time) bool { return at.Before(first) })
}

// newest is the time of the newest message.
func newest(b event.Batch) time.Time {
	return extreme(b, func(at, last time.Time) bool { return at.After(last) })
}

// extreme is the time of the message that is beyond all others: when it came into the stream, else when
// it was made, else when it was read.
func extreme(b event.Batch, beyond func(at, all time.Time) bool) time.Time {
	var found time.Time
	for _, m := range b {
		at := m.Times.Created
		if o := m.Meta.Origin.Earliest(); o != nil && !o.At.IsZero() {
			at = o.At
		}
		if at.IsZero() {
			at = m.Times.Read
		}
		if !at.IsZero() && (found.IsZero() || beyond(at, found)) {
			found = at
		}
	}
	if found.IsZero() {
		found = time.Now()
	}
	return found.UTC()
}

// digest is a hash of where the messages were read and of what they are; nil where that is not
// known of one.
func digest(b event.Batch) []byte {
	h := sha256.New()
	for _, m := range b {
		o := m.Meta.Origin.Earliest()
		switch {
		case o != nil && len(o.Position) > 0:
			add(h, []byte(o.Stream), []byte(o.Partition), o.Position, binary.BigEndian.AppendUint64(nil, o.Sub))
		case m.Meta.ID != "":
			add(h, []byte(m.Meta.ID))
		default:
			return nil
		}
		add(h, m.Data)
	}
	const size = 16
	return h.Sum(nil)[:size]
}

// uniqueOf is a text that says which messages they are; a new one where that is not known.
func (t *Target) uniqueOf(g *group) string {
	sum := digest(g.messages)
	if sum == nil {
		return fresh(time.Now())
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum))
}

// add hashes texts so that no others look the same.
func add(h hash.Hash, texts ...[]byte) {
	for _, text := range texts {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(text)))) // a hash takes everything
		_, _ = h.Write(text)
	}
}
