package script

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/dop251/goja"
)

// Runtime runs one program for one goroutine.
type Runtime struct {
	program *Program
	vm      *VM  // kept between messages; nil when the next message needs a new one
	frozen  bool // messages share a frozen VM
	views   bool // JSON objects are views

	grouped bool // calls share a VM until the group ends

	calls, again int // how many messages ran, and how many of them twice

	guard   *Guard
	running *VM  // set for the whole of a call, under guard.mu
	suspect bool // the last run was stopped for memory, which may be another script's
}

// New makes a runtime and runs the program's top level once, so that a script that
// cannot start is refused before the first message.
func (p *Program) New() (*Runtime, error) {
	r := p.Later()
	err := r.within(r.ensure)
	if errors.Is(err, errSeparate) {
		p.alone.Store(true)
		r.frozen, r.vm = false, nil
		err = r.within(r.ensure)
	}
	if err != nil {
		return nil, err
	}
	if !r.keeps() {
		r.vm = nil
	}
	return r, nil
}

// Later makes a runtime of a program that has started before ([Program.New]): it costs
// nothing until its first call, which runs the top level.
func (p *Program) Later() *Runtime {
	r := &Runtime{program: p, frozen: p.traits.separate == "" && !p.options.Stateful && !p.alone.Load(), views: !p.traits.ordinary}
	r.guard = NewGuard(p.options.Timeout, p.options.MemoryLimit, func(reason error) {
		if r.running != nil {
			r.running.js.Interrupt(reason)
		}
	})
	return r
}

// keeps reports whether the VM serves more than one message.
func (r *Runtime) keeps() bool { return r.frozen || r.program.options.Stateful || r.grouped }

// Together runs f, whose calls of r may share a VM: a script that cannot share one with every
// message sees in f what it left there in f before, and nothing of any other time.
func (r *Runtime) Together(f func()) {
	if r.keeps() {
		f()
		return
	}
	r.grouped = true
	defer func() {
		r.grouped, r.vm = false, nil
		r.begin(nil)
	}()
	f()
}

// Shared reports whether one VM serves many messages; it becomes false when most
// messages turn out to need one of their own.
func (r *Runtime) Shared() bool { return r.keeps() }

// ensure has a VM ready.
func (r *Runtime) ensure() error {
	if r.vm != nil {
		return nil
	}
	vm, err := r.program.newVM(&r.guard.stopped, r.frozen, r.views, r.begin)
	if err != nil {
		return err
	}
	r.vm = vm
	return nil
}

// begin names the VM that the watchdog may interrupt.
func (r *Runtime) begin(vm *VM) {
	r.guard.mu.Lock()
	r.running = vm
	r.guard.mu.Unlock()
}

// CallUntil is [Runtime.Call], interrupted with the reason [Cut] soon after ctx ends.
func (r *Runtime) CallUntil(ctx context.Context, in func(*VM) (goja.Value, error), out func(*VM, goja.Value) error) error {
	r.guard.until.Store(&ctx)
	defer r.guard.until.Store(nil)
	return r.Call(in, out)
}

// Call runs the script's entry function on what in makes and gives its result to out.
// Both may run twice, the second time in a new VM: they must start from the message.
// An error of in or out is returned as it is, everything else as an *[Error].
func (r *Runtime) Call(in func(*VM) (goja.Value, error), out func(*VM, goja.Value) error) error {
	r.calls++
	frozen, views := r.frozen, r.views
	err := r.within(func() error { return r.once(in, out) })
	if err == nil || !errors.Is(err, errSeparate) {
		return err
	}
	// The message gets a world of its own, with ordinary objects. Nothing was written to
	// the shared one, which waits for the next message.
	r.again++
	shared := r.vm
	r.vm, r.frozen, r.views = nil, false, false
	err = r.within(func() error { return r.once(in, out) })
	r.vm = nil
	if r.again < 8 || r.again*8 < r.calls {
		r.frozen, r.views = frozen, views
		if shared != nil && shared.rewind() == nil {
			r.vm = shared
			r.begin(shared)
		}
	}
	return err
}

func (r *Runtime) once(in func(*VM) (goja.Value, error), out func(*VM, goja.Value) error) error {
	if err := r.ensure(); err != nil {
		return err
	}
	vm := r.vm
	if !r.keeps() {
		r.vm = nil
	}
	input, err := in(vm)
	if err != nil {
		return err
	}
	r.guard.weigh()
	result, err := vm.entry(goja.Undefined(), input)
	if err == nil {
		err = out(vm, result)
	}
	if e := vm.rewind(); err == nil {
		err = e
	}
	return err
}

// within runs f within the limits of time and memory. One that is stopped for memory runs
// again with nobody beside it, from the message as it was (invariant 3).
func (r *Runtime) within(f func() error) error {
	err := r.guarded(f)
	if r.suspect {
		r.guard.Alone(func() { err = r.guarded(f) })
		r.suspect = false
	}
	return err
}

// guarded runs f under the watchdog and turns whatever ends it into an error.
func (r *Runtime) guarded(f func() error) (err error) {
	r.guard.begin()
	defer func() {
		x := recover()
		stopped := r.guard.end()
		switch {
		case stopped != nil:
			// It ended by the interruption, or between the interruption and the next
			// look at it, perhaps with what a built-in function gave up on.
			r.vm = nil
			r.suspect = errors.Is(stopped, ErrMemory)
			err = r.limited(stopped)
		case x != nil:
			err = r.recovered(x)
		case err != nil:
			err = r.judge(err)
		}
		if r.vm == nil {
			r.begin(nil) // what it holds is no memory of the next message
		}
	}()
	return r.told(f)
}

// told runs f and puts what it throws into words while the limits hold: the text of an
// exception is the script's affair, and may take as long as anything else it does.
func (r *Runtime) told(f func() error) (err error) {
	defer func() {
		switch x := recover().(type) {
		case nil:
			err = r.tell(err)
		case *goja.Exception:
			err = r.tell(x)
		case goja.Value:
			err = r.tellValue(x, func() string { return x.String() }, nil)
		default:
			panic(x)
		}
	}()
	return f()
}

// thrown is an exception with its text.
type thrown struct {
	text string
	err  error
}

func (e *thrown) Error() string { return e.text }
func (e *thrown) Unwrap() error { return e.err }

func (r *Runtime) tell(err error) error {
	if ex, ok := errors.AsType[*goja.Exception](err); ok {
		return r.tellValue(ex.Value(), err.Error, err)
	}
	return err
}

func (r *Runtime) tellValue(v goja.Value, say func() string, err error) error {
	text, ours := "an exception that cannot be shown as text", false
	func() {
		defer func() {
			switch x := recover().(type) {
			case *goja.InterruptedError, *limitError:
				panic(x)
			}
		}()
		if o, ok := v.(*goja.Object); ok {
			ours = r.vmOf().ours(o)
		}
		if !ours {
			text = say()
		}
	}()
	if ours {
		return errSeparate
	}
	return &Error{Thrown, &thrown{text, err}}
}

// recovered makes an error of a panic that came out of the interpreter.
func (r *Runtime) recovered(x any) error {
	r.vm = nil
	if e, ok := x.(error); ok {
		if judged := r.judge(e); !errors.Is(judged, e) || errors.As(judged, new(*Error)) {
			return judged
		}
	}
	return &Error{Crashed, fmt.Errorf("the interpreter panicked: %v; please report it with the script\n%s", x, debug.Stack())}
}

// judge gives an error its reason, and drops the VM where it may be damaged.
func (r *Runtime) judge(err error) error {
	var (
		interrupted *goja.InterruptedError
		deep        *goja.StackOverflowError
		limit       *limitError
		known       *Error
	)
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, errSeparate):
		return errSeparate // raised as an interruption, which leaves the VM in order
	case errors.As(err, &interrupted):
		r.vm = nil
		reason, _ := interrupted.Value().(error)
		if reason == nil {
			reason = ErrTime
		}
		return r.limited(reason)
	case errors.As(err, &limit):
		r.vm = nil
		return r.limited(limit.error)
	case errors.As(err, &deep):
		r.vm = nil
		return &Error{Depth, fmt.Errorf("calls nest deeper than %d levels: RangeError: Maximum call stack size exceeded", maxCallDepth)}
	}
	return err
}

// vmOf is the VM of the call that is ending.
func (r *Runtime) vmOf() *VM {
	r.guard.mu.Lock()
	defer r.guard.mu.Unlock()
	return r.running
}

func (r *Runtime) limited(reason error) error {
	switch {
	case errors.Is(reason, ErrCut):
		return &Error{Cut, ErrCut}
	case errors.Is(reason, ErrMemory):
		return &Error{Memory, fmt.Errorf("%w: the script may use %d MiB", reason, r.program.options.MemoryLimit>>20)}
	default:
		return &Error{Timeout, fmt.Errorf("%w: the script may run %s", ErrTime, r.program.options.Timeout)}
	}
}
