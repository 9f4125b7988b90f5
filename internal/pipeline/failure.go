package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/retry"
)

// FailureFormat makes the payload that a failure target receives.
type FailureFormat interface {
	// Format returns the payload for f, at most limit bytes long. An error means that
	// nothing that fits can be made.
	Format(f Failure, limit int) ([]byte, error)
}

// Failure is a message that cannot be delivered, and why.
type Failure struct {
	Message *event.Message
	Cause   error
	// Oversized is set when the only thing wrong is the size: more than Limit bytes.
	Oversized bool
	Limit     int

	ofBackup bool // what failed is what the backup was to get
}

// storedBatch bounds the bytes of one write of failures into a queue: small enough to find
// room in a store that is nearly full.
const storedBatch = 1 << 20

// ofStore makes s the sink of failures that go into a queue, and p the policy for them:
// while the store is full or cannot be reached the pipeline waits, and so holds back its
// source, instead of ending.
func (s *sink) ofStore(p retry.Policy) retry.Policy {
	if s.limits.MaxBatchBytes == 0 || s.limits.MaxBatchBytes > storedBatch {
		s.limits.MaxBatchBytes = storedBatch
	}
	if s.p.redelivers {
		return p // the failure waits in the queue that its message is read from
	}
	p.Transient = retry.Class{Delay: 100 * time.Millisecond, MaxDelay: 10 * time.Second}
	p.Throttle = retry.Class{Delay: time.Second, MaxDelay: 10 * time.Second}
	return p
}

// Kept is the error of a pipeline whose source has come to its end, and that has left
// messages in the queue that they come from.
type Kept struct{ Messages int64 }

func (k *Kept) Error() string {
	return fmt.Sprintf("the target refused %d messages; they are kept, dead, in their queue", k.Messages)
}

// keep leaves the messages of failures in the queue that they are read from, dead, whole and,
// in a queue of ours, with the reason (invariant 2). A message of which a part fails is kept as a whole.
func (p *Pipeline) keep(fs []Failure) {
	p.mu.Lock()
	p.kept += int64(len(fs))
	p.mu.Unlock()
	for _, f := range fs {
		p.sinks.failure.blame(keptDead, f.Message, placed(f))
		spoil(f.Message)
		event.Settle(f.Message, &connector.Dead{Err: f.Cause})
	}
}

// unused is the failure target of a pipeline that keeps its failures.
type unused struct{}

func (unused) Open(context.Context) error  { return nil }
func (unused) Close(context.Context) error { return nil }
func (unused) Write(context.Context, event.Batch) error {
	return errors.New("failures are kept in the queue that they come from")
}
