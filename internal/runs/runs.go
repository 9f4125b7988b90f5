// Package runs is the status of job runs: how many events of a run came in, went out and failed, by
// the task, the source and the destination, and which records failed. Whoever started a run asks for
// it until the run is completed.
//
// # What is counted
//
// Events that say which run sent them ([event.Descriptor]) are counted where they are at rest:
//
//	queue of a gateway        (task, source, "")           in: appended, or left out as one that came before
//	                                                       out: ended well, also filtered, or left out
//	                                                       failed: dead, or given to the failure target
//	queue of deliveries       (task, source, destination)  in: appended; out and failed: as above
//
// Every change is part of the transaction that appends or settles, so that counts are never ahead of
// what they count, nor behind: a crash loses and doubles nothing. An event that failed and is sent again
// counts once more where it ends; the answer then raises what came in to what went out and failed.
//
// # Records of the store
//
// H is the SHA-256 hash of the run's name, cut to 16 bytes, R that of task, source and destination.
//
//	runs/d/ H writer number   what one transaction changes
//	runs/s/ H R               the sums of those that were folded
//	runs/k/ H                 the run's name, and when something of it changed last
//	runs/f/ H R text          a record that failed, by its recordId
//	runs/x/ H                 a run that was cancelled: its name, and when
//	runs/q/ queue             the stage of a queue, for those who settle its jobs without its config
//
// No two transactions that count write the same key, so none waits for another. Folding reads changes and
// adds them to the sums in a transaction that takes the changes away: each is in the sums or by itself,
// and a status, which is read at one moment, is the sum of both.
package runs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// The stages at which events are counted; a queue of none is not.
const (
	Sources      = "sources"
	Destinations = "destinations"
)

// Stages are all stages.
var Stages = []string{Sources, Destinations}

const (
	changes = "runs/d/"
	sums    = "runs/s/"
	known   = "runs/k/"
	failed  = "runs/f/"
	queues  = "runs/q/"

	cancelled = "runs/x/"
)

const hashed = 16 // bytes of a hash in a key

// Book keeps the status of runs in a store. There is one for a process and a store, which those share
// that count; while one of them is open it folds, and forgets runs that are old.
type Book struct {
	store  func() queue.Store
	log    *slog.Logger
	writer [8]byte // of this book, as no other process has it
	number atomic.Uint64
	fresh  chan struct{} // has an element when something was counted

	cancels atomic.Pointer[map[string]struct{}] // runs that are cancelled; nil: none

	mu    sync.Mutex
	names map[string]string // the stages of queues that are to be noted
	users int
	stop  context.CancelFunc
	done  chan struct{}
}

// New returns the book of a store.
func New(store func() queue.Store, log *slog.Logger) *Book {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Book{store: store, log: log, fresh: make(chan struct{}, 1), names: map[string]string{}}
	_, _ = rand.Read(b.writer[:]) // it never fails
	return b
}

// Of is the book of the process that a connector is made in.
func Of(d connector.Deps) *Book {
	made := func() any { return New(d.Store, d.Log) }
	if d.Kept != nil {
		if b, ok := d.Kept("status of job runs", made).(*Book); ok {
			return b
		}
	}
	return New(d.Store, d.Log)
}

// row is whose counts they are.
type row struct{ task, source, destination string }

// Counts are those of a row.
type Counts struct{ In, Out, Failed int64 }

func (c *Counts) add(d Counts) {
	c.In, c.Out, c.Failed = c.In+d.In, c.Out+d.Out, c.Failed+d.Failed
}

// rowOf is the row of an event of a stage.
func rowOf(stage string, about *event.Descriptor, of queue.Scope) row {
	r := row{task: about.TaskRun, source: of.Source}
	if stage == Destinations {
		r.destination = of.Destination
	}
	return r
}

func hash(parts ...string) []byte {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)[:hashed]
}

func (r row) hash() []byte { return hash(r.task, r.source, r.destination) }

func join(prefix string, parts ...[]byte) []byte {
	key := []byte(prefix)
	for _, p := range parts {
		key = append(key, p...)
	}
	return key
}
