package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
)

// member is a runner of a generation, and its supervisor.
type member struct {
	Runner
	log interface {
		Error(msg string, args ...any)
		Warn(msg string, args ...any)
		Info(msg string, args ...any)
	}
	stop  context.CancelCauseFunc
	ended chan struct{} // closed when it has ended for good
	given chan struct{} // guarded by App.mu: closed when it has stopped for a successor, and may go on

	mu       sync.Mutex
	degraded error // why it does not run, and is to be started again
	trouble  error // why it runs, and does less than it should
	restarts int
	asked    func() error // why it was asked to stop, while live runs
}

// errFailing is why a member is degraded whose Run has failed and not returned yet.
var errFailing = errors.New("it has failed, and ends what it had begun")

// The waits before a runner that failed is started again double, and begin anew once it has
// run for a while.
const (
	restartAfter = time.Second
	restartMost  = time.Minute
	soundAfter   = time.Minute
)

// lookAfter is how often a runner that runs is asked for its trouble.
const lookAfter = time.Second

// troubled is a runner of which something may have trouble while it runs; nil is nothing.
type troubled interface{ Troubled() connector.Troubled }

// run runs the member, and is what comes of that. Meanwhile it is degraded while it has trouble.
func (m *member) run(ctx context.Context) error {
	r, ok := m.Runner.(troubled)
	if !ok || r.Troubled() == nil {
		return m.Run(ctx)
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for pause(watching, lookAfter) {
			if m.State() == pipeline.Running {
				m.ails(r.Troubled().Trouble())
			}
		}
	})
	err := m.Run(ctx)
	stop()
	watch.Wait()
	m.ails(nil)
	return err
}

// ails notes the trouble of a member that runs, and says when it begins and ends.
func (m *member) ails(trouble error) {
	m.mu.Lock()
	before := m.trouble
	m.trouble = trouble
	m.gauge()
	m.mu.Unlock()
	switch {
	case before == nil && trouble != nil:
		m.log.Warn("the pipeline is degraded: it waits for what it needs, and goes on by itself", meter.KeyPipeline, m.Name(), meter.KeyError, trouble)
	case before != nil && trouble == nil:
		m.log.Info("the pipeline waits no more", meter.KeyPipeline, m.Name())
	}
}

// gauge sets the metric; the lock is held.
func (m *member) gauge() {
	m.Meter().SetDegraded(m.degraded != nil || m.trouble != nil)
}

// live opens and runs the member until it has nothing left to do or ctx ends. Where its
// terms say so, it is started again when it fails. opened is the error of the first Open,
// which somebody else has called.
func (m *member) live(ctx context.Context, opened error) error {
	m.begins(ctx.Err)
	defer m.begins(nil)
	defer func() {
		if err := m.Leave(context.WithoutCancel(ctx)); err != nil {
			m.log.Error("the pipeline did not end cleanly", meter.KeyPipeline, m.Name(), meter.KeyError, err)
		}
	}()
	if opened != nil && !m.again(ctx, opened, 1) {
		return m.stopped(opened) // it has read nothing
	}
	for failures := 0; ; {
		began := time.Now()
		err := m.run(ctx)
		if time.Since(began) >= soundAfter {
			failures = 0
		}
		if err == nil || ctx.Err() != nil || m.fatal(err) {
			m.set(nil)
			return err
		}
		failures++
		if !m.again(ctx, err, failures) {
			return m.stopped(err) // what it had read, it has given back
		}
	}
}

// begins notes how live is asked to stop; nil: it has ended.
func (m *member) begins(asked func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = asked
}

// stopped is what comes of a member that failed with err and is stopped before it was started
// again: nothing, unless its work was to come to an end, which nobody brings about now.
func (m *member) stopped(err error) error {
	if m.Terms().Ends {
		return err
	}
	return nil
}

// fatal reports whether the member is not to be started again after err. Sources always
// connect again, whatever the failure of a target means.
func (m *member) fatal(err error) bool {
	var read *pipeline.ReadError
	switch m.Terms().Fail {
	case Restart:
		return false
	case Exit:
		return !errors.As(err, &read) || read.Final()
	}
	return true
}

// heldLook is how often a member that waits for another process looks whether it may go on.
const heldLook = 2 * time.Second

// isHeld reports whether a member cannot be opened only because another process has what one
// alone may have.
func isHeld(err error) bool {
	_, held := errors.AsType[*connector.Held](err)
	return held
}

// again waits until the member is open again; false means that ctx ended before.
func (m *member) again(ctx context.Context, err error, failures int) bool {
	delay := min(restartAfter<<min(failures-1, 10), restartMost)
	held := isHeld(err)
	if held {
		m.waits(err)
		delay = heldLook
	} else {
		m.set(err)
		m.log.Error("the pipeline failed and is started again; what it had read and not settled is delivered again",
			meter.KeyPipeline, m.Name(), meter.KeyError, err, meter.KeyAttempt, failures, meter.KeyDelay, delay)
		m.Meter().Restarts.Add(1)
	}
	for {
		if !pause(ctx, delay) {
			m.set(nil)
			return false
		}
		// Open finds out what would fail at once, without the retries of a run.
		if err = m.Open(ctx); err == nil {
			m.log.Info("the pipeline runs again", meter.KeyPipeline, m.Name())
			m.set(nil)
			return true
		}
		if isHeld(err) {
			if !held {
				m.waits(err)
			}
			held, delay = true, heldLook
			continue
		}
		held = false
		failures++
		delay = min(restartAfter<<min(failures-1, 10), restartMost)
		m.set(err)
		m.log.Error("the pipeline cannot start, trying again", meter.KeyPipeline, m.Name(), meter.KeyError, err, meter.KeyAttempt, failures, meter.KeyDelay, delay)
	}
}

// waits notes that the member waits for another process.
func (m *member) waits(err error) {
	m.set(err)
	m.log.Warn("the pipeline waits for another process, and goes on when that has ended", meter.KeyPipeline, m.Name(), meter.KeyError, err)
}

func (m *member) set(degraded error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.degraded = degraded
	if degraded != nil {
		m.restarts++
	}
	m.gauge()
}

// Status is how a runner does.
type Status struct {
	Name     string
	State    pipeline.State
	Degraded error // why it does not run, and is started again, or does less than it should
	Restarts int   // since it was first started
	Full     error // why there is no room for what it writes
	Refusing bool  // those who call it are turned away for that
}

func (m *member) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Name: m.Name(), State: m.State(), Degraded: cmp.Or(m.degraded, m.trouble), Restarts: m.restarts}
	if s.State == pipeline.Running {
		s.Full, s.Refusing = m.Full()
	}
	if s.Degraded == nil && s.State > pipeline.Running && m.asked != nil && m.asked() == nil && m.Terms().Fail == Restart {
		s.Degraded = errFailing // nobody has asked it to stop
	}
	return s
}

func (s Status) String() string {
	if s.Degraded != nil {
		return fmt.Sprintf("pipeline %q is degraded: %v", s.Name, s.Degraded)
	}
	if s.Full != nil {
		what := "room"
		if fault.Away(s.Full) {
			what = "what it writes to"
		}
		return fmt.Sprintf("pipeline %q waits for %s: %v", s.Name, what, s.Full)
	}
	return fmt.Sprintf("pipeline %q is %s", s.Name, s.State)
}

// pause waits for d; false means that ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
