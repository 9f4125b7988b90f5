// Package script runs the scripts of a pipeline: JavaScript compiled once, a VM that is
// reused from message to message, and limits on time, memory and depth that cost the one
// message that exceeds them.
//
// # Isolation
//
// Nothing a script does while it works on one message is seen by the next. Where the
// source allows it (see analyse) a VM is frozen after its top level has run and serves
// every message; a message whose script writes to something frozen is run again in a VM
// of its own. Other scripts get a VM of their own for each message. A program compiled
// with Stateful keeps one VM and everything the script leaves in it.
//
// # Limits
//
// A watchdog looks at every running script each 5 ms. It interrupts the one that has run
// longer than its time limit, and, when the live heap of the process grows by more than
// the memory limit while scripts run, the one that has run longest. The VM is thrown
// away. The interpreter acts on an interruption between two instructions, so built-in
// functions that can work or allocate for long on their own have limits of their own:
// string repetition, padding, splitting and replacement, array methods and iteration over
// huge lengths, array buffers, BigInts, regular expressions, code made at run time, JSON.
// What no limit here can stop: an iterator whose next is itself a built-in function that
// never ends, and comparing a BigInt with a text of millions of digits.
//
// # JSON
//
// JSON.parse and JSON.stringify are replaced by implementations with the same results.
// Parsing validates the text and hands out a view of it: members are found and values
// made when the script asks for them, and what it did not touch is copied when the view
// is written.
package script

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// Options are how a program is compiled and run.
type Options struct {
	// Name is the file name in stack traces; "main" when empty.
	Name string
	// Entry is the function called for each message; "main" when empty.
	Entry string
	// Stateful keeps one VM and what the script leaves in it from message to message.
	Stateful bool
	// Alone says that no VM is shared between messages, whatever the source looks like: helpers give
	// out promises.
	Alone bool
	// Timeout is the longest a script may run for one message; 15 s when zero.
	Timeout time.Duration
	// MemoryLimit is by how many bytes the heap may grow while a script runs; 128 MiB when zero.
	MemoryLimit int
	// SourceMap says where the lines of a source that was made come from, for stack traces; nil
	// for a source that was written.
	SourceMap []byte
	// Helpers are functions the script finds under these names, unless it declares one
	// of the same name itself.
	Helpers map[string]Helper
}

// Helper is a function of Go that scripts call. It runs on the script's goroutine and
// throws by panicking with a value made by vm.
type Helper func(vm *VM, call goja.FunctionCall) goja.Value

// Program is a compiled script. It may be used by several goroutines.
type Program struct {
	options Options
	code    *goja.Program
	traits  traits
	// alone is set once the top level was seen to write to what is shared: no VM of this
	// program serves many messages.
	alone atomic.Bool
}

// Reason is why a script had no result.
type Reason uint8

// The reasons.
const (
	Thrown  Reason = iota // the script threw, or a value it gave was refused
	Timeout               // it ran longer than its time limit
	Memory                // it used more memory than its limit
	Depth                 // its calls nested too deep
	Crashed               // the interpreter itself panicked
	Cut                   // nobody waited for it any more
)

// Error is why a script had no result for a message.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Code is the kind of error the text speaks of, as failure payloads name it.
func Code(text string) string {
	for _, code := range []string{"TypeError", "SyntaxError", "ReferenceError"} {
		if strings.Contains(text, code) {
			return code
		}
	}
	return "TransformationError"
}

const (
	defaultTimeout     = 15 * time.Second
	defaultMemoryLimit = 128 << 20
	maxCallDepth       = 5000
)

// Compile parses and compiles source, and judges whether one VM can serve many messages.
func Compile(source string, o Options) (*Program, error) {
	if o.Name == "" {
		o.Name = "main"
	}
	if o.Entry == "" {
		o.Entry = "main"
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = defaultMemoryLimit
	}
	if strings.Contains(source, "$weir$") {
		return nil, errors.New("compile script: names with $weir$ are reserved; rename them")
	}
	limitRegexps(o.Timeout) // before parsing: literals are compiled with the limit of that time
	mapped := parser.Option(parser.WithDisableSourceMaps)
	if o.SourceMap != nil {
		source += "\n//# sourceMappingURL=map\n"
		mapped = parser.WithSourceMapLoader(func(string) ([]byte, error) { return o.SourceMap, nil })
	}
	tree, err := goja.Parse(o.Name, source, mapped)
	if err != nil {
		return nil, fmt.Errorf("compile script: %w", err)
	}
	p := &Program{options: o}
	p.traits = analyse(tree)
	if o.Alone {
		p.traits.separate, p.traits.ordinary = "it waits for what is outside of it", true
	}
	if o.Stateful {
		// One VM keeps what the script does: nothing to judge, and no message is run twice.
		p.traits.separate, p.traits.ordinary = "", true
	}
	if p.code, err = goja.CompileAST(tree, true); err != nil {
		return nil, fmt.Errorf("compile script: %w", err)
	}
	return p, nil
}

// Separate is why the script gets a VM of its own for each message, empty when it shares one.
func (p *Program) Separate() string { return p.traits.separate }
