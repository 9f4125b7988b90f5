package queuesource

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// Seek implements connector.Seeker.
func (s *Source) Seek(_ context.Context, r connector.Range) (connector.Replay, error) {
	admin, ok := s.store().(queue.Admin)
	if !ok {
		return nil, fault.New(fault.Invalid, errors.New("the store cannot list jobs"))
	}
	refuse := func(why string) (connector.Replay, error) {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read a range of queue %q: %s", s.query.Queue, why))
	}
	lane, err := strconv.ParseUint(r.Partition, 10, 64)
	if r.Stream != s.query.Queue || err != nil {
		return refuse(fmt.Sprintf("there is no partition %q of %q", r.Partition, r.Stream))
	}
	first, ok1 := idOf(lane, r.First)
	last, ok2 := idOf(lane, r.Last)
	if !ok1 || !ok2 || last.Before(first) {
		return refuse(fmt.Sprintf("it cannot be from % x to % x", r.First.Bytes, r.Last.Bytes))
	}
	return &replay{admin: admin, now: s.store().Now, queue: s.query.Queue, bytes: s.query.Bytes, most: s.query.Limit, first: first, last: last, page: firstPage}, nil
}

// idOf is the job at a position of a lane.
func idOf(lane uint64, p connector.Position) (queue.ID, bool) {
	if len(p.Bytes) != positionBytes || p.Sub != 0 {
		return queue.ID{}, false
	}
	id := queue.ID{Lane: lane, Seq: binary.BigEndian.Uint64(p.Bytes), Index: binary.BigEndian.Uint32(p.Bytes[8:])}
	return id, id.Seq > 0
}

// firstPage is how many jobs are listed before it is known how large they are.
const firstPage = 16

// replay reads the jobs from first to last.
type replay struct {
	admin       queue.Admin
	now         func() time.Time // of the store
	queue       string
	bytes, most int // of what is listed at once
	first, last queue.ID

	page  int         // how many jobs to list at once
	jobs  []queue.Job // listed and not returned
	prior queue.ID    // the job listed last; zero at the beginning
}

// Read implements connector.Replay.
func (p *replay) Read(ctx context.Context, room connector.Room) (event.Batch, error) {
	if len(p.jobs) == 0 {
		if p.prior == p.last {
			return nil, io.EOF
		}
		if err := p.fetch(ctx); err != nil {
			return nil, err
		}
	}
	most, bytes := room.Within(len(p.jobs), math.MaxInt)
	n := 0
	for n < min(most, len(p.jobs)) {
		size := len(p.jobs[n].Msg.Data)
		if n > 0 && size > bytes {
			break
		}
		bytes -= size
		n++
	}
	b := messages(p.jobs[:n], p.now())
	p.jobs = p.jobs[n:]
	return b, nil
}

// attempts is how often a page is listed before what it lacks counts as gone: a list of what
// changes meanwhile may miss a job.
const attempts = 5

// fetch lists the next jobs.
func (p *replay) fetch(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		jobs, err := p.list(ctx)
		if err != nil {
			return fmt.Errorf("read a range of queue %q: %w", p.queue, err)
		}
		gap := p.gap(jobs)
		if gap == nil {
			p.jobs, p.prior = jobs, jobs[len(jobs)-1].ID
			p.fit()
			return nil
		}
		if attempt == attempts {
			return fault.New(fault.Invalid, fmt.Errorf("read a range of queue %q: job %s is not there any more: it was settled or dropped", p.queue, *gap))
		}
	}
}

// fit chooses the size of the next page by that of this one.
func (p *replay) fit() {
	size := 0
	for i := range p.jobs {
		size += queue.RecordSize(p.jobs[i].Msg)
	}
	p.page = min(max(p.bytes/max(size/len(p.jobs), 1), 1), p.most, 4*p.page)
}

// list returns the open and dead jobs that follow the one listed last, in order.
func (p *replay) list(ctx context.Context) ([]queue.Job, error) {
	after := p.prior
	if after == (queue.ID{}) {
		after = before(p.first)
	}
	var all []queue.Job
	end := p.last // of what is known completely
	for _, state := range []queue.State{queue.Open, queue.Buried} {
		page, err := p.admin.List(ctx, queue.Search{Filter: queue.Filter{Queue: p.queue, By: queue.None}, State: state}, after, p.page)
		if err != nil {
			return nil, err
		}
		if page.Next.Lane == p.last.Lane && page.Next.Before(end) {
			end = page.Next
		}
		all = append(all, page.Jobs...)
	}
	all = slices.DeleteFunc(all, func(j queue.Job) bool {
		return j.ID.Lane != end.Lane || end.Before(j.ID) || !after.Before(j.ID)
	})
	slices.SortFunc(all, func(a, b queue.Job) int {
		return cmp.Or(cmp.Compare(a.ID.Seq, b.ID.Seq), cmp.Compare(a.ID.Index, b.ID.Index))
	})
	return slices.CompactFunc(all, func(a, b queue.Job) bool { return a.ID == b.ID }), nil
}

// before is an ID after which id is the next one of its lane that a job may have.
func before(id queue.ID) queue.ID {
	if id.Index > 0 {
		id.Index--
		return id
	}
	return queue.ID{Lane: id.Lane, Seq: id.Seq - 1, Index: math.MaxUint32 - 1}
}

// gap is a job that is missing in what follows the job listed last, as far as numbers tell.
func (p *replay) gap(jobs []queue.Job) *queue.ID {
	prior := p.prior
	for i := range jobs {
		id := jobs[i].ID
		next := queue.ID{Lane: id.Lane, Seq: prior.Seq, Index: prior.Index + 1}
		switch {
		case prior == (queue.ID{}):
			next = p.first
		case id.Seq != prior.Seq:
			next = queue.ID{Lane: id.Lane, Seq: prior.Seq + 1}
		}
		if id != next {
			return &next
		}
		prior = id
	}
	if prior == p.prior || prior != p.last && len(jobs) < p.page {
		return &p.last
	}
	return nil
}

// Close implements connector.Replay.
func (p *replay) Close() error { return nil }
