package sqssource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	format "github.com/weirdata/weir/internal/sqs"
)

// The calls of one kind that are made at once.
const (
	deletersAtOnce = 4
	beatsAtOnce    = 8
	returnsAtOnce  = 8
)

// newAttemptID is an id for a receive call.
func newAttemptID() string { return fmt.Sprintf("weir-%016x%016x", rand.Uint64(), rand.Uint64()) }

// deleteInput deletes by handles. The ids of the entries are their places: two entries may be of
// one message.
func deleteInput(url string, handles []string) *sqs.DeleteMessageBatchInput {
	in := &sqs.DeleteMessageBatchInput{QueueUrl: &url, Entries: make([]types.DeleteMessageBatchRequestEntry, len(handles))}
	for i := range handles {
		id := strconv.Itoa(i)
		in.Entries[i] = types.DeleteMessageBatchRequestEntry{Id: &id, ReceiptHandle: &handles[i]}
	}
	return in
}

// visibilityInput sets the time that each message stays hidden from now on.
func visibilityInput(url string, handles []string, hidden []time.Duration) *sqs.ChangeMessageVisibilityBatchInput {
	in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &url, Entries: make([]types.ChangeMessageVisibilityBatchRequestEntry, len(handles))}
	for i := range handles {
		id := strconv.Itoa(i)
		in.Entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{Id: &id, ReceiptHandle: &handles[i], VisibilityTimeout: int32((hidden[i] + time.Second - 1) / time.Second)}
	}
	return in
}

// refused is what SQS answered for the entries of a batch that it refused: by place, and whether
// that is for good.
type refused map[int]struct {
	err   error
	final bool
}

func refusedOf(doing string, failed []types.BatchResultErrorEntry) refused {
	out := refused{}
	for _, f := range failed {
		if f.Id == nil {
			continue
		}
		i, err := strconv.Atoi(*f.Id)
		if err != nil {
			continue
		}
		x := out[i]
		code, text := "", ""
		if f.Code != nil {
			code = *f.Code
		}
		if f.Message != nil {
			text = *f.Message
		}
		x.err = aws.Entry(doing, code, text)
		x.final = f.SenderFault || handleGone(code)
		out[i] = x
	}
	return out
}

// handleGone reports whether an error's name says that a receipt handle is of no use any more.
func handleGone(code string) bool {
	switch code {
	case "ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "AWS.SimpleQueueService.MessageNotInflight", "InvalidIdFormat":
		return true
	}
	return false
}

// What goes wrong in the background.
const (
	aboutExtending = iota
	aboutDeleting
)

// say logs it about once in a visibility timeout.
func (s *session) say(about int, err error, n int) {
	s.mu.Lock()
	now := time.Now()
	again := now.Before(s.troubled[about].until)
	if !again {
		s.troubled[about].until = now.Add(max(s.hand.visibility, 10*time.Second))
	}
	s.mu.Unlock()
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug
	}
	if about == aboutExtending {
		s.log.Log(context.Background(), level, "messages in work could not be extended, trying again", meter.KeyMessages, n, meter.KeyError, err)
		return
	}
	s.log.Log(context.Background(), level, "messages that were handled could not be deleted, trying again", meter.KeyMessages, n, meter.KeyError, err)
}

// heartbeat extends what is held until the session ends.
func (s *session) heartbeat() {
	defer close(s.beatEnded)
	for s.beating.Err() == nil {
		due, next := s.hand.dueBeats(time.Now())
		if len(due) > 0 {
			s.extend(due)
			if n := s.hand.lapsed(); n > 0 {
				s.log.Warn("messages are not ours any more: the queue gives them out again, and what is in work of them may be delivered twice", meter.KeyMessages, n)
			}
			continue
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.heldMore:
		case <-s.beating.Done():
		}
		timer.Stop()
	}
}

// extend extends the visibility of messages, ten in a call.
func (s *session) extend(due []beat) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, beatsAtOnce)
	for len(due) > 0 {
		n := min(len(due), format.MaxEntries)
		some := due[:n]
		due = due[n:]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.extendBatch(some)
		})
	}
	wg.Wait()
}

func (s *session) extendBatch(some []beat) {
	handles, hidden := make([]string, len(some)), make([]time.Duration, len(some))
	for i, b := range some {
		handles[i], hidden[i] = b.handle, s.hand.visibility
	}
	const doing = "extend the visibility of a message"
	sent := time.Now()
	ctx, done := context.WithTimeout(s.beating, max(s.hand.visibility/3, time.Second))
	out, err := s.service.ChangeMessageVisibilityBatch(ctx, visibilityInput(s.queue.URL, handles, hidden))
	done()
	if err != nil {
		gone := handleGone(aws.Code(err))
		if gone && len(some) > 1 { // one of them; the others must not suffer
			for i := range some {
				s.extendBatch(some[i : i+1])
			}
			return
		}
		for _, b := range some {
			s.hand.unextended(b, gone)
		}
		if s.beating.Err() == nil && !gone {
			s.say(aboutExtending, aws.Fault(doing, err), len(some))
		}
		return
	}
	failed := refusedOf(doing, out.Failed)
	for i, b := range some {
		x, bad := failed[i]
		if !bad {
			s.hand.extended(sent, b)
			continue
		}
		s.hand.unextended(b, x.final)
		if !x.final {
			s.say(aboutExtending, x.err, 1)
		}
	}
}

// pending is an acknowledgement that waits for deletions.
type pending struct {
	mu   sync.Mutex
	left int
	err  error
	done chan struct{}
}

func (p *pending) end(err error) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && (p.err == nil || fault.Of(err) == fault.Setup) {
		p.err = err
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// settle deletes what was handled, and gives back what was not, or keeps it for another attempt.
func (s *session) settle(ctx context.Context, es []*entry, o event.Outcomes) error {
	now := time.Now()
	var handled, behind, first []*entry
	var hidden []time.Duration
	for i, e := range es {
		var err error
		if o != nil {
			err = o[i]
		}
		var again *connector.Again
		switch {
		case err == nil:
			if s.hand.done(e) {
				handled = append(handled, e)
			}
		case errors.As(err, &again) && s.redrive:
			s.hand.again(e, now.Add(again.After), !again.Uncounted)
		default:
			dead, failed := errors.AsType[*connector.Dead](err)
			back := s.hand.back(now, e, failed)
			if len(back) == 0 {
				continue
			}
			behind = append(behind, back[:len(back)-1]...)
			first = append(first, e)
			hidden = append(hidden, 0)
			if failed {
				hidden[len(hidden)-1] = s.hiddenFor(e, dead.Err)
			}
		}
	}
	signal(s.changed) // what is behind in a group may be next
	deleted := s.delete(handled)
	resume := func() {}
	if len(first) > 0 && s.queue.FIFO {
		resume = s.pause(ctx)
	}
	err := s.giveBack(ctx, behind, first, hidden)
	resume()
	if deleted != nil {
		select {
		case <-deleted.done:
			err = errors.Join(deleted.err, err)
		case <-ctx.Done():
			err = errors.Join(fmt.Errorf("delete messages of queue %q: it goes on: %w", s.queue.Name, context.Cause(ctx)), err)
		case <-s.work.Done():
			err = errors.Join(errClosed, err)
		}
	}
	return err
}

var errClosed = errors.New("the sqs source was closed before its messages were deleted: they are received again")

// hiddenFor is how long a message that failed stays hidden before its next receipt: a while when
// its target could not take it, and hardly when it was refused for what it is.
func (s *session) hiddenFor(e *entry, err error) time.Duration {
	unit, most := s.hand.visibility, 15*time.Minute
	if fault.Of(err) == fault.Invalid {
		unit, most = time.Second, time.Minute
		if e.receives <= 2 {
			return 0
		}
	}
	return min(unit<<min(max(e.receives-1, 0), 10), most)
}

// giveBack makes messages visible again: those behind others of their group before those.
func (s *session) giveBack(ctx context.Context, behind, first []*entry, hidden []time.Duration) error {
	err := s.giveBackAll(ctx, behind, nil)
	err = errors.Join(err, s.giveBackAll(ctx, first, hidden))
	signal(s.changed)
	return err
}

func (s *session) giveBackAll(ctx context.Context, es []*entry, hidden []time.Duration) error {
	if len(es) == 0 {
		return nil
	}
	if hidden == nil {
		hidden = make([]time.Duration, len(es))
	}
	for s.hand.beating(es) { // an extension that comes later would hide them again
		pause := time.NewTimer(10 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
	defer s.hand.returned(es...)
	errs := make([]error, (len(es)+format.MaxEntries-1)/format.MaxEntries)
	var wg sync.WaitGroup
	slots := make(chan struct{}, returnsAtOnce)
	for k := range errs {
		from, to := k*format.MaxEntries, min((k+1)*format.MaxEntries, len(es))
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[k] = s.giveBackBatch(ctx, es[from:to], hidden[from:to])
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *session) giveBackBatch(ctx context.Context, es []*entry, hidden []time.Duration) (err error) {
	const doing = "give a message back"
	for try := range 3 {
		handles := make([]string, len(es))
		for i, e := range es {
			handles[i] = s.hand.handleOf(e)
		}
		call, done := context.WithTimeout(ctx, callTimeout/2)
		var out *sqs.ChangeMessageVisibilityBatchOutput
		out, err = s.service.ChangeMessageVisibilityBatch(call, visibilityInput(s.queue.URL, handles, hidden))
		done()
		if err == nil {
			failed := refusedOf(doing, out.Failed)
			var left []*entry
			var leftHidden []time.Duration
			for i, e := range es {
				if x, bad := failed[i]; bad && !x.final { // a handle that is gone is nothing to give back
					left, leftHidden, err = append(left, e), append(leftHidden, hidden[i]), x.err
				}
			}
			es, hidden = left, leftHidden
		} else if gone := handleGone(aws.Code(err)); gone && len(es) > 1 {
			for i := range es {
				if e := s.giveBackBatch(ctx, es[i:i+1], hidden[i:i+1]); e != nil {
					err = e
				}
			}
			return err
		} else if gone {
			return nil
		} else {
			err = aws.Fault(doing, err)
		}
		if len(es) == 0 {
			return nil
		}
		pause := time.NewTimer(100 * time.Millisecond << try)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
	return err
}
