package queuetarget

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Deduplicate leaves out messages that have come before.
type Deduplicate struct {
	// For how long, in seconds, an id is known; 3600 by default. Ids take room in the store for
	// at most three times as long.
	WindowSeconds int `hcl:"window_seconds,optional"`
}

// SetDefaults sets what the block need not say.
func (d *Deduplicate) SetDefaults() { d.WindowSeconds = 3600 }

// Validate names what could never work.
func (d *Deduplicate) Validate() []connector.Problem {
	if d.WindowSeconds < 1 || d.WindowSeconds > 366*24*3600 {
		return []connector.Problem{{Field: "window_seconds", What: fmt.Sprintf("window_seconds must be between 1 and a year, not %d", d.WindowSeconds), Fix: "leave it out to use 3600"}}
	}
	return nil
}

// duplicate is the reason why a message that came before is not appended.
const duplicate = "duplicate"

// ids are the ids of messages that were appended to a queue, as records of its store: with the
// jobs that they came with, all or nothing.
//
// A record's key is "seen/", the queue, a 0 byte, the number of the window in which the id came,
// and of the rest that tells messages apart, which is whole up to [longest] bytes, or its SHA-256
// hash. Its value is when the id came. The windows of the past are taken away one by one.
type ids struct {
	store  func() queue.Store
	prefix []byte
	window time.Duration
	log    *slog.Logger

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

func newIDs(store func() queue.Store, name string, d *Deduplicate, log *slog.Logger) *ids {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &ids{store: store, prefix: append([]byte("seen/"+name), 0), window: time.Duration(d.WindowSeconds) * time.Second, log: log}
}

// longest is how many bytes of an id are kept as they are.
const longest = 200

// key is the key of m in a window.
func (d *ids) key(dst []byte, m *event.Message, window uint64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst[:0], d.prefix...), window)
	from := len(dst)
	if s := m.Meta.Scope; s != nil {
		for _, part := range [...]string{s.Workspace, s.Source, s.Destination} {
			dst = append(binary.AppendUvarint(dst, uint64(len(part))), part...)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(m.Meta.Piece))
	dst = append(dst, m.Meta.ID...)
	if len(dst)-from <= longest {
		return append(dst, 'w')
	}
	sum := sha256.Sum256(dst[from:])
	return append(append(dst[:from], sum[:]...), 'h')
}

// fresh is the messages of b that have not come before, which are noted in tx. Of the others it
// says that they were dropped. A message without an id is always fresh.
func (d *ids) fresh(tx queue.Tx, b event.Batch) (event.Batch, error) {
	now := d.store().Now()
	window := uint64(now.UnixNano()) / uint64(d.window)
	value := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	keys := make([][]byte, 0, 2*len(b)) // of each message that has an id: of the window now, and of that before
	var room []byte
	for _, m := range b {
		m.Drop("") // a transaction may run again
		if m.Meta.ID == "" {
			continue
		}
		for _, w := range [...]uint64{window, window - 1} {
			room = d.key(room, m, w)
			keys = append(keys, bytes.Clone(room))
		}
	}
	seen, err := tx.GetAll(keys)
	if err != nil {
		return nil, err
	}
	within := func(v []byte) bool {
		return len(v) == 8 && now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(v)))) < d.window
	}
	out := make(event.Batch, 0, len(b))
	here := make(map[string]struct{}, len(b)) // the keys that b itself has put
	for _, m := range b {
		if m.Meta.ID == "" {
			out = append(out, m)
			continue
		}
		key := keys[0]
		_, twice := here[string(key)]
		before := twice || within(seen[0]) || within(seen[1])
		keys, seen = keys[2:], seen[2:]
		if before {
			m.Drop(duplicate)
			continue
		}
		if err := tx.Put(key, value); err != nil {
			return nil, err
		}
		here[string(key)] = struct{}{}
		out = append(out, m)
	}
	return out, nil
}

// open begins to forget.
func (d *ids) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.done = stop, make(chan struct{})
	go d.forgets(ctx, d.done)
}

func (d *ids) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		d.stop()
		<-d.done
		d.stop = nil
	}
}

// forgetEvery bounds how often it is looked for ids that are old.
const forgetEvery = 10 * time.Minute

func (d *ids) forgets(ctx context.Context, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(max(min(d.window/2, forgetEvery), time.Second))
	defer tick.Stop()
	for {
		if err := d.forget(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("cannot forget the ids of messages that came long ago, trying again", meter.KeyError, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// forgetAtOnce is how many ids are forgotten in a transaction.
const forgetAtOnce = 1000

// forget takes away the ids of windows that are past.
func (d *ids) forget(ctx context.Context) error {
	window := uint64(d.store().Now().UnixNano()) / uint64(d.window)
	for after := []byte(nil); ; {
		var page [][]byte
		err := d.store().View(ctx, func(r queue.Reader) error {
			page = page[:0]
			for rec, err := range r.Scan(d.prefix, after) {
				if err != nil {
					return err
				}
				if len(rec.Key) < len(d.prefix)+8 || binary.BigEndian.Uint64(rec.Key[len(d.prefix):])+1 >= window {
					break // they come in order of their windows
				}
				if page = append(page, rec.Key); len(page) == forgetAtOnce {
					break
				}
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		if err := d.store().Update(ctx, func(tx queue.Tx) error {
			for _, key := range page {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		after = page[len(page)-1]
	}
}
