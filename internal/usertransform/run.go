package usertransform

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/workspace"
)

var (
	imports = regexp.MustCompile(`\bimport\b`)
	waiting = regexp.MustCompile(`\b(fetch|fetchV2|geolocation)\b`)
	shared  = regexp.MustCompile(`['"](@rs/([A-Za-z0-9_-]+)/(v[0-9]+))['"]`)
)

// program is compiled code. Many goroutines may use it at once.
type program struct {
	script *script.Program
	batch  bool // the entry takes events together
	name   string
	idle   chan *script.Runtime
	slow   atomic.Int64 // when it may be called again by who is in a hurry, in nanoseconds
}

// called is how the function of each form is named in messages.
const (
	calledEvent = "transformEvent(event)"
	calledBatch = "transformBatch(event)"
)

// compile makes a program of a version's code.
func (e *Engine) compile(v version, libraries map[string]string) (*program, error) {
	if v.Language != "" && !strings.EqualFold(v.Language, workspace.JavaScript) {
		return nil, fmt.Errorf("it is written in %s, which is not run here: write it in JavaScript", v.Language)
	}
	options := script.Options{
		Alone: waiting.MatchString(v.Code), Name: userModule + ".js", Entry: entryName, Timeout: time.Duration(e.c.TimeoutMillis) * time.Millisecond,
		MemoryLimit: e.c.MemoryLimitMB << 20, Helpers: helpers,
	}
	p := &program{batch: true, name: "transform(events)", idle: make(chan *script.Runtime, 2*runtime.GOMAXPROCS(0))}
	text := v.Code
	if v.CodeVersion == "0" {
		if strings.Contains(text, entryName) {
			return nil, fmt.Errorf("the name %s is reserved: call it something else", entryName)
		}
		text += "\nfunction " + entryName + "(x) { return transform(x) }\n"
	} else {
		b, err := bundled(text, func(name string) (string, bool) { code, ok := libraries[name]; return code, ok })
		if err != nil {
			return nil, err
		}
		text, options.SourceMap, p.batch, p.name = b.text, b.from, b.batch, calledEvent
		if b.batch {
			p.name = calledBatch
		}
	}
	var err error
	if p.script, err = script.Compile(text, options); err != nil {
		return nil, err
	}
	r, err := p.script.New()
	if err != nil {
		return nil, err
	}
	p.idle <- r
	return p, nil
}

// call is one call of the code: the events of one source and destination.
type call struct {
	engine     *Engine
	may        *workspace.Code
	source     *workspace.Source
	connection *workspace.Connection
	events     event.Batch
	ids        map[string]int // of events, by messageId; made when first asked for
	ctx        context.Context
}

// run calls the code with the events of c and sets their results.
func (p *program) run(ctx, patient context.Context, c *call, results []Result) {
	var r *script.Runtime
	select {
	case r = <-p.idle:
	default:
		r = p.script.Later()
	}
	defer func() {
		select {
		case p.idle <- r:
		default: // there are as many as may work at once
		}
	}()
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(ctx) // what is still under way when the call ends, ends with it
	defer cancel()
	if p.batch {
		p.together(ctx, patient, r, c, results)
		return
	}
	r.Together(func() {
		for i, m := range c.events {
			out, err := p.one(ctx, patient, r, c, m)
			results[i] = Result{out, err}
			if fault.Of(err) == fault.Transient && err != nil {
				fail(results[i+1:], err) // what it waits for it waits for again
				return
			}
		}
	})
}

// one calls transformEvent.
func (p *program) one(ctx, patient context.Context, r *script.Runtime, c *call, m *event.Message) (out [][]byte, err error) {
	err = r.CallUntil(ctx,
		func(vm *script.VM) (goja.Value, error) {
			vm.Hold(c)
			return parsed(vm, m)
		},
		func(vm *script.VM, v goja.Value) error {
			out = out[:0]
			v, err := r.Await(patient, vm, v)
			switch {
			case err != nil:
				return err
			case goja.IsNull(v) || goja.IsUndefined(v):
				return nil
			case !isList(v):
				text, err := written(vm, v, "returned event from "+p.name)
				out = append(out, text)
				return err
			}
			for i := range length(v) {
				text, err := written(vm, v.(*goja.Object).Get(strconv.Itoa(i)), "returned event in events array from "+p.name)
				if err != nil {
					return err
				}
				out = append(out, text)
			}
			return nil
		})
	if err != nil {
		return nil, p.failure(ctx, err)
	}
	return out, nil
}

// together calls transformBatch, or transform of code version 0. What it returns belongs to the
// event whose messageId it has, or to the first.
func (p *program) together(ctx, patient context.Context, r *script.Runtime, c *call, results []Result) {
	err := r.CallUntil(ctx,
		func(vm *script.VM) (goja.Value, error) {
			vm.Hold(c)
			list := make([]any, len(c.events))
			for i, m := range c.events {
				v, err := parsed(vm, m)
				if err != nil {
					return nil, err
				}
				list[i] = v
			}
			return vm.JS().NewArray(list...), nil
		},
		func(vm *script.VM, v goja.Value) error {
			clear(results)
			v, err := r.Await(patient, vm, v)
			if err != nil {
				return err
			}
			if !isList(v) {
				return invalid(fmt.Errorf("returned events from %s is not an array", p.name))
			}
			for i := range length(v) {
				of := v.(*goja.Object).Get(strconv.Itoa(i))
				text, err := written(vm, of, "returned event in events array from "+p.name)
				at := 0
				if err == nil {
					at = max(c.find(messageID(text)), 0)
				}
				if err != nil {
					results[at].Err = err
					continue
				}
				results[at].Out = append(results[at].Out, text)
			}
			return nil
		})
	if err != nil {
		fail(results, p.failure(ctx, err))
	}
	for i := range results {
		if results[i].Err != nil {
			results[i].Out = nil
		}
	}
}

// failure is why a call has no result.
func (p *program) failure(ctx context.Context, err error) error {
	if errors.Is(err, script.ErrPatience) {
		p.slow.Store(time.Now().Add(Slow).UnixNano())
		return fault.New(fault.Transient, fmt.Errorf("user transformation: %w", err))
	}
	if limited, ok := errors.AsType[*script.Error](err); ok && limited.Reason == script.Cut {
		return fault.New(fault.Transient, fmt.Errorf("user transformation: %w", context.Cause(ctx)))
	}
	if fault.Of(err) == fault.Invalid {
		return err
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, entryName) })
	return invalid(errors.New(strings.ReplaceAll(strings.Join(lines, "\n"), space+":"+userModule, userModule)))
}

// parsed is an event as code gets it. The payload is never written to while it is in use.
func parsed(vm *script.VM, m *event.Message) (goja.Value, error) {
	v, err := vm.Parse(unsafe.String(unsafe.SliceData(m.Data), len(m.Data)))
	if err == nil && !vm.IsObject(v) {
		err = errors.New("the payload is no JSON object")
	}
	return v, err
}

func isList(v goja.Value) bool {
	o, ok := v.(*goja.Object)
	return ok && o.ClassName() == "Array"
}

func length(v goja.Value) int { return int(v.(*goja.Object).Get("length").ToInteger()) }

// written is an event as code has left it.
func written(vm *script.VM, v goja.Value, what string) ([]byte, error) {
	if v != nil && vm.IsObject(v) {
		if text, ok := vm.Stringify(nil, v); ok && len(text) > 0 && text[0] == '{' {
			return text, nil
		}
	}
	return nil, invalid(fmt.Errorf("%s is not an object", what))
}

// messageID is the member messageId of an event as a text; empty when it has none.
func messageID(data []byte) string {
	s := jsontext.Scan(data)
	members, ok := s.Object(nil)
	if !ok {
		return ""
	}
	id := ""
	for _, m := range members {
		if string(m.Name(data)) == "messageId" {
			if v := m.Of(data); v[0] == '"' {
				id = string(jsontext.Unquoted(v))
			} else {
				id = string(v)
			}
		}
	}
	return id
}

// find is the event of a call that has a messageId; -1 when none has.
func (c *call) find(id string) int {
	if id == "" {
		return -1
	}
	if c.ids == nil {
		c.ids = make(map[string]int, len(c.events))
		for i, m := range c.events {
			own := messageID(m.Data)
			if _, known := c.ids[own]; !known {
				c.ids[own] = i
			}
		}
	}
	if i, ok := c.ids[id]; ok {
		return i
	}
	return -1
}
