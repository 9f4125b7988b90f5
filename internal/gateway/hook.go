package gateway

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/workspace"
)

// Webhook is the script of a kind of webhook source. Its function process is given a request, and returns
// events: one, a list, or {output: {batch: [...]}}. With {outputToSource: {body, contentType}}, whose
// body is in base64, it says what the sender is answered, and with {statusCode, error} why the request
// is refused.
type Webhook struct {
	// The name of the sources' definition in the workspace, such as "Shopify", in any case; or the id of one
	// source, whose script counts before that of its definition.
	Source string `hcl:"source,label"`
	// Path of the JavaScript file with the function process(input).
	ScriptPath string `hcl:"script_path"`
	// What the function is given: "v2" for {request: {method, url, proto, body, headers,
	// query_parameters}, source}, where body is a text; "v1" for {event, source}, where event is
	// the body. Default: "v2".
	Version string `hcl:"version,optional"`
	// Whether requests by GET are given to the script too, which otherwise are answered 200 and nothing
	// else is done; those of the definition "Adjust" always are. Default: false.
	ForwardGet bool `hcl:"forward_get,optional"`
	// Longest time, in milliseconds, the function may run for a request. Default: 4000.
	TimeoutMillis int `hcl:"timeout_millis,optional"`
}

// CheckWebhooks names what is wrong with the scripts of webhook sources.
func CheckWebhooks(list []*Webhook) (ps []connector.Problem) {
	refuse := func(fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: "webhook", What: fmt.Sprintf(format, args...), Fix: fix})
	}
	seen := map[string]bool{}
	for _, w := range list {
		switch name := strings.ToLower(w.Source); {
		case name == "":
			refuse(`write the name of the sources' definition: webhook "Shopify" { ... }`, "webhook %q names no source", w.Source)
		case seen[name]:
			refuse("leave one of them", "webhook %q is there twice", w.Source)
		case w.Version != "" && w.Version != "v1" && w.Version != "v2":
			refuse(`write "v1" or "v2"`, "version of webhook %q is %q", w.Source, w.Version)
		case w.ScriptPath == "":
			refuse("write the path of the JavaScript file", "webhook %q has no script_path", w.Source)
		case w.TimeoutMillis < 0:
			refuse("leave it out to use 4000", "timeout_millis of webhook %q is negative", w.Source)
		default:
			seen[name] = true
		}
	}
	return ps
}

// trial is how long a script may take at least to start when it is tried: the limit for a request says
// nothing of a machine that is busy with starting everything.
const trial = 30 * time.Second

// hookMemory is by how many bytes the heap may grow while a script runs.
const hookMemory = 128 << 20

// Hooks are the scripts of webhook sources. Nil has none.
type Hooks struct{ of map[string]*hook }

// hook is one script that was compiled and tried.
type hook struct {
	first   bool // what it is given is of the first version
	forward bool
	program *script.Program
	idle    chan *script.Runtime // as many as may run at once
}

// NewHooks compiles the scripts and runs the top level of each.
func NewHooks(d connector.Deps, list []*Webhook) (*Hooks, error) {
	h := &Hooks{of: map[string]*hook{}}
	for _, w := range list {
		text, err := d.ReadFile("webhook", w.ScriptPath)
		if err != nil {
			return nil, connector.Blame("webhook", "correct the path: a relative one means from the directory of the config file", fmt.Errorf("read the script of webhook %q: %w", w.Source, err))
		}
		limit := time.Duration(cmp.Or(w.TimeoutMillis, 4000)) * time.Millisecond
		options := script.Options{Name: w.ScriptPath, Entry: "process", MemoryLimit: hookMemory, Timeout: max(limit, trial)}
		p, err := script.Compile(string(text), options)
		if err == nil {
			_, err = p.New()
		}
		if err == nil {
			options.Timeout = limit
			p, err = script.Compile(string(text), options)
		}
		if err != nil {
			return nil, connector.Blame("webhook", "define function process(input) at the top level of the script, which must run without an error", fmt.Errorf("script of webhook %q: %w", w.Source, err))
		}
		made := &hook{first: w.Version == "v1", forward: w.ForwardGet, program: p, idle: make(chan *script.Runtime, runtime.GOMAXPROCS(0))}
		for len(made.idle) < cap(made.idle) {
			made.idle <- p.Later()
		}
		h.of[strings.ToLower(w.Source)] = made
	}
	return h, nil
}

// Of is the script of a source; nil when it has none.
func (h *Hooks) script(s *workspace.Source) *hook {
	if h == nil {
		return nil
	}
	if of := h.of[strings.ToLower(s.ID)]; of != nil {
		return of
	}
	return h.of[strings.ToLower(s.Definition)]
}

// Warnings name what is allowed and probably not meant: scripts without a source, and sources whose
// definition asks for a script that is not there.
func (h *Hooks) Warnings(w *workspace.Workspace) (texts []string) {
	used := map[*hook]bool{}
	for _, s := range w.Sources {
		if s.Category != hooked {
			continue
		}
		of := h.script(s)
		used[of] = true
		if of == nil && !strings.EqualFold(s.Definition, "webhook") {
			texts = append(texts, fmt.Sprintf("source %q is a webhook source of the definition %q, which has no webhook block with a script: each request becomes an event %q with the request as its properties", s.ID, s.Definition, plainEvent))
		}
	}
	for name, of := range h.of {
		if !used[of] {
			texts = append(texts, fmt.Sprintf("webhook %q: the workspace has no webhook source of that definition or id", name))
		}
	}
	return texts
}

// errBusy is for a request that found every runtime at work for too long.
var errBusy = errors.New("the scripts of the source are busy")

// patience is how long a request waits for a runtime.
const patience = 10 * time.Second

// made is what a script returned.
type made struct {
	events []byte // {"batch": [...]}, or nil for none
	answer *Answer
}

// result is what a script says, where it does not return events only.
type result struct {
	Output   json.RawMessage `json:"output"`
	ToSource *struct {
		Body        []byte `json:"body"` // base64
		ContentType string `json:"contentType"`
	} `json:"outputToSource"`
	StatusCode int    `json:"statusCode"`
	Error      string `json:"error"`
}

// run gives a request to the script. The error is why the request is refused, and no answer.
func (h *hook) run(input []byte) (made, error) {
	var r *script.Runtime
	select {
	case r = <-h.idle:
	default:
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case r = <-h.idle:
		case <-wait.C:
			return made{}, errBusy
		}
	}
	defer func() { h.idle <- r }()
	var text []byte
	err := r.Call(
		func(vm *script.VM) (goja.Value, error) { return vm.Parse(string(input)) },
		func(vm *script.VM, v goja.Value) error {
			text = nil
			if goja.IsUndefined(v) || goja.IsNull(v) {
				return nil
			}
			var ok bool
			if text, ok = vm.Stringify(nil, v); !ok {
				return errors.New("process returned what is no JSON")
			}
			return nil
		})
	if err != nil {
		return made{}, err
	}
	return madeOf(text)
}

// madeOf reads what a script returned.
func madeOf(text []byte) (made, error) {
	switch text = bytes.TrimSpace(text); {
	case len(text) == 0:
		return made{}, nil
	case text[0] == '[':
		return made{events: listed(text)}, nil
	case text[0] != '{':
		return made{}, errors.New("process returned neither an object nor a list")
	}
	var named map[string]json.RawMessage
	if err := json.Unmarshal(text, &named); err != nil {
		return made{}, fmt.Errorf("read what process returned: %w", err)
	}
	_, output := named["output"]
	_, back := named["outputToSource"]
	_, status := named["statusCode"]
	if !output && !back && !status {
		return made{events: listed(append(append([]byte{'['}, text...), ']'))}, nil
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		return made{}, fmt.Errorf("read what process returned: %w", err)
	}
	if r.StatusCode >= 400 || r.Error != "" {
		return made{}, &refusedBy{code: r.StatusCode, text: r.Error}
	}
	m := made{}
	switch out := bytes.TrimSpace(r.Output); {
	case len(out) == 0 || string(out) == "null":
	case out[0] == '[':
		m.events = listed(out)
	default:
		var of struct {
			Batch json.RawMessage `json:"batch"`
		}
		if err := json.Unmarshal(out, &of); err != nil {
			return made{}, fmt.Errorf("read what process returned: %w", err)
		}
		if list := of.Batch; len(list) > 0 && list[0] == '[' {
			m.events = listed(list)
		} else {
			m.events = listed(append(append([]byte{'['}, out...), ']'))
		}
	}
	if r.ToSource != nil {
		m.answer = &Answer{Code: 200, Type: cmp.Or(r.ToSource.ContentType, plainText), Body: r.ToSource.Body}
	}
	return m, nil
}

// listed is a list of events as the body of a batch; nil for an empty one.
func listed(list []byte) []byte {
	if len(bytes.TrimSpace(list[1:len(list)-1])) == 0 {
		return nil
	}
	return append(append([]byte(`{"batch":`), list...), '}')
}

// refusedBy is a script's own refusal of a request.
type refusedBy struct {
	code int
	text string
}

func (r *refusedBy) Error() string { return r.text }

// maxTold is the most bytes of an error that the sender of a request is told.
const maxTold = 1 << 10

// answerOf is what the sender is told of an error.
func answerOf(err error) *Answer {
	told := func(code int, text string) *Answer {
		text = strings.Map(func(r rune) rune {
			if r < ' ' {
				return ' '
			}
			return r
		}, text)
		return refusal(code, text[:min(len(text), maxTold)])
	}
	if r, ok := errors.AsType[*refusedBy](err); ok {
		if r.code < 400 || r.code > 599 {
			r.code = 400
		}
		return told(r.code, r.text)
	}
	if e, ok := errors.AsType[*script.Error](err); ok && e.Reason == script.Thrown {
		return told(400, thrown(e))
	}
	return HookFailed
}

// thrown is what a script threw, without where: the message of an error.
func thrown(err error) string {
	e, ok := errors.AsType[*goja.Exception](err)
	if !ok {
		return err.Error()
	}
	if o, ok := e.Value().(*goja.Object); ok {
		if text := o.Get("message"); text != nil && !goja.IsUndefined(text) {
			return text.String()
		}
	}
	return e.Value().String()
}
