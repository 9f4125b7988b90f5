package lambda

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/lambda"
)

// mostDelay is the longest wait before an invocation is made again.
const mostDelay = 10 * time.Second

// dropped is why a record is filtered that the handler drops.
const dropped = "the Lambda function has dropped it"

// part is the records of one invocation, and where their outcomes go.
type part struct {
	b        event.Batch
	outcomes []connector.Outcome
}

func (p part) cut(from, to int) part { return part{p.b[from:to], p.outcomes[from:to]} }

// fail gives all records of p the same failure.
func (p part) fail(f *firehose.Failure) {
	err := f.Refuse()
	for i := range p.outcomes {
		p.outcomes[i].Err = err
	}
}

// ApplyAll implements connector.BatchWorker: as many invocations as the records need by their
// size, as many at once as there may be processes.
func (w *Worker) ApplyAll(ctx context.Context, b event.Batch) []connector.Outcome {
	outcomes := make([]connector.Outcome, len(b))
	all := part{b, outcomes}
	room := make(chan struct{}, w.t.config.Concurrency)
	var wg sync.WaitGroup
	most := int(w.t.config.BufferSizeMB * (1 << 20))
	for from := 0; from < len(b); {
		to, payload, encoded := from, 0, 0
		for ; to < len(b); to++ {
			payload += len(b[to].Data)
			encoded += firehose.RequestBytes(b[to])
			if to > from && (payload > most || encoded > firehose.MostInvocation) {
				break
			}
		}
		p := all.cut(from, to)
		from = to
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			w.transform(ctx, p)
		})
	}
	wg.Wait()
	return outcomes
}

// transform decides about the records of p.
func (w *Worker) transform(ctx context.Context, p part) {
	failure := w.try(ctx, p, w.t.config.NumberOfRetries+1)
	if failure == nil {
		return
	}
	// Enough to find a few records that the handler cannot take; not as many as there are records,
	// when it can take none.
	left := 4 * bits.Len(uint(len(p.b)))
	w.divide(ctx, p, failure, &left)
}

// divide finds the records of p that the handler cannot take together, which failed as said.
func (w *Worker) divide(ctx context.Context, p part, failure *firehose.Failure, left *int) {
	if len(p.b) == 1 || ctx.Err() != nil || *left < 2 {
		p.fail(failure)
		return
	}
	half := len(p.b) / 2
	for _, x := range []part{p.cut(0, half), p.cut(half, len(p.b))} {
		*left--
		if f := w.try(ctx, x, 1); f != nil {
			f.Attempts += failure.Attempts
			w.divide(ctx, x, f, left)
		}
	}
}

// try invokes the handler with p until it answers, some times at the most. What it returns is why
// it did not; else each record has its outcome.
func (w *Worker) try(ctx context.Context, p part, times int) *firehose.Failure {
	invocation := rand.Text() // the same whenever these records are sent again
	f := &firehose.Failure{Type: firehose.ProcessingFailedType, Lambda: w.t.arn}
	request, err := w.t.stream.Request(invocation, p.b)
	if err == nil && len(request) > firehose.MostInvocation {
		f.Code, f.Message = firehose.CodeTooLarge, fmt.Sprintf("the request has %d bytes, more than %d", len(request), firehose.MostInvocation)
		return f
	}
	delay := time.Duration(w.t.config.RetryDelayMillis) * time.Millisecond
	for {
		var output []byte
		if err == nil {
			output, err = w.invoke(ctx, request)
		}
		f.Attempts++
		f.Ended = time.Now()
		if err == nil {
			return w.settle(p, invocation, output, f)
		}
		f.Code, f.Message = codeOf(err), err.Error()
		if f.Attempts >= times || ctx.Err() != nil || tooLarge(err) {
			return f
		}
		w.t.log.Warn("the Lambda function failed, and is invoked again", "attempt", f.Attempts, "records", len(p.b), "error", err)
		if !wait(ctx, delay) {
			return f
		}
		delay = min(2*delay, mostDelay)
		err = nil
	}
}

// settle gives each record what the handler answered. An answer that cannot be read is another
// one's failure to none: it is returned.
func (w *Worker) settle(p part, invocation string, output []byte, f *firehose.Failure) *firehose.Failure {
	answers, err := firehose.Answers(invocation, len(p.b), output)
	if err != nil {
		f.Code, f.Message = firehose.CodeJSON, err.Error()
		return f
	}
	for i, a := range answers {
		m := p.b[i]
		switch a.Result {
		case firehose.Ok:
			m.Replace(a.Data)
			for name, value := range a.Keys {
				firehose.FromLambda.Set(m, name, value)
			}
			p.outcomes[i].Out = event.Batch{m}
		case firehose.Dropped:
			m.Drop(dropped)
		default:
			own := *f
			own.Code, own.Message = a.Code, a.Message
			p.outcomes[i].Err = own.Refuse()
		}
	}
	return nil
}

// tooLarge reports whether the answer was larger than it may be: fewer records are asked for then.
func tooLarge(err error) bool {
	failed, ok := errors.AsType[*lambda.Error](err)
	return ok && failed.Type == lambda.ErrorTooLarge
}

func codeOf(err error) string {
	failed, ok := errors.AsType[*lambda.Error](err)
	if ok && failed.Type == lambda.ErrorTimedOut {
		return firehose.CodeTimedOut
	}
	return firehose.CodeFunction
}

// wait waits, and reports false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
