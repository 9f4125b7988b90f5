package kinesissource

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/checkpoint"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
	"github.com/weirdata/weir/internal/kinesis/lease"
	"github.com/weirdata/weir/internal/meter"
)

// shard is one holding of one shard: what was fetched of it, and how far it is settled.
type shard struct {
	n     *session
	lease holding
	id    string
	log   *slog.Logger
	first aggregate.Hash // of the keys that belong here, when ranged
	last  aggregate.Hash
	// ranged says that the range of keys is known.
	ranged bool
	// begin is what was done before this holding; where to start when it is no record.
	begin lease.Position
	// afresh says that begin is none of the shard, and that it is read from its oldest record.
	afresh atomic.Bool

	// Of the reader: the last record that was fetched, and what is known before the first.
	after   string
	since   time.Time
	reading *trouble

	// What was fetched and waits to be read. The reader puts it there while there is none, and
	// takes no look at it afterwards; Read takes it out.
	records []types.Record
	next    int
	full    bool          // guarded by the session: there are some
	gone    bool          // guarded by the session: nothing of it is read any more
	drained chan struct{} // has an element when none is left

	cursor cursor // of Read

	mu       sync.Mutex
	tracker  *checkpoint.Tracker[lease.Position]
	free     lease.Position // up to it everything is settled
	saved    lease.Position
	ended    bool // everything was read
	children []lease.Shard
	moved    chan struct{} // has an element when free or ended have changed

	behind   time.Duration // by the last answer
	answered time.Time
	idle     bool      // the last answer had nothing, and nothing is behind it
	oldest   time.Time // of what waits to be read; zero when nothing does
}

// mostOpen is how many reads of a shard may be open at once; the engine bounds the messages.
const mostOpen = 1 << 20

func newShard(n *session, h holding) *shard {
	id := h.Shard().ID
	sh := &shard{
		n: n, lease: h, id: id, log: n.log.With("shard", id), drained: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		tracker: checkpoint.New[lease.Position](mostOpen), begin: n.beginning(h), saved: h.Position(),
	}
	sh.belongs(h.Shard().Range)
	sh.cursor.resume = sh.begin.IsRecord()
	sh.reading = sh.trouble("read the shard")
	return sh
}

// belongs sets which keys belong to the shard, where that is known.
func (sh *shard) belongs(r lease.HashRange) {
	from, known := aggregate.ParseHash(r.From)
	to, known2 := aggregate.ParseHash(r.To)
	sh.first, sh.last, sh.ranged = from, to, known && known2
}

// foreign reports whether a user record belongs to another shard.
func (sh *shard) foreign(u *aggregate.Record) bool {
	return sh.ranged && !u.Within(sh.first, sh.last)
}

// beginning is where a holding begins. A table without sentinels leaves it to the settings, but
// what comes of another shard is read from its beginning.
func (n *session) beginning(h holding) lease.Position {
	p := h.Position()
	switch {
	case !p.IsZero():
		return p
	case len(h.Shard().Parents) > 0:
		return lease.TrimHorizon
	}
	return n.start.Position
}

// run reads the shard until its end is written, its lease is lost or the source is closed.
func (sh *shard) run() {
	ctx, stop := context.WithCancelCause(sh.n.ctx)
	var busy sync.WaitGroup
	busy.Go(func() {
		select {
		case <-sh.lease.Lost():
			stop(lease.ErrLost)
		case <-ctx.Done():
		}
	})
	busy.Go(func() { sh.commit(ctx) })
	sh.log.Info("reading a shard", "position", sh.begin.String())
	if sh.n.consumer != "" {
		sh.subscribe(ctx)
	} else {
		sh.poll(ctx)
	}
	if ctx.Err() == nil { // it could not be read on
		if err := sh.lease.Release(ctx); err != nil {
			sh.log.Warn("a shard that is read here no more is not given back, and goes to another when its lease ends", meter.KeyError, err)
		}
		stop(lease.ErrLost)
	}
	busy.Wait()
	stop(nil)
	sh.forget()
	if sh.n.ctx.Err() == nil {
		sh.log.Info("a shard is read here no more", "position", sh.position().String())
	}
}

// forget throws away what was fetched. When the source is being closed, the shard stays in the
// list of those whose positions are to be written.
func (sh *shard) forget() {
	n := sh.n
	n.mu.Lock()
	defer n.mu.Unlock()
	sh.gone = true
	if n.ctx.Err() == nil {
		delete(n.held, sh)
	}
	for i, other := range n.ready {
		if other == sh {
			n.ready = append(n.ready[:i], n.ready[i+1:]...)
			sh.drop()
			return
		}
	}
}

// drop gives back the room of what was fetched; Read is not at it.
func (sh *shard) drop() {
	for ; sh.next < len(sh.records); sh.next++ {
		sh.n.budget.add(-cost(&sh.records[sh.next]))
	}
	sh.full, sh.records, sh.next = false, nil, 0
	sh.waits(nil)
}

// waits notes the oldest record that waits to be read.
func (sh *shard) waits(r *types.Record) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.oldest = (time.Time{}); r != nil && r.ApproximateArrivalTimestamp != nil {
		sh.oldest = *r.ApproximateArrivalTimestamp
	}
}

// cost is what a record takes of the budget.
func cost(r *types.Record) int { return len(r.Data) + 256 }

func costs(rs []types.Record) (n int) {
	for i := range rs {
		n += cost(&rs[i])
	}
	return n
}

// deliver puts what was fetched where Read takes it, once what was there has been taken. The
// budget is charged with it already.
func (sh *shard) deliver(ctx context.Context, records []types.Record) bool {
	if len(records) == 0 {
		return ctx.Err() == nil
	}
	if !sh.empty(ctx) || !sh.offer(records) {
		sh.n.budget.add(-costs(records))
		return false
	}
	sh.after = *records[len(records)-1].SequenceNumber
	sh.n.poke()
	return true
}

func (sh *shard) offer(records []types.Record) bool {
	n := sh.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if sh.gone || !sh.lease.Held() {
		return false
	}
	sh.full, sh.records, sh.next = true, records, 0
	sh.waits(&records[0])
	n.ready = append(n.ready, sh)
	return true
}

// empty waits until nothing waits to be read.
func (sh *shard) empty(ctx context.Context) bool {
	for {
		sh.n.mu.Lock()
		full := sh.full
		sh.n.mu.Unlock()
		if !full {
			return ctx.Err() == nil
		}
		select {
		case <-sh.drained:
		case <-ctx.Done():
			return false
		}
	}
}

// note keeps what an answer says of the lag.
func (sh *shard) note(records int, behind *int64) {
	now := time.Now()
	sh.mu.Lock()
	sh.answered = now
	if behind != nil {
		sh.behind = time.Duration(*behind) * time.Millisecond
	}
	sh.idle = records == 0 && sh.behind == 0
	sh.mu.Unlock()
	sh.n.answered(now)
}

// end is called when the last record of the shard was fetched.
func (sh *shard) end(ctx context.Context, follow []lease.Shard) {
	if !sh.empty(ctx) {
		return
	}
	sh.mu.Lock()
	sh.ended, sh.children = true, follow
	sh.mu.Unlock()
	sh.pokeCommit()
	<-ctx.Done() // the committer finishes, when all is settled
}

func (sh *shard) pokeCommit() {
	select {
	case sh.moved <- struct{}{}:
	default:
	}
}

// settled is called when a segment of the shard is: all of it is handled.
func (sh *shard) settled(resolve func() (lease.Position, bool)) {
	sh.mu.Lock()
	p, moved := resolve()
	if moved && p.Compare(sh.free) > 0 {
		sh.free = p
	}
	sh.mu.Unlock()
	if moved {
		sh.pokeCommit()
	}
}

// position is up to where everything is settled.
func (sh *shard) position() lease.Position {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.free.IsZero() {
		return sh.begin
	}
	return sh.free
}

// due is what is to be written: the position, and whether the shard is done with.
func (sh *shard) due() (p lease.Position, moved, finished bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	moved = sh.free.IsRecord() && sh.free.Compare(sh.saved) > 0
	return sh.free, moved, sh.ended && sh.tracker.Open() == 0
}

// writeTimeout bounds one write of a position; the lease has clocks of its own.
const writeTimeout = 30 * time.Second

// write writes what is due. A lease that is lost has nothing to write.
func (sh *shard) write(ctx context.Context) error {
	p, moved, finished := sh.due()
	if !moved && !finished {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, writeTimeout)
	defer done()
	if finished {
		return sh.lease.Finish(ctx, sh.children)
	}
	if err := sh.lease.Save(ctx, p); err != nil {
		return err
	}
	sh.mu.Lock()
	sh.saved = p
	sh.mu.Unlock()
	return nil
}

// commit writes positions as they become free, at most one in the interval, until ctx ends.
func (sh *shard) commit(ctx context.Context) {
	interval := time.Duration(sh.n.config.CheckpointIntervalMs) * time.Millisecond
	trouble := sh.trouble("write how far the shard was delivered")
	for {
		select {
		case <-sh.moved:
		case <-ctx.Done():
			return
		}
		wait := interval
		err := sh.write(ctx)
		switch {
		case errors.Is(err, lease.ErrLost) || ctx.Err() != nil:
		case err != nil:
			wait = trouble.note(err)
			sh.pokeCommit()
		default:
			trouble.over()
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// writeLast writes what is due for the last time: again after an answer that was slow or a failure
// that passes, as long as the lease is held. What is lost by then was not written.
func (sh *shard) writeLast(ctx context.Context) (err error) {
	for trouble := sh.trouble("write how far the shard was delivered"); ; {
		now := sh.write(ctx)
		switch {
		case now == nil:
			return nil
		case errors.Is(now, lease.ErrLost):
			return err // nil: it is another's
		}
		if err = now; fault.Of(err) == fault.Setup || pause(ctx, trouble.note(err)) != nil {
			return err
		}
	}
}

// flush writes what is due of shards whose readers have ended.
func flush(ctx context.Context, shards []*shard) error {
	const atOnce = 16
	var busy sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	turns := make(chan struct{}, atOnce)
	for _, sh := range shards {
		busy.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			err := sh.writeLast(ctx)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
			sh.log.Error("how far the shard was delivered is not written: what was delivered since will be delivered again", meter.KeyError, err)
		})
	}
	busy.Wait()
	return errors.Join(failed...)
}
