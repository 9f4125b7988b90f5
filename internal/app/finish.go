package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
)

// finish is how a pipeline that is fed by queues comes to its end.
type finish struct {
	store    func() queue.Store
	patience time.Duration // without progress, once nothing feeds it any more; 0: as long as it takes
	// ofFailures is set for the pipeline that takes the failed messages of another to its
	// failure target: the log says what waits, and what is left.
	ofFailures bool
	log        *slog.Logger
}

// Run runs the pipeline. When nothing feeds it any more and there is no progress, it ends:
// what is left is durable, and is an error then.
func (r *pipelineRunner) Run(ctx context.Context) error {
	p := r.fresh()
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if n := r.waiting(ctx); n > 0 {
		r.finish.log.Info("going on with failed messages that wait for the failure target", meter.KeyMessages, n)
	}
	var stuck error
	var watch sync.WaitGroup
	if r.terms.Fed && r.finish.patience > 0 {
		watch.Go(func() {
			if _, left := finished(running, r.end, r.finish.store, r.finish.patience, r.upstream...); left != nil {
				stuck = r.stuck(left, p.Trouble())
				stop(stuck)
			}
		})
	}
	err := p.Run(running)
	if n := r.waiting(ctx); n > 0 && ctx.Err() != nil {
		r.finish.log.Warn("failed messages are kept in the store for the failure target", meter.KeyMessages, n)
	}
	stop(nil)
	watch.Wait()
	return errors.Join(r.kept(err), stuck)
}

// waiting is how many failed messages wait for the failure target; 0 for other pipelines.
func (r *pipelineRunner) waiting(ctx context.Context) (n int64) {
	if !r.finish.ofFailures {
		return 0
	}
	for _, q := range r.upstream {
		if st, err := r.finish.store().Stats(context.WithoutCancel(ctx), queue.Filter{Queue: q}); err == nil {
			n += st.Open()
		}
	}
	return n
}

// words are what the pipeline writes to, and what it writes.
func (r *pipelineRunner) words() (target, messages string) {
	if r.finish.ofFailures {
		return "the failure target", "failed messages"
	}
	return "the target", "messages"
}

// stuck is the error of a pipeline that makes no progress at its end.
func (r *pipelineRunner) stuck(left *leftOver, trouble error) error {
	if left.err != nil {
		return fmt.Errorf("pipeline %q: count the messages that are left: %w", r.Name(), left.err)
	}
	target, messages := r.words()
	reason := ""
	if trouble != nil {
		reason = fmt.Sprintf(" (%v)", trouble)
	}
	return fmt.Errorf("pipeline %q: %s has not taken %d %s%s; they are safe in the store, and the next weir run goes on with them",
		r.Name(), target, left.jobs, messages, reason)
}

// kept says of an error that messages were kept where they are.
func (r *pipelineRunner) kept(err error) error {
	kept, is := errors.AsType[*pipeline.Kept](err)
	if !is || len(r.upstream) == 0 {
		return err
	}
	target, messages := r.words()
	return fmt.Errorf("pipeline %q: %s refused %d %s; they are kept: see weir queue show %s --dead", r.Name(), target, kept.Messages, messages, r.upstream[0])
}

// emptyLook is how often somebody who waits for queues to be empty counts what is left.
const emptyLook = 200 * time.Millisecond

// leftOver is what queues hold that have not become emptier for a while.
type leftOver struct {
	jobs int64
	err  error // they cannot be counted
}

// finished waits until nothing feeds the queues any more and no job of them is open. What is
// left is returned when they have not become emptier for as long as patience, if that is not
// 0; when ctx ends before, neither.
func finished(ctx context.Context, end <-chan struct{}, store func() queue.Store, patience time.Duration, queues ...string) (done bool, left *leftOver) {
	select {
	case <-end:
	case <-ctx.Done():
		return false, nil
	}
	fewest, since := int64(-1), time.Now()
	for {
		open, err := int64(0), error(nil)
		for _, q := range queues {
			var st queue.Stats
			if st, err = store().Stats(ctx, queue.Filter{Queue: q}); err != nil {
				break
			}
			open += st.Open()
		}
		switch {
		case err != nil: // look again
		case open == 0:
			return true, nil
		case fewest < 0 || open < fewest:
			fewest, since = open, time.Now()
		}
		if patience > 0 && time.Since(since) >= patience {
			return false, &leftOver{open, err}
		}
		if !pause(ctx, emptyLook) {
			return false, nil
		}
	}
}
