// Package lambda runs existing AWS Lambda handlers: as child processes that ask for their
// invocations over the Lambda Runtime API, as they do on AWS. A handler is whatever speaks
// it: a binary built with an official runtime library, or a bootstrap script.
//
// # Protocol (version 2018-06-01)
//
// Each process is told the address of its own HTTP server on the loopback interface
// in AWS_LAMBDA_RUNTIME_API:
//
//	GET  /2018-06-01/runtime/invocation/next           waits; the body is the payload
//	POST /2018-06-01/runtime/invocation/ID/response    the body is the output
//	POST /2018-06-01/runtime/invocation/ID/error       {errorType, errorMessage, stackTrace}
//	POST /2018-06-01/runtime/init/error                likewise, before the first invocation
//
// # Invariants
//
//   - A process has one invocation at a time; there are at most Concurrency processes. They
//     are started when they are needed and stay.
//   - A process that exits, or whose invocation takes too long, fails that one invocation and
//     is replaced for the next. An invocation that no process took is given to another one.
//   - No process outlives this one: each is ended with its function, with all that it has started.
//     When this process is killed the kernel ends it, on Linux, and a guardian (a shell that notices)
//     what it has started: all that is in its process group, and on Linux what has left that too. It
//     does not know of a handler that was started in the very instant, and there is none on Windows
//     and where there is no /bin/sh, which is said in the log.
//   - The address serves the process and what that has started, and nobody else: on Linux, others
//     who connect are turned away; everywhere, what comes from a browser is.
//   - A process finds in its environment what the config names, what the Runtime API
//     defines, and PATH; nothing else of this process.
package lambda

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// Options are what a function is.
type Options struct {
	Name string
	// Command is the program and its arguments. A program with a slash in its name is a path
	// from Dir, others are looked for in PATH.
	Command []string
	// Dir is the working directory.
	Dir string
	// Env is the environment.
	Env map[string]string
	// Concurrency is the most processes at once. At least 1.
	Concurrency int
	// Timeout is the longest an invocation may take. More than 0.
	Timeout time.Duration
	// Init is the longest a process may take until it asks for its first invocation; 0 means 10 s.
	Init time.Duration
	Log  *slog.Logger
}

// The names of failures that are not the handler's own.
const (
	ErrorTimedOut = "Sandbox.Timedout"
	ErrorExited   = "Runtime.ExitError"
	ErrorUnknown  = "Lambda.Unknown"
	ErrorTooLarge = "Function.ResponseSizeTooLarge"
)

// MaxPayload is the most bytes of a response, as on AWS.
const MaxPayload = 6 << 20

// apiVariable is where a process finds the address to ask at.
const apiVariable = "AWS_LAMBDA_RUNTIME_API"

const (
	defaultInit = 10 * time.Second
	grace       = 3 * time.Second // between SIGTERM and SIGKILL
)

// Error is a failed invocation. Payload is JSON with errorType and errorMessage, as the
// handler's runtime wrote it.
type Error struct {
	Type    string
	Payload []byte
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Type, e.Payload) }

func failure(errorType, format string, args ...any) *Error {
	payload, err := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": fmt.Sprintf(format, args...)})
	if err != nil {
		panic(err) // strings always encode
	}
	return &Error{errorType, payload}
}

// Function is a Lambda function.
type Function struct {
	o     Options
	slots chan *process // one element for each process that may be; nil: none runs

	mu   sync.Mutex
	all  map[*process]struct{}
	stop bool
}

// New makes a function. It starts nothing.
func New(o Options) *Function {
	if o.Init <= 0 {
		o.Init = defaultInit
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Concurrency = max(o.Concurrency, 1)
	f := &Function{o: o, slots: make(chan *process, o.Concurrency), all: map[*process]struct{}{}}
	for range o.Concurrency {
		f.slots <- nil
	}
	return f
}

// Inspect finds out whether there is such a program.
func (f *Function) Inspect() error {
	if len(f.o.Command) == 0 {
		return errors.New("the function has no command")
	}
	c := f.command()
	if c.Err != nil {
		return fmt.Errorf("find the program of the function: %w", c.Err)
	}
	if info, err := os.Stat(c.Path); err != nil {
		return fmt.Errorf("find the program of the function: %w", err)
	} else if info.IsDir() {
		return fmt.Errorf("the program of the function, %s, is a directory", c.Path)
	}
	return nil
}

// Open finds out whether there is such a program.
func (f *Function) Open(context.Context) error {
	if err := f.Inspect(); err != nil {
		return fault.New(fault.Setup, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop = false
	return nil
}

// Close ends all processes: by SIGTERM, and by SIGKILL after 3 seconds.
func (f *Function) Close(context.Context) error {
	f.mu.Lock()
	f.stop = true
	all := slices.Collect(maps.Keys(f.all))
	f.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(p.end)
	}
	wg.Wait()
	return nil
}

// Invoke gives the payload to a process and returns its response. The error is an *Error,
// or that of ctx, which kills the process that has the invocation.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	return f.InvokeAt(ctx, payload, nowhere{})
}

// Place is told how an invocation comes to work.
type Place interface {
	Waiting() // for one of the processes
	Working()
}

type nowhere struct{}

func (nowhere) Waiting() { /* nobody asks */ }
func (nowhere) Working() { /* nobody asks */ }

// InvokeAt is Invoke, and tells at while it waits for a process.
func (f *Function) InvokeAt(ctx context.Context, payload []byte, at Place) ([]byte, error) {
	at.Waiting()
	var p *process
	select {
	case p = <-f.slots:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	at.Working()
	defer func() {
		if p != nil && !p.alive() {
			p = nil
		}
		f.slots <- p
	}()
	i := &invocation{id: requestID(), payload: payload, done: make(chan result, 1)}
	for fresh := false; ; {
		if p == nil || !p.alive() {
			var err error
			if p, err = f.start(); err != nil {
				return nil, err
			}
			fresh = true
		}
		taken, err := p.offer(ctx, i)
		if taken {
			return p.await(ctx, i)
		}
		if err == nil {
			err = failure(ErrorExited, "the process ended before it took the invocation")
		}
		if fresh || ctx.Err() != nil {
			return nil, err
		}
	}
}

// requestID is a UUID of version 4, as AWS names invocations.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// command is the process to start, with the environment that does not change.
func (f *Function) command() *exec.Cmd {
	c := exec.CommandContext(context.Background(), f.o.Command[0], f.o.Command[1:]...)
	c.Dir = f.o.Dir
	return c
}

// environment is what a process finds.
func (f *Function) environment(api string) []string {
	env := map[string]string{
		"PATH":                            os.Getenv("PATH"),
		"TZ":                              ":UTC",
		"LANG":                            "en_US.UTF-8",
		"LAMBDA_TASK_ROOT":                f.o.Dir,
		"AWS_LAMBDA_FUNCTION_NAME":        f.o.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.o.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "weir",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
	}
	maps.Copy(env, f.o.Env)
	env[apiVariable] = api
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

// arn is the name the handler is invoked by.
func (f *Function) arn() string {
	return "arn:aws:lambda:local:000000000000:function:" + f.o.Name
}
