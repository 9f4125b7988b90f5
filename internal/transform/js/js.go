// Package js is the transform "js": a JavaScript function main that is called with each
// message and says what becomes of it.
//
// # Protocol
//
// main receives one object with the properties FilterOut (false), PartitionKey, Data and
// HTTPHeaders (an object, or null). It returns that object, or a new one with any of
// these properties, their names in any case:
//
//	FilterOut     true: the message is filtered, everything but the reason is ignored
//	FilterReason  why it is, a text that metrics count by
//	Data          the new payload: a string as it is, an object as JSON
//	PartitionKey  the new key, unless empty
//	HTTPHeaders   the new headers in place of all others, unless empty
//
// A header that a message has several times is an array of its values in HTTPHeaders, and may
// be returned as one. Headers that a script does not change keep their order, and their bytes.
//
// Data comes as a string, or as an object in json_mode and snowplow_mode. A js step that
// follows another one gets what the other returned, as it is. What the script does not
// change of a JSON payload keeps its order, and numbers all their digits.
//
// Beside the language itself a script finds the functions hash, allContexts, allUnstruct
// and parseTimestamp.
package js

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/snowplow"
)

// Config is the block of a js transform.
type Config struct {
	// The script itself. Either script or script_path is required; script_path wins.
	Script string `hcl:"script,optional"`
	// Path of a file that holds the script. A relative path means from the directory of the
	// config file.
	ScriptPath string `hcl:"script_path,optional"`
	// Longest time, in seconds, that the script may run for one message; 15 by default.
	TimeoutSec int `hcl:"timeout_sec,optional"`
	// Give the script a Snowplow enriched event as an object; off by default.
	SnowplowMode bool `hcl:"snowplow_mode,optional"`
	// Give the script the payload as the JSON object it is; off by default. It takes
	// precedence over snowplow_mode.
	JSONMode bool `hcl:"json_mode,optional"`
	// Leave null, empty objects and empty arrays out of a result that is an object; off
	// by default.
	RemoveNulls bool `hcl:"remove_nulls,optional"`
	// Salt of the hash function; none by default.
	HashSaltSecret string `hcl:"hash_salt_secret,optional"`
	// Form of the hash function: 5 (PBKDF2, 1000 rounds, the default) or 6 (the plain
	// digest, or HMAC where there is a salt).
	HashVersion int `hcl:"hash_version,optional"`
	// Keep what the script leaves in its variables from one message to the next, for
	// each worker on its own; off by default.
	Stateful bool `hcl:"stateful,optional"`
	// By how many MiB the heap may grow while the script runs for one message; 128 by default.
	MemoryLimitMB int `hcl:"memory_limit_mb,optional"`
}

// Validate names what could never work.
func (c *Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.Script == "" && c.ScriptPath == "" {
		ps = append(ps, connector.Problem{
			What: "JS transformation: Either script_path or script must be configured",
			Fix:  "set script_path to the path of the script",
		})
	}
	if c.TimeoutSec < 1 {
		ps = append(ps, connector.Problem{Field: "timeout_sec",
			What: fmt.Sprintf("timeout_sec must be at least 1, not %d", c.TimeoutSec), Fix: "leave it out to use 15"})
	}
	if c.HashVersion != script.HashDerived && c.HashVersion != script.HashPlain {
		ps = append(ps, connector.Problem{Field: "hash_version",
			What: fmt.Sprintf("hash_version must be 5 or 6, not %d", c.HashVersion), Fix: "leave it out to use 5"})
	}
	if c.MemoryLimitMB < 1 {
		ps = append(ps, connector.Problem{Field: "memory_limit_mb",
			What: fmt.Sprintf("memory_limit_mb must be at least 1, not %d", c.MemoryLimitMB), Fix: "leave it out to use 128"})
	}
	return ps
}

// Entry is the transform "js".
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "js",
	Summary:   "Changes, routes or filters messages with a JavaScript function.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{TimeoutSec: 15, HashVersion: script.HashDerived, MemoryLimitMB: 128} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) {
		return New(d, c)
	},
})

// Transform is a script that was compiled and tried.
type Transform struct {
	config  Config
	program *script.Program
	tried   atomic.Pointer[script.Runtime] // that New ran the top level in, until a worker takes it
}

// Worker implements connector.Transform.
func (t *Transform) Worker() (connector.Worker, error) {
	r := t.tried.Swap(nil)
	if r == nil {
		r = t.program.Later()
	}
	return &Worker{config: t.config, runtime: r}, nil
}

// Worker runs the script for one goroutine.
type Worker struct {
	config  Config
	runtime *script.Runtime
}

// New compiles the script and runs its top level.
func New(d connector.Deps, c Config) (*Transform, error) {
	source, blame := c.Script, "script"
	if c.ScriptPath != "" {
		blame = "script_path"
		text, err := d.ReadFile("script_path", c.ScriptPath)
		if err != nil {
			return nil, connector.Blame("script_path", "correct the path: a relative one means from the directory of the config file", fmt.Errorf("read script: %w", err))
		}
		source = string(text)
	} else if source == "" {
		return nil, fault.New(fault.Setup, errors.New("JS transformation: Either script_path or script must be configured"))
	}
	p, err := script.Compile(source, script.Options{
		Stateful:    c.Stateful,
		Timeout:     time.Duration(c.TimeoutSec) * time.Second,
		MemoryLimit: c.MemoryLimitMB << 20,
		Helpers:     helpers(c),
	})
	if err != nil {
		return nil, connector.Blame(blame, "correct the script at the line it names", fmt.Errorf("error building JS engine: %w", err))
	}
	r, err := p.New()
	if err != nil {
		return nil, connector.Blame(blame, "define function main(input) at the top level, which must run without an error", fmt.Errorf("error smoke testing JS function: %w", err))
	}
	t := &Transform{config: c, program: p}
	t.tried.Store(r)
	return t, nil
}

// result is what a script made of a message, and what the next js step is given.
type result struct {
	filter  bool
	reason  string
	text    string // the payload; JSON when object is set
	object  bool
	key     string
	headers event.Headers
}

const (
	errInput    = "failed making input for the JavaScript runtime"
	errRun      = "error running JavaScript function [main]"
	errReturn   = "invalid return type from JavaScript transformation"
	errNothing  = errReturn + "; got null or undefined"
	errData     = errReturn + "; expected string or object"
	errProtocol = "protocol violation in return value from JavaScript transformation"
)

// invalid is an error of this message alone.
func invalid(safe string, err error) error {
	code := "TransformationError"
	if err == nil {
		err = errors.New(safe)
	} else {
		err = fmt.Errorf("%s: %w", safe, err)
		code = script.Code(err.Error())
	}
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "transformation", Code: code, Safe: safe})
}

// Apply calls main with m.
func (t *Worker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	var (
		given *input
		r     result
	)
	err := t.runtime.Call(
		func(vm *script.VM) (goja.Value, error) {
			var err error
			if given, err = t.input(vm, m); err != nil {
				return nil, invalid(errInput, err)
			}
			given.self = vm.JS().NewDynamicObject(given)
			return given.self, nil
		},
		func(vm *script.VM, v goja.Value) error {
			var err error
			r, err = t.read(vm, given, v)
			return err
		})
	if err != nil {
		if fault.Of(err) == fault.Invalid {
			return out, err
		}
		return out, invalid(errRun, err)
	}
	if r.filter {
		m.Drop(r.reason)
		return out, nil
	}
	data := []byte{}
	if r.text != "" {
		data = unsafe.Slice(unsafe.StringData(r.text), len(r.text)) // payloads are never written into
	}
	if r.object && t.config.RemoveNulls {
		data = script.StripEmpty(data)
	}
	m.Replace(data)
	if r.key != "" {
		m.Key = r.key
	}
	if len(r.headers) > 0 {
		m.Meta.Headers = r.headers
	}
	m.Keep(&r)
	return append(out, m), nil
}

// input makes what main is called with.
func (t *Worker) input(vm *script.VM, m *event.Message) (*input, error) {
	in := &input{vm: vm, headers: m.Meta.Headers}
	if before, ok := m.View().(*result); ok {
		in.key, in.headers = before.key, before.headers
		if !before.object {
			in.data = vm.JS().ToValue(before.text)
			return in, nil
		}
		var err error
		in.data, err = vm.Parse(before.text)
		return in, err
	}
	switch {
	case t.config.JSONMode:
		v, err := vm.Parse(t.text(m))
		if err != nil {
			return nil, err
		}
		if !vm.IsObject(v) {
			return nil, errors.New("the payload is JSON, but not an object")
		}
		in.data = v
	case t.config.SnowplowMode:
		e, err := snowplow.Of(m)
		if err != nil {
			return nil, err
		}
		fields, err := e.Map()
		if err != nil {
			return nil, err
		}
		in.data = vm.Value(fields)
	default:
		in.data = vm.JS().ToValue(t.text(m))
	}
	return in, nil
}

// text is the payload of m. A script that keeps nothing gets it without a copy.
func (t *Worker) text(m *event.Message) string {
	if t.config.Stateful {
		return string(m.Data)
	}
	return unsafe.String(unsafe.SliceData(m.Data), len(m.Data))
}
