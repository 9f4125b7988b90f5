package machine

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/spelling"
)

// MaxDefinition is how many bytes a definition may have, as on AWS.
const MaxDefinition = 1 << 20

// Definition is a machine that was parsed and found valid. It is immutable and safe for
// concurrent use.
type Definition struct {
	limits   Limits
	text     string
	revision uint64
	comment  string
	timeout  time.Duration
	top      *block
	states   map[string]*state

	headValues int // bytes of values in a head
}

// block is one States object: the machine's, a branch's or an iteration's.
type block struct {
	owner   *state // the Parallel or Map it belongs to, nil for the machine
	branch  int    // place among the owner's branches
	start   *state
	byName  map[string]*state
	ordered []*state
}

type stateKind uint8

const (
	passState stateKind = iota
	taskState
	choiceState
	waitState
	succeedState
	failState
	parallelState
	mapState
)

var kindNames = [...]string{"Pass", "Task", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map"}

func (k stateKind) String() string { return kindNames[k] }

// state is one state, compiled.
type state struct {
	name  string
	kind  stateKind
	block *block
	next  *state // nil ends the block

	inputPath, outputPath *query // nil is null: {}
	parameters            expression
	selector              expression // ResultSelector
	resultPath            *query
	dropResult            bool // ResultPath null
	result                jsonvalue.Value
	assign                *assignment
	retry                 []retrier
	catch                 []catcher

	task   *taskFields
	choice *choiceFields
	wait   *waitFields
	fail   *failFields

	branches    []*block // of a Parallel; of a Map its one processor
	broken      string   // why the state cannot be run; only in what was restored
	mapping     *mapFields
	nextName    string // until targets are resolved
	defaultName string
}

type taskFields struct {
	resource                   string
	timeout, heartbeat         int64 // seconds, 0 is none
	timeoutPath, heartbeatPath *query
	credentials                expression
	events                     taskEvents
}

type failFields struct {
	err, cause         *string
	errPath, causePath expression
}

type mapFields struct {
	processor       string // ItemProcessor or Iterator
	itemsPath       *query
	selector        expression
	concurrency     int64
	concurrencyPath *query
}

type assignment struct {
	names  []string
	values []expression
}

type retrier struct {
	errors      []string
	interval    float64 // seconds
	maxAttempts uint32
	rate        float64
	maxDelay    float64 // seconds, 0 is none
	jitter      bool
}

type catcher struct {
	errors     []string
	next       *state
	nextName   string
	resultPath *query
	dropResult bool
	assign     *assignment
}

// builder reads a definition and collects what is wrong with it.
type builder struct {
	text     string
	d        *Definition
	problems Problems
	depth    int

	restores bool              // the definition was accepted before
	broken   map[string]string // states that cannot be run, and why
}

// Parse reads and checks a definition in JSON. Its error is a Problems with everything that
// is wrong, which fault takes for Setup.
func Parse(text []byte, limits Limits) (*Definition, error) {
	b := &builder{text: string(text)}
	b.d = &Definition{limits: limits.withDefaults(), text: b.text, states: map[string]*state{}, headValues: headValues}
	b.read()
	if len(b.problems) > 0 {
		sortProblems(b.problems)
		return nil, b.problems
	}
	b.d.revision = revisionOf(text, b.d.limits)
	return b.d, nil
}

// revisionOf tells texts and limits apart.
func revisionOf(text []byte, limits Limits) uint64 {
	h := fnv.New64a()
	h.Write(text)
	if limits != unnamedLimits {
		h.Write(fmt.Appendf(nil, "\n%d %d %d %d %d %d", limits.Payload, limits.Variables, limits.Transitions, limits.Events, limits.Concurrency, limits.Frames))
	}
	return h.Sum64()
}

// unnamedLimits are those of revisions that follow from the text alone. They stay what they are
// when a default becomes another.
var unnamedLimits = Limits{Payload: 256 << 10, Variables: 10 << 20, Transitions: 10_000, Concurrency: 40, Frames: 1_000}

// Limits are what the definition was parsed with, defaults included.
func (d *Definition) Limits() Limits { return d.limits }

// Revision names this text of the definition with these limits: an execution can be continued
// only with the definition it was started with.
func (d *Definition) Revision() string { return fmt.Sprintf("%016x", d.revision) }

// Text is the definition as it was parsed.
func (d *Definition) Text() string { return d.text }

// Comment is the definition's Comment.
func (d *Definition) Comment() string { return d.comment }

func (b *builder) read() {
	if len(b.text) > MaxDefinition && !b.restores {
		b.report(nil, CodeSchema, fmt.Sprintf("the definition has %d bytes, at most %d are allowed", len(b.text), MaxDefinition), "make it shorter")
		return
	}
	parse := jsonvalue.ParseUnique
	if b.restores {
		parse = jsonvalue.ParseWritten
	}
	v, err := parse(b.text)
	if err != nil {
		offset := 0
		if syntax, ok := errors.AsType[*jsonvalue.SyntaxError](err); ok {
			offset, err = syntax.Offset, errors.New(syntax.Message)
		}
		line, column := lineColumn(b.text, offset)
		b.problems = append(b.problems, Problem{
			Code: CodeJSON, Location: "/", Line: line, Column: column,
			Message: "the definition is not JSON: " + err.Error(), Fix: "correct the text at this place",
		})
		return
	}
	if v.Kind() != jsonvalue.Object {
		b.report(nil, CodeJSON, "Definition must be a valid JSON object", "write { \"StartAt\": ..., \"States\": ... }")
		return
	}
	b.machine(b.object(v, nil))
}

func (b *builder) machine(o *object) {
	b.d.comment, _ = o.text("Comment")
	if v, ok := o.text("Version"); ok && v != "1.0" {
		o.advise("Version", fmt.Sprintf("version %q is unknown", v), `there is only "1.0"`)
	}
	if !b.queryLanguage(o) {
		return
	}
	b.d.timeout = time.Duration(o.whole("TimeoutSeconds", 1, maxSeconds, 0)) * time.Second
	b.d.top = b.block(o, nil, 0)
	o.done("a state machine")
	b.resolve()
}

// maxSeconds is the longest time a definition can name.
const maxSeconds = 99_999_999

// queryLanguage reports whether what o holds can be read: in another language its fields are
// others, and what is wrong with them is not known.
func (b *builder) queryLanguage(o *object) bool {
	switch v, ok := o.text("QueryLanguage"); {
	case !ok || v == "JSONPath":
		return true
	case v == "JSONata":
		o.b.report(o.place("QueryLanguage"), CodeUnfinished, "JSONata is not supported yet",
			"use JSONPath, with InputPath, Parameters, ResultSelector, ResultPath and OutputPath")
	default:
		o.problem("QueryLanguage", fmt.Sprintf("%q is no query language", v), `there is "JSONPath"`)
	}
	return false
}

// block reads StartAt and States of o.
func (b *builder) block(o *object, owner *state, branch int) *block {
	bl := &block{owner: owner, branch: branch, byName: map[string]*state{}}
	startAt, hasStart := o.text("StartAt")
	states := o.get("States")
	if missing := missingFields(o, "StartAt", "States"); missing != "" {
		b.report(o.at, CodeSchema, "These fields are required: ["+missing+"]", "add them")
		return bl
	}
	if states.Kind() != jsonvalue.Object || states.Len() == 0 {
		o.problem("States", "States must be an object with at least one state", `write { "Name": { "Type": ... } }`)
		return bl
	}
	for i, name := range states.Keys() {
		b.state(bl, name, states.Item(i), o.place("States", name))
	}
	if bl.start = bl.byName[startAt]; hasStart && bl.start == nil {
		b.target(o.place("StartAt"), "StartAt", startAt, bl)
	}
	return bl
}

func missingFields(o *object, fields ...string) string {
	var missing []string
	for _, f := range fields {
		if !o.has(f) {
			missing = append(missing, f)
		}
	}
	return strings.Join(missing, ", ")
}

// target reports a name that no state of the block has.
func (b *builder) target(at place, field, name string, in *block) {
	if len(b.problems) >= maxProblems {
		return
	}
	fix := "name a state of the same States object"
	names := make([]string, len(in.ordered))
	for i, s := range in.ordered {
		names[i] = s.name
	}
	if near := spelling.Nearest(name, names); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	} else if other := b.d.states[name]; other != nil && other.block != in {
		fix = "a state cannot lead out of its branch or into another; " + fix
	}
	b.report(at, CodeTarget, fmt.Sprintf("Missing '%s' target: %s", field, name), fix)
}

// resolve finds the states that others name, and those that nobody does.
func (b *builder) resolve() {
	if b.d.top == nil {
		return
	}
	b.resolveBlock(b.d.top, nil)
	if len(b.problems) == 0 && !b.restores { // else mistakes elsewhere may be the reason
		b.unreached(b.d.top, nil)
	}
}

func (b *builder) resolveBlock(bl *block, at place) {
	find := func(s *state, field, name string, steps ...any) *state {
		if name == "" {
			return nil
		}
		t := bl.byName[name]
		if t == nil {
			b.target(append(slices.Clip(at), append([]any{"States", s.name}, steps...)...), field, name, bl)
		}
		return t
	}
	for _, s := range bl.ordered {
		s.next = find(s, "Next", s.nextName, "Next")
		for i := range s.catch {
			c := &s.catch[i]
			c.next = find(s, "Next", c.nextName, "Catch", i, "Next")
		}
		if s.choice != nil {
			s.choice.otherwise = find(s, "Default", s.defaultName, "Default")
			for i := range s.choice.rules {
				c := &s.choice.rules[i]
				c.next = find(s, "Next", c.nextName, "Choices", i, "Next")
			}
		}
		for i, branch := range s.branches {
			b.resolveBlock(branch, s.branchPlace(at, i))
		}
	}
}

// branchPlace is where the i-th branch of s stands, at being the place of s's block.
func (s *state) branchPlace(at place, i int) place {
	inner := append(slices.Clip(at), "States", s.name)
	if s.kind == parallelState {
		return append(inner, "Branches", i)
	}
	return append(inner, s.mapping.processor)
}

// unreached reports states that cannot be reached from the start.
func (b *builder) unreached(bl *block, at place) {
	seen := map[*state]bool{}
	todo := []*state{bl.start}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s == nil || seen[s] {
			continue
		}
		seen[s] = true
		todo = append(todo, s.targets()...)
	}
	for _, s := range bl.ordered {
		for i, branch := range s.branches {
			b.unreached(branch, s.branchPlace(at, i))
		}
		if !seen[s] {
			b.advise(append(slices.Clip(at), "States", s.name), CodeTarget,
				fmt.Sprintf("State %q is not reachable", s.name), "let a state lead to it, or take it out")
		}
	}
}

// targets are the states that s can lead to.
func (s *state) targets() []*state {
	to := []*state{s.next}
	for i := range s.catch {
		to = append(to, s.catch[i].next)
	}
	if s.choice != nil {
		to = append(to, s.choice.otherwise)
		for i := range s.choice.rules {
			to = append(to, s.choice.rules[i].next)
		}
	}
	return to
}
