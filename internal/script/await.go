package script

import (
	"context"
	"errors"
	"fmt"

	"github.com/dop251/goja"
)

// MaxWaits is the most things that a script may wait for at once.
const MaxWaits = 64

// waits are what a script waits for outside of its VM.
type waits struct {
	open  int
	ready chan func() // has room for all that may be open: who is done never waits for the script
}

// Later is a promise of what work finds out on a goroutine of its own. work returns what makes
// the value on the script's goroutine, or, with an error, what it is rejected with. A script
// that waits for too much already gets an exception. What is still under way when the script's
// call ends is not waited for: work has a limit of its own.
func (vm *VM) Later(work func() (settle func() (goja.Value, error))) goja.Value {
	if vm.waits.open >= MaxWaits {
		vm.Throw("more than %d requests are under way at once: await some of them first", MaxWaits)
	}
	if vm.waits.ready == nil {
		vm.waits.ready = make(chan func(), MaxWaits)
	}
	promise, resolve, reject := vm.js.NewPromise()
	vm.waits.open++
	ready := vm.waits.ready
	go func() {
		settle := work()
		ready <- func() {
			vm.waits.open--
			v, err := settle()
			if err == nil {
				err = resolve(v)
			} else if r, ok := errors.AsType[*Rejection](err); ok {
				err = reject(r.Value)
			} else {
				err = reject(vm.js.NewGoError(err))
			}
			if err != nil {
				panic(err) // an interruption, which ends the call
			}
		}
	}()
	return vm.js.ToValue(promise)
}

// Rejection is the error of a promise that is rejected with a value of the script's.
type Rejection struct{ Value goja.Value }

func (r *Rejection) Error() string { return "rejected" }

// Hold keeps something of the caller's for the helpers of the current call.
func (vm *VM) Hold(x any) { vm.held = x }

// Held is what Hold was called with.
func (vm *VM) Held() any { return vm.held }

// ErrPatience is the error of [Runtime.Await] when its context ended.
var ErrPatience = errors.New("the script waits for something outside of it")

// Await is v, or what it is a promise of. It must be called within a call of r, from the function
// that is given the result. While the script waits for what is outside of it, the limits of r do
// not count; the end of ctx ends that, with [ErrPatience]. A promise that is rejected is an
// *[Error], as an exception is.
func (r *Runtime) Await(ctx context.Context, vm *VM, v goja.Value) (goja.Value, error) {
	for {
		o, ok := v.(*goja.Object)
		if !ok {
			return v, nil
		}
		p, ok := o.Export().(*goja.Promise)
		if !ok {
			return v, nil
		}
		switch p.State() {
		case goja.PromiseStateFulfilled:
			return p.Result(), nil
		case goja.PromiseStateRejected:
			return nil, r.rejected(p.Result())
		}
		if vm.waits.open == 0 {
			return nil, &Error{Thrown, errors.New("it returned a promise that nothing will ever settle")}
		}
		settle, err := r.pause(ctx, vm)
		if err != nil {
			r.vm = nil // what comes late must not meet another message
			return nil, err
		}
		settle()
	}
}

// pause waits for the next thing that is done, outside of the limits.
func (r *Runtime) pause(ctx context.Context, vm *VM) (settle func(), err error) {
	if stopped := r.guard.end(); stopped != nil {
		r.suspect = errors.Is(stopped, ErrMemory)
		err = r.limited(stopped)
	} else {
		select {
		case settle = <-vm.waits.ready:
		default:
			select {
			case settle = <-vm.waits.ready:
			case <-ctx.Done():
				err = fmt.Errorf("%w: %w", ErrPatience, context.Cause(ctx))
			}
		}
	}
	r.guard.begin()
	return settle, err
}

// rejected is the error of a promise's reason: an Error says where it was thrown.
func (r *Runtime) rejected(v goja.Value) error {
	return r.tellValue(v, func() string {
		if o, ok := v.(*goja.Object); ok && o.ClassName() == "Error" {
			if stack, ok := o.Get("stack").(goja.String); ok && stack.String() != "" {
				return stack.String()
			}
		}
		return v.String()
	}, nil)
}
