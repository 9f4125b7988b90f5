// Package lambda is the transform "lambda": it has a handler for AWS Lambda transform records as
// Amazon Data Firehose has it, unchanged, in processes of this machine (package lambda of the
// mechanisms) that are given the same events and answer in the same form (package firehose).
//
// # Invariants
//
//   - A record is what its own answer says of it: another one's missing, doubled or damaged answer
//     changes nothing for it.
//   - An invocation that fails is made again, number_of_retries times. Then its records are
//     divided, so that one that the handler cannot take fails alone, for as many invocations as
//     a few such records need; what is left when those are used up fails together.
//   - A record that failed is whole in the failure target, as it was given to the handler.
//   - A worker waits for what it has invoked, and no longer than its context lasts.
package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/lambda"
)

// Config is the transform's HCL block.
type Config struct {
	// Command is the program and its arguments. A name with a slash is a path from the directory of
	// the config file; another name is looked for in PATH. It speaks the Lambda Runtime API, as a
	// binary built with an official runtime library does, or ["python3", "-m", "awslambdaric",
	// "app.handler"].
	Command []string `hcl:"command"`
	// Env is the environment of the processes, beside what Lambda defines and PATH. Nothing else of
	// the environment of Weir is passed on.
	Env map[string]string `hcl:"env,optional"`
	// FunctionName is what the handler is called, in its environment, the log and failed records;
	// "transform" by default.
	FunctionName string `hcl:"function_name,optional"`
	// Concurrency is the most processes at once, each with one invocation at a time. At least 1; 1
	// by default.
	Concurrency int `hcl:"concurrency,optional"`
	// TimeoutMillis is the longest time, in milliseconds, that an invocation may take; 60000 by
	// default, 300000 at most, as with Firehose. A process that takes longer is ended.
	TimeoutMillis int `hcl:"timeout_ms,optional"`
	// InitTimeoutMillis is the longest time, in milliseconds, until a process that was started asks
	// for an invocation; 10000 by default, as on AWS.
	InitTimeoutMillis int `hcl:"init_timeout_ms,optional"`
	// BufferSizeMB is the most payload, in MB, that one invocation is given: from 0.2 to 3, 1 by
	// default, as Firehose's BufferSizeInMBs. There is no interval: what a read of the source
	// returns is given to the handler at once.
	BufferSizeMB float64 `hcl:"buffer_size_mb,optional"`
	// NumberOfRetries is how often an invocation that failed is made again: from 0 to 300, 3 by
	// default, as Firehose's NumberOfRetries.
	NumberOfRetries int `hcl:"number_of_retries,optional"`
	// RetryDelayMillis is how long, in milliseconds, to wait before the first of them; each further
	// one waits twice as long, 10 seconds at most. 100 by default.
	RetryDelayMillis int `hcl:"retry_delay_ms,optional"`
	// StreamName is the delivery stream that the handler is told (deliveryStreamArn); the name of
	// the pipeline by default.
	StreamName string `hcl:"stream_name,optional"`
	// Region is the one that the handler is told; "us-east-1" by default.
	Region string `hcl:"region,optional"`
}

// The limits of Firehose.
const (
	leastBuffer, mostBuffer = 0.2, 3
	mostRetries             = 300
	mostTimeout             = 300_000
	mostProcesses           = 1000
)

// Validate names what could never work, and what Firehose refuses.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	between := func(field string, v, least, most int, fix string) {
		if v < least || v > most {
			refuse(field, fix, "%s must be from %d to %d, not %d", field, least, most, v)
		}
	}
	if len(c.Command) == 0 || c.Command[0] == "" {
		refuse("command", `write command = ["./bootstrap"]`, "command names no program")
	}
	if c.BufferSizeMB < leastBuffer || c.BufferSizeMB > mostBuffer {
		refuse("buffer_size_mb", "leave it out for 1: an invocation has 6 MB, and payloads are a third larger in it", "buffer_size_mb must be from %v to %v, as with Firehose, not %v", leastBuffer, mostBuffer, c.BufferSizeMB)
	}
	between("number_of_retries", c.NumberOfRetries, 0, mostRetries, "leave it out for 3")
	between("retry_delay_ms", c.RetryDelayMillis, 0, int(mostDelay/time.Millisecond), "leave it out for 100")
	between("timeout_ms", c.TimeoutMillis, 1, mostTimeout, "leave it out for 60000; Firehose ends an invocation after five minutes")
	between("init_timeout_ms", c.InitTimeoutMillis, 1, mostTimeout, "leave it out for 10000")
	between("concurrency", c.Concurrency, 1, mostProcesses, "leave it out for 1")
	if c.FunctionName == "" {
		refuse("function_name", `leave it out for "transform"`, "function_name is empty")
	}
	if c.Region == "" {
		refuse("region", `leave it out for "us-east-1"`, "region is empty")
	}
	return ps
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "lambda",
	Summary:   "Has a handler for AWS Lambda transform records, as Amazon Data Firehose does.",
	Stability: connector.Experimental,
	Default: func() Config {
		return Config{FunctionName: "transform", Concurrency: 1, TimeoutMillis: 60_000, InitTimeoutMillis: 10_000, BufferSizeMB: 1,
			NumberOfRetries: 3, RetryDelayMillis: 100, Region: "us-east-1"}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) { return New(d, c) },
})

// Notes implements firehose.Noter: what the handler answers is its own.
func (*Transform) Notes() (source firehose.KeySource, names []string) {
	return firehose.FromLambda, nil
}

// Transform is a handler that several workers share.
type Transform struct {
	config Config
	stream firehose.Stream
	arn    string
	log    *slog.Logger
	dir    string

	mu      sync.Mutex
	users   int
	running *lambda.Function // while there are users
}

// New returns a transform of which nothing runs.
func New(d connector.Deps, c Config) (*Transform, error) {
	t := &Transform{config: c, stream: firehose.Stream{Name: c.StreamName, Region: c.Region}, log: d.Log, dir: d.Dir}
	if t.stream.Name == "" {
		t.stream.Name = d.Pipeline
	}
	if t.stream.Name == "" {
		t.stream.Name = "default"
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if abs, err := filepath.Abs(t.dir); err == nil {
		t.dir = abs
	}
	t.arn = "arn:aws:lambda:" + c.Region + ":000000000000:function:" + c.FunctionName
	return t, nil
}

func (t *Transform) function() *lambda.Function {
	command := slices.Clone(t.config.Command)
	if filepath.Base(command[0]) != command[0] && !filepath.IsAbs(command[0]) {
		command[0] = filepath.Join(t.dir, command[0])
	}
	millis := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	return lambda.New(lambda.Options{Name: t.config.FunctionName, Command: command, Dir: t.dir, Env: t.config.Env, Concurrency: t.config.Concurrency,
		Timeout: millis(t.config.TimeoutMillis), Init: millis(t.config.InitTimeoutMillis), Log: t.log})
}

// Inspect implements connector.Inspector.
func (t *Transform) Inspect() error {
	if err := t.function().Inspect(); err != nil {
		return connector.Blame("command", "install it, or write its path: one with a slash means from the directory of the config file", err)
	}
	return nil
}

// Calls implements connector.Caller: the function is another's.
func (t *Transform) Calls() bool { return true }

// Worker implements connector.Transform. The first one opens the handler, and the last that is
// closed ends its processes.
func (t *Transform) Worker() (connector.Worker, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == 0 {
		f := t.function()
		if err := f.Open(context.Background()); err != nil {
			return nil, connector.Blame("command", "install it, or write its path", err)
		}
		t.running = f
	}
	t.users++
	return &Worker{t: t, invoke: t.running.Invoke}, nil
}

// left is called by a worker that is closed.
func (t *Transform) left() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users--; t.users > 0 {
		return nil
	}
	f := t.running
	t.running = nil
	return f.Close(context.Background())
}

// Worker has the handler transform what it is given.
type Worker struct {
	t      *Transform
	invoke func(ctx context.Context, payload []byte) ([]byte, error)
	closed bool
}

// Close implements connector.Closer.
func (w *Worker) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	return w.t.left()
}

// Apply implements connector.Worker.
func (w *Worker) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	o := w.ApplyAll(ctx, event.Batch{m})[0]
	return append(out, o.Out...), o.Err
}
