// Package lua is the transform "lua": a Lua 5.1 function main that is called with each
// message and says what becomes of it.
//
// # Protocol
//
// main receives a table with the fields Data (the payload as a string, or in
// snowplow_mode the enriched event as a table), PartitionKey (the message's key) and
// FilterOut (false). It returns a table with any of these fields:
//
//	FilterOut     true: the message is filtered, everything but the reason is ignored
//	FilterReason  why it is, a text that metrics count by
//	Data          the new payload: a string as it is, a table as JSON
//	PartitionKey  the new key, unless empty
//
// A table is written as a JSON array when its keys are 1 to n, and otherwise as an object
// with its keys sorted; an empty table is an object.
//
// The top level of the script runs again for each message, so that nothing it keeps is
// seen by the next. With sandbox, the default, there are no standard libraries at all;
// without it there are all of them but os.exit, and require("json") gives encode and decode.
package lua

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	golua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/snowplow"
)

// Config is the block of a lua transform.
type Config struct {
	// The script itself. One of script, script_path and source_b64 is required; the path
	// wins over the others.
	Script string `hcl:"script,optional"`
	// Path of a file that holds the script. A relative path means from the directory of the
	// config file.
	ScriptPath string `hcl:"script_path,optional"`
	// The script in base64.
	SourceB64 string `hcl:"source_b64,optional"`
	// Longest time, in seconds, that the script may run for one message; 5 by default.
	TimeoutSec int `hcl:"timeout_sec,optional"`
	// Run the script without the standard libraries; on by default.
	Sandbox bool `hcl:"sandbox,optional"`
	// Give the script a Snowplow enriched event as a table; off by default.
	SnowplowMode bool `hcl:"snowplow_mode,optional"`
	// By how many MiB the heap may grow while the script runs for one message; 128 by default.
	MemoryLimitMB int `hcl:"memory_limit_mb,optional"`
}

const noScript = "Lua transformation: one of script_path, script and source_b64 must be configured"

// Validate names what could never work.
func (c *Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.Script == "" && c.ScriptPath == "" && c.SourceB64 == "" {
		ps = append(ps, connector.Problem{What: noScript, Fix: "set script_path to the path of the script"})
	}
	if _, err := base64.StdEncoding.DecodeString(c.SourceB64); err != nil {
		ps = append(ps, connector.Problem{Field: "source_b64", What: "source_b64 is not base64: " + err.Error(),
			Fix: "encode the script again, or give its path in script_path"})
	}
	if c.TimeoutSec < 1 {
		ps = append(ps, connector.Problem{Field: "timeout_sec",
			What: fmt.Sprintf("timeout_sec must be at least 1, not %d", c.TimeoutSec), Fix: "leave it out to use 5"})
	}
	if c.MemoryLimitMB < 1 {
		ps = append(ps, connector.Problem{Field: "memory_limit_mb",
			What: fmt.Sprintf("memory_limit_mb must be at least 1, not %d", c.MemoryLimitMB), Fix: "leave it out to use 128"})
	}
	return ps
}

// Entry is the transform "lua".
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "lua",
	Summary:   "Changes, routes or filters messages with a Lua function.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{TimeoutSec: 5, Sandbox: true, MemoryLimitMB: 128} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) {
		return New(d, c)
	},
})

// Transform is a script that was compiled and tried.
type Transform struct {
	config Config
	proto  *golua.FunctionProto
}

// Worker implements connector.Transform.
func (t *Transform) Worker() (connector.Worker, error) { return t.worker(), nil }

func (t *Transform) worker() *Worker {
	w := &Worker{config: t.config, proto: t.proto}
	w.guard = script.NewGuard(time.Duration(t.config.TimeoutSec)*time.Second, t.config.MemoryLimitMB<<20, func(reason error) { w.cancel(reason) })
	return w
}

// Worker runs the script for one goroutine.
type Worker struct {
	config Config
	proto  *golua.FunctionProto
	state  *golua.LState // kept in the sandbox, where a script cannot reach what it shares
	guard  *script.Guard
	cancel context.CancelCauseFunc
}

var _ connector.Closer = (*Worker)(nil)

// New compiles the script and looks for main.
func New(d connector.Deps, c Config) (*Transform, error) {
	blame := "script"
	if c.ScriptPath != "" {
		blame = "script_path"
	}
	source, err := source(d.Dir, c)
	if err != nil {
		return nil, connector.Blame(blame, "name a file that can be read, or write the script itself", err)
	}
	chunk, err := parse.Parse(strings.NewReader(source), "main")
	if err != nil {
		return nil, connector.Blame(blame, "correct the script at the line it names", fmt.Errorf("error building Lua engine: %w", err))
	}
	proto, err := golua.Compile(chunk, "main")
	if err != nil {
		return nil, connector.Blame(blame, "correct the script at the line it names", fmt.Errorf("error building Lua engine: %w", err))
	}
	t := &Transform{config: c, proto: proto}
	tried := t.worker()
	defer tried.drop()
	if err := tried.run(func(*golua.LState, *golua.LFunction) error { return nil }); err != nil {
		return nil, connector.Blame(blame, "define function main(input) at the top level, which must run without an error", fmt.Errorf("error smoke testing Lua function: %w", err))
	}
	return t, nil
}

func source(dir string, c Config) (string, error) {
	switch {
	case c.ScriptPath != "":
		text, err := connector.ReadFile(dir, "script_path", c.ScriptPath)
		if err != nil {
			return "", fmt.Errorf("read script: %w", err)
		}
		return string(text), nil
	case c.Script != "":
		return c.Script, nil
	case c.SourceB64 != "":
		text, err := base64.StdEncoding.DecodeString(c.SourceB64)
		if err != nil {
			return "", fmt.Errorf("decode source_b64: %w", err)
		}
		return string(text), nil
	}
	return "", errors.New(noScript)
}

// memory is how many bytes the script may use for one message.
func (t *Worker) memory() int { return t.config.MemoryLimitMB << 20 }

// Close lets go of the interpreter.
func (t *Worker) Close() error {
	t.drop()
	return nil
}

func (t *Worker) drop() {
	if t.state != nil {
		t.state.Close()
		t.state = nil
	}
}

// run runs the script within its limits. One that is stopped for memory runs again with
// nobody beside it, since another script may be to blame (invariant 3): call must start from
// the message.
func (t *Worker) run(call func(*golua.LState, *golua.LFunction) error) error {
	err := t.once(call)
	if errors.Is(err, script.ErrMemory) {
		t.guard.Alone(func() { err = t.once(call) })
	}
	return err
}

// once runs the top level of the script in an environment of its own and hands main to
// call, within the limits. A panic in the interpreter is an error of this run.
func (t *Worker) once(call func(*golua.LState, *golua.LFunction) error) (err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	t.cancel = cancel
	reason := t.guard.Run(func() {
		defer func() {
			if x := recover(); x != nil {
				err = fmt.Errorf("the interpreter panicked: %v", x)
			}
		}()
		if t.state == nil {
			t.state = t.newState()
		}
		l := t.state
		l.SetContext(ctx)
		fn := l.NewFunctionFromProto(t.proto)
		if t.config.Sandbox {
			fn.Env = l.NewTable()
		}
		l.Push(fn)
		if err = l.PCall(0, 0, nil); err != nil {
			return
		}
		main, ok := l.GetField(fn.Env, "main").(*golua.LFunction)
		if !ok {
			err = errors.New(`global Lua function not found: "main"`)
			return
		}
		err = call(l, main)
	})
	if err != nil || reason != nil || !t.config.Sandbox {
		t.drop()
	} else {
		t.state.SetTop(0)
	}
	switch {
	case errors.Is(reason, script.ErrMemory):
		return fmt.Errorf("%w: the script may use %d MiB", reason, t.config.MemoryLimitMB)
	case reason != nil:
		return fmt.Errorf("%w: the script may run %d s", context.DeadlineExceeded, t.config.TimeoutSec)
	}
	return err
}

const (
	errInput  = "failed making input for the Lua runtime"
	errRun    = `error running Lua function "main"`
	errReturn = "invalid return type from Lua transformation; expected Lua Table"
	errData   = "invalid return type from Lua transformation; expected Data to be a string or a table"
	errFields = "protocol violation in return value from Lua transformation"
)

// output is what main returned.
type output struct {
	filter bool
	reason string
	key    string
	data   []byte
}

// Apply calls main with m.
func (t *Worker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	var o output
	err := t.run(func(l *golua.LState, main *golua.LFunction) error {
		input, err := t.input(l, m)
		if err != nil {
			return snowplow.Invalid(errInput, err)
		}
		if err := l.CallByParam(golua.P{Fn: main, NRet: 1, Protect: true}, input); err != nil {
			return err
		}
		o, err = t.read(l, l.Get(-1))
		return err
	})
	if err != nil {
		if fault.Of(err) == fault.Invalid {
			return out, err
		}
		return out, snowplow.Invalid(errRun, err)
	}
	if o.filter {
		m.Drop(o.reason)
		return out, nil
	}
	m.Replace(o.data)
	if o.key != "" {
		m.Key = o.key
	}
	return append(out, m), nil
}

func (t *Worker) input(l *golua.LState, m *event.Message) (*golua.LTable, error) {
	in := l.CreateTable(0, 3)
	in.RawSetString("FilterOut", golua.LFalse)
	in.RawSetString("PartitionKey", golua.LString(m.Key))
	if !t.config.SnowplowMode {
		in.RawSetString("Data", golua.LString(m.Data))
		return in, nil
	}
	e, err := snowplow.Of(m)
	if err != nil {
		return nil, err
	}
	fields, err := e.Map()
	if err != nil {
		return nil, err
	}
	in.RawSetString("Data", toLua(l, fields))
	return in, nil
}

// read makes an output of what main returned.
func (t *Worker) read(l *golua.LState, v golua.LValue) (o output, err error) {
	table, ok := v.(*golua.LTable)
	if !ok {
		return o, snowplow.Invalid(errReturn, nil)
	}
	switch f := table.RawGetString("FilterOut").(type) {
	case golua.LBool:
		o.filter = bool(f)
	case *golua.LNilType:
	default:
		return o, snowplow.Invalid(errFields, nil)
	}
	switch key := table.RawGetString("PartitionKey").(type) {
	case golua.LString:
		o.key = string(key)
	case *golua.LNilType:
	default:
		return o, snowplow.Invalid(errFields, nil)
	}
	if o.filter {
		if reason, ok := table.RawGetString("FilterReason").(golua.LString); ok {
			o.reason = string(reason)
		}
		return o, nil
	}
	switch data := table.RawGetString("Data").(type) {
	case golua.LString:
		o.data = []byte(data)
	case *golua.LTable:
		if o.data, err = t.json(l, data); err != nil {
			return o, snowplow.Invalid(errData, err)
		}
	default:
		return o, snowplow.Invalid(errData, nil)
	}
	return o, nil
}
