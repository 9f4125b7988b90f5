package sqssource

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
)

// delete has messages deleted, together with what others want to delete at the same time; nil
// for none.
func (s *session) delete(es []*entry) *pending {
	if len(es) == 0 {
		return nil
	}
	p := &pending{left: len(es), done: make(chan struct{})}
	for _, e := range es {
		e.ack = p
	}
	s.mu.Lock()
	s.deletes = append(s.deletes, es...)
	s.startDeleters()
	s.mu.Unlock()
	return p
}

// startDeleters has as many calls made as there is to delete. The lock is held.
func (s *session) startDeleters() {
	for s.deleting < deletersAtOnce && s.deleting*format.MaxEntries < len(s.deletes) && s.work.Err() == nil {
		s.deleting++
		s.deleters.Go(s.deleteSome)
	}
}

// deleteSome deletes until nothing is left to delete.
func (s *session) deleteSome() {
	failures := 0
	for {
		s.mu.Lock()
		n := min(len(s.deletes), format.MaxEntries)
		if n == 0 || s.work.Err() != nil {
			s.deleting--
			s.mu.Unlock()
			signal(s.changed) // receiving may go on
			return
		}
		some := s.deletes[:n:n]
		if s.deletes = s.deletes[n:]; len(s.deletes) == 0 {
			s.deletes = nil
		}
		s.mu.Unlock()
		left, err := s.deleteBatch(some)
		if len(left) == 0 {
			failures = 0
			continue
		}
		// They stay ours until it succeeds.
		now := time.Now()
		for _, e := range left {
			s.hand.keep(now, e)
		}
		signal(s.heldMore)
		if err != nil {
			s.say(aboutDeleting, err, len(left))
			timer := time.NewTimer(min(100*time.Millisecond<<min(failures, 10), 5*time.Second))
			failures++
			select {
			case <-timer.C:
			case <-s.work.Done():
			}
			timer.Stop()
		}
		s.mu.Lock()
		s.deletes = append(left, s.deletes...)
		s.mu.Unlock()
	}
}

// deleteBatch makes one call, and returns what is to be deleted again.
func (s *session) deleteBatch(some []*entry) (left []*entry, err error) {
	doing := fmt.Sprintf("delete a message of queue %q", s.queue.Name)
	handles := s.hand.stillAll(some)
	ctx, done := context.WithTimeout(s.work, callTimeout)
	out, err := s.service.DeleteMessageBatch(ctx, deleteInput(s.queue.URL, handles))
	done()
	if err != nil {
		gone := handleGone(aws.Code(err))
		if gone && len(some) > 1 {
			for i := range some {
				again, e := s.deleteBatch(some[i : i+1])
				left = append(left, again...)
				err = e
			}
			return left, err
		}
		err = aws.Fault(doing, err)
		if gone || fault.Of(err) == fault.Setup {
			for _, e := range some {
				s.hand.returned(e)
				e.ack.end(err)
			}
			return nil, err
		}
		return some, err
	}
	failed := refusedOf(doing, out.Failed)
	answered := map[string]bool{}
	for _, x := range out.Successful {
		if x.Id != nil {
			answered[*x.Id] = true
		}
	}
	for i, e := range some {
		x, bad := failed[i]
		switch {
		case bad && x.final:
			s.hand.returned(e)
			e.ack.end(x.err)
		case bad:
			left, err = append(left, e), x.err
		case !answered[strconv.Itoa(i)]:
			left, err = append(left, e), fmt.Errorf("%s: the answer says nothing of it", doing)
		case s.hand.deleted(e):
			left = append(left, e)
		default:
			e.ack.end(nil)
		}
	}
	return left, err
}
