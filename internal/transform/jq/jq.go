// Package jq is the transforms "jq", which makes a new payload of the first output of a
// jq program, "jqFilter", which keeps the messages a jq program answers true for, and
// "jqPartitionKeys", which notes the partition keys that a jq program makes of a message.
//
// The program is given the payload, a JSON object, or in snowplow_mode the enriched
// event as an object whose timestamps are RFC 3339 strings. What "jq" writes has its
// keys sorted and null, {} and [] left out at every depth; <, > and & are escaped.
//
// Beside what jq defines, a program finds epoch, epoch(layout), epochMillis,
// epochMillis(layout) and hash(algorithm; salt). The environment is not visible to it.
package jq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/snowplow"
)

// Config is the block of a jq or jqFilter transform.
type Config struct {
	// The jq program. Required.
	Command string `hcl:"jq_command"`
	// Longest time, in milliseconds, that the program may run for one message; 100 by default.
	TimeoutMillis int `hcl:"timeout_ms,optional"`
	// Give the program a Snowplow enriched event as an object; off by default.
	SnowplowMode bool `hcl:"snowplow_mode,optional"`
	// Form of the hash function: 5 (PBKDF2, 1000 rounds, the default) or 6 (the plain
	// digest, or HMAC where there is a salt).
	HashVersion int `hcl:"hash_version,optional"`
	// By how many MiB the heap may grow while the program runs for one message; 512 by default.
	MemoryLimitMB int `hcl:"memory_limit_mb,optional"`
}

// Validate names what could never work.
func (c *Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if strings.TrimSpace(c.Command) == "" {
		ps = append(ps, connector.Problem{Field: "jq_command", What: "jq_command is empty", Fix: "write the jq program; . keeps the payload as it is"})
	} else if _, err := compile(*c); err != nil {
		ps = append(ps, connector.Problem{Field: "jq_command", What: err.Error(), Fix: "correct the jq program"})
	}
	if c.TimeoutMillis < 1 {
		ps = append(ps, connector.Problem{Field: "timeout_ms",
			What: fmt.Sprintf("timeout_ms must be at least 1, not %d", c.TimeoutMillis), Fix: "leave it out to use 100"})
	}
	if c.MemoryLimitMB < 1 {
		ps = append(ps, connector.Problem{Field: "memory_limit_mb",
			What: fmt.Sprintf("memory_limit_mb must be at least 1, not %d", c.MemoryLimitMB), Fix: "leave it out to use 512"})
	}
	if c.HashVersion != script.HashDerived && c.HashVersion != script.HashPlain {
		ps = append(ps, connector.Problem{Field: "hash_version",
			What: fmt.Sprintf("hash_version must be 5 or 6, not %d", c.HashVersion), Fix: "leave it out to use 5"})
	}
	return ps
}

func defaults() Config {
	return Config{TimeoutMillis: 100, HashVersion: script.HashDerived, MemoryLimitMB: 512}
}

// JQ is the transform "jq".
var JQ = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "jq",
	Summary:   "Replaces the payload by the first output of a jq program.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		p, err := newProgram(c)
		if err != nil {
			return nil, err
		}
		return maps{p}, nil
	},
})

// Filter is the transform "jqFilter".
var Filter = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "jqFilter",
	Summary:   "Keeps the messages for which a jq program answers true.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		p, err := newProgram(c)
		if err != nil {
			return nil, err
		}
		return filters{p}, nil
	},
})

// maps, filters and partitions are the transforms of a program.
type (
	maps       struct{ *program }
	filters    struct{ *program }
	partitions struct{ *program }
)

// Worker implements connector.Transform.
func (p maps) Worker() (connector.Worker, error) { return &Mapper{p.worker()}, nil }

// Worker implements connector.Transform.
func (p filters) Worker() (connector.Worker, error) { return &Sieve{p.worker()}, nil }

// Mapper is a worker of the transform "jq".
type Mapper struct{ p *run }

// Sieve is a worker of the transform "jqFilter".
type Sieve struct{ p *run }

const (
	errInput  = "failed making input for the jq query"
	errRun    = "error running jq query"
	errOutput = "error encoding jq query output data"
	errAnswer = "jq filter didn't return expected [boolean] value"
)

// Apply gives m the program's first output as its payload.
func (t *Mapper) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	v, err := t.p.of(m)
	if err != nil {
		return out, err
	}
	left := maxOutput
	if !bounded(v, &left) {
		return out, snowplow.Invalid(errOutput, errOutputLarge)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return out, snowplow.Invalid(errOutput, err)
	}
	m.Replace(script.StripEmpty(data))
	return append(out, m), nil
}

// Apply keeps m if the program's first output is true.
func (t *Sieve) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	v, err := t.p.of(m)
	if err != nil {
		return out, err
	}
	keep, ok := v.(bool)
	if !ok {
		return out, snowplow.Invalid(errAnswer, nil)
	}
	if keep {
		out = append(out, m)
	}
	return out, nil
}

// program is a compiled jq program; many may run it at once.
type program struct {
	config Config
	code   *gojq.Code
}

// run is a program with the limits of one worker.
type run struct {
	*program
	limit *limit
	guard *script.Guard // of memory: limit ends in time before it
}

func (p *program) worker() *run {
	after := time.Duration(p.config.TimeoutMillis) * time.Millisecond
	r := &run{program: p, limit: newLimit(after)}
	r.guard = script.NewGuard(after+time.Second, p.config.MemoryLimitMB<<20, r.limit.cut)
	return r
}

func newProgram(c Config) (*program, error) {
	code, err := compile(c)
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	return &program{config: c, code: code}, nil
}

func compile(c Config) (*gojq.Code, error) {
	q, err := gojq.Parse(c.Command)
	if err != nil {
		return nil, fmt.Errorf("parse jq_command: %w", err)
	}
	boundIndexes(reflect.ValueOf(q))
	boundSizes(reflect.ValueOf(q))
	defineMatch(q, c.Command)
	code, err := gojq.Compile(q, functions(c)...)
	if err != nil {
		return nil, fmt.Errorf("compile jq_command: %w", err)
	}
	return code, nil
}

// of is the program's first output for m.
func (p *run) of(m *event.Message) (any, error) {
	input, err := p.input(m)
	if err != nil {
		return nil, snowplow.Invalid(errInput, err)
	}
	v, err := p.first(input)
	if err != nil {
		return nil, snowplow.Invalid(errRun, err)
	}
	return v, nil
}

// first runs the program within its limits. One that is stopped for memory runs again alone,
// because another may have taken it.
func (p *run) first(input any) (v any, err error) {
	guarded := func() {
		if reason := p.guard.Run(func() { v, err = p.once(input) }); errors.Is(reason, script.ErrMemory) {
			v, err = nil, fmt.Errorf("the program may take %d MiB: %w", p.config.MemoryLimitMB, script.ErrMemory)
		}
	}
	if guarded(); errors.Is(err, script.ErrMemory) && !errors.Is(err, errSize) {
		v = nil
		p.guard.Alone(guarded)
	}
	return v, err
}

// once runs the program. A panic inside it is an error of this message.
func (p *run) once(input any) (v any, err error) {
	defer func() {
		if x := recover(); x != nil {
			v, err = nil, fmt.Errorf("the jq program panicked: %v", x)
		}
	}()
	p.limit.start()
	defer p.limit.stop()
	v, ok := p.code.RunWithContext(p.limit, input).Next()
	if !ok {
		return nil, errors.New("the jq program has no output; write select(...) as a jqFilter")
	}
	if err, failed := v.(error); failed {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("the program may run %d ms: %w", p.config.TimeoutMillis, err)
		}
		return nil, err
	}
	return v, nil
}

func (p *program) input(m *event.Message) (any, error) {
	if p.config.SnowplowMode {
		e, err := snowplow.Of(m)
		if err != nil {
			return nil, err
		}
		fields, err := e.Map()
		if err != nil {
			return nil, err
		}
		return plain(fields), nil
	}
	v, err := script.Decode(string(m.Data))
	if err != nil {
		return nil, err
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errors.New("the payload is JSON, but not an object")
	}
	return v, nil
}

// plain replaces, in place, what jq has no type for.
func plain(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case int64:
		return int(v)
	case int32:
		return int(v)
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
		return v
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
		return v
	case []map[string]any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plain(e)
		}
		return list
	}
	return v
}
