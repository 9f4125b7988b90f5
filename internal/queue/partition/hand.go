package partition

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// This file makes jobs of what a Lease call has picked.

// pick is what was leased: jobs of one value that follow each other, or one side row.
type pick struct {
	lane     *lane
	value    opened
	from, to uint32 // the jobs of value: from is the first, to the one after the last
	side     *Side  // set: value is not
}

// hand makes jobs of what was picked and gives them their lease. It is called with the
// lock, and lets go of it to read and decode. A job that cannot be read keeps nobody from the others:
// it stays leased, and comes again when the lease has ended.
func (t *turn) hand(ctx context.Context, d time.Duration) ([]queue.Job, error) {
	p := t.p
	unread := t.load(ctx)
	if unread != nil && t.count > 0 {
		p.cfg.Log.Error("jobs that cannot be read stay in the queue", "error", unread)
	}
	if t.count == 0 {
		return nil, unread
	}
	now := p.now()
	t.g.expires = now.steady + int64(d)
	t.g.open = t.count
	p.grants[t.g.token] = t.g
	heap.Push(&p.expiry, t.g)
	p.mu.Unlock()
	jobs, err := t.decode(queue.Lease{Token: t.g.token, Expires: time.Unix(0, now.wall).Add(d).UTC()})
	p.mu.Lock()
	if len(jobs) == 0 && p.grants[t.g.token] != nil {
		p.expire(t.g, t.now)
	}
	if len(jobs) > 0 && err != nil {
		p.cfg.Log.Error("jobs that cannot be read stay in the queue", "jobs", t.count-len(jobs), "error", err)
	}
	return jobs, err
}

// load reads the records of picks of which only is known where they are, and sees to it that
// none holds far more memory than it takes. It is called with the lock, and lets go of it.
// What cannot be read is given back, and the first reason returned.
func (t *turn) load(ctx context.Context) (failed error) {
	if t.count == 0 {
		return nil
	}
	p := t.p
	p.mu.Unlock()
	var lost []pick
	picks := t.picks[:0]
	for i := range t.picks {
		k := t.picks[i]
		if k.side == nil && k.value.data == nil {
			v, err := p.part(ctx, k.lane.id, &k.value, k.from, k.to)
			if err != nil {
				if failed == nil {
					failed = k.lane.trouble(err)
				}
				lost = append(lost, k)
				continue
			}
			k.value = v
		}
		picks = append(picks, k)
	}
	clear(t.picks[len(picks):])
	t.picks = picks
	t.own()
	p.mu.Lock()
	for i := range lost {
		t.giveBack(&lost[i])
	}
	return failed
}

// own copies the records of values of which most is not handed out.
func (t *turn) own() {
	var used map[*byte]int // bytes handed out, of the memory that several picks share
	short := func(k *pick) int {
		if k.side != nil {
			return 0
		}
		n := int(k.value.ends[k.to-k.value.first] - k.value.ends[k.from-k.value.first])
		if 2*n >= k.value.held() {
			return 0
		}
		return n
	}
	for i := range t.picks {
		if n := short(&t.picks[i]); n > 0 {
			if used == nil {
				used = map[*byte]int{}
			}
			used[t.picks[i].value.base()] += n
		}
	}
	for i := range t.picks {
		k := &t.picks[i]
		if n := short(k); n > 0 && 2*used[k.value.base()] < k.value.held() {
			k.value = k.value.alone(k.from, k.to, nil)
		}
	}
}

// giveBack makes jobs that were picked such that may be handed out again.
func (t *turn) giveBack(k *pick) {
	at := slices.IndexFunc(t.g.values, func(r valueRef) bool { return r.lane == k.lane && r.batch.seq == k.value.seq })
	for i := k.from; i < k.to; i++ {
		t.p.freeJob(k.lane, t.g.values[at].batch, i)
		t.count--
	}
	t.p.offer(k.lane, t.now)
}

// decode allocates the jobs in one piece and their messages in another: all else that a
// message holds, but for headers, is memory of the values as they were loaded. It returns the
// first error beside the jobs that could be read.
func (t *turn) decode(lease queue.Lease) (jobs []queue.Job, failed error) {
	jobs = make([]queue.Job, t.count)
	messages := make([]event.Message, t.count)
	var d queue.Decoder
	n := 0
	read := func(k *pick, id queue.ID, rec []byte) (*queue.Job, bool) {
		err := k.decode(&d, &jobs[n], &messages[n], id, rec, lease)
		if err == nil {
			n++
			return &jobs[n-1], true
		}
		jobs[n], messages[n] = queue.Job{}, event.Message{}
		if failed == nil {
			failed = k.lane.trouble(err)
		}
		return nil, false
	}
	for i := range t.picks {
		k := &t.picks[i]
		if s := k.side; s != nil {
			if j, ok := read(k, s.ID, s.Record); ok {
				j.Attempt, j.Cause, j.At = s.Attempt, s.Cause, time.Unix(0, s.At).UTC()
				j.NotBefore = t.now.time(s.Due)
			}
			continue
		}
		id, at := queue.ID{Lane: k.lane.id, Seq: k.value.seq}, time.Unix(0, k.value.at).UTC()
		for id.Index = k.from; id.Index < k.to; id.Index++ {
			rec := k.value.record(id.Index)
			if j, ok := read(k, id, rec); ok {
				if j.At = at; t.any { // its time may be to come
					if head, err := queue.ReadHead(rec); err == nil {
						j.NotBefore = t.now.time(head.NotBefore)
					}
				}
			}
		}
	}
	return jobs[:n], failed
}

func (k *pick) decode(d *queue.Decoder, j *queue.Job, m *event.Message, id queue.ID, rec []byte, lease queue.Lease) error {
	if err := d.Read(rec, j, m); err != nil {
		return fmt.Errorf("lease job %s: %w", id, err)
	}
	m.Meta.Scope = &k.lane.scope
	j.ID, j.Queue, j.Scope, j.Lease = id, k.lane.queue, k.lane.scope, lease
	return nil
}
