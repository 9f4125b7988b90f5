package machine

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/spelling"
)

func sortProblems(ps Problems) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// state reads one state of a block.
func (b *builder) state(bl *block, name string, v jsonvalue.Value, at place) {
	if n := utf8.RuneCountInString(name); n == 0 || n > maxNameLength {
		b.advise(at, CodeSchema, fmt.Sprintf("the name of a state has between 1 and %d characters, this has %d", maxNameLength, n), "give it another name")
	}
	if b.d.states[name] != nil {
		b.report(at, CodeDuplicate, fmt.Sprintf("another state is called %q; names must differ in the whole machine", name), "give it another name")
	}
	if v.Kind() != jsonvalue.Object {
		b.report(at, CodeSchema, "a state must be an object, this is "+article(v.Kind()), `write { "Type": ... }`)
		return
	}
	o := b.object(v, at)
	s := &state{name: name, block: bl}
	bl.byName[name], b.d.states[name] = s, s
	bl.ordered = append(bl.ordered, s)
	o.text("Comment")
	typ, ok := o.text("Type")
	if !ok {
		if !o.has("Type") {
			b.report(at, CodeSchema, "These fields are required: [Type]", "there are "+strings.Join(kindNames[:], ", "))
		}
		return
	}
	kind := slices.Index(kindNames[:], typ)
	if kind < 0 {
		fix := "there are " + strings.Join(kindNames[:], ", ")
		if near := spelling.Nearest(typ, kindNames[:]); near != "" {
			fix = "did you mean " + near + "?"
		}
		o.problem("Type", fmt.Sprintf("%q is no type of state", typ), fix)
		return
	}
	s.kind = stateKind(kind)
	if !b.queryLanguage(o) {
		return
	}
	b.fields(s, o)
	o.done("a " + typ + " state")
}

// fields reads what depends on the type of the state.
func (b *builder) fields(s *state, o *object) {
	if s.kind != failState {
		s.inputPath, s.outputPath = o.query("InputPath"), o.query("OutputPath")
	}
	switch s.kind {
	case passState:
		s.result = o.get("Result")
		b.dataFlow(s, o)
	case taskState:
		b.dataFlow(s, o)
		b.task(s, o)
	case choiceState:
		b.choice(s, o)
	case waitState:
		b.wait(s, o)
	case failState:
		b.fail(s, o)
	case parallelState:
		b.dataFlow(s, o)
		b.parallel(s, o)
	case mapState:
		b.dataFlow(s, o)
		b.mapping(s, o)
	}
	if s.kind != succeedState && s.kind != failState {
		s.assign = o.assignment()
	}
	if s.kind == taskState || s.kind == parallelState || s.kind == mapState {
		s.retry = b.retriers(o)
		s.catch = b.catchers(o)
	}
	if s.kind != choiceState && s.kind != succeedState && s.kind != failState {
		b.transition(s, o)
	}
}

// transition reads Next and End, of which there must be one.
func (b *builder) transition(s *state, o *object) {
	next, hasNext := o.text("Next")
	end := o.get("End")
	s.nextName = next
	switch {
	case end.Defined() && !end.IsBool():
		o.problem("End", "End must be true, this is "+article(end.Kind()), "write true without quotes")
	case o.has("Next") && end.Bool():
		o.advise("End", "a state has either Next or End", "take one of them out")
	case !o.has("Next") && !end.Bool():
		b.advise(o.at, CodeEnd, "the state has neither Next nor End", `add "Next": "..." or "End": true`)
	case hasNext && next == "":
		o.advise("Next", "Next is empty", "name a state")
	}
}

// dataFlow reads Parameters, ResultSelector and ResultPath.
func (b *builder) dataFlow(s *state, o *object) {
	if s.kind != mapState {
		s.parameters = o.template("Parameters")
	}
	if s.kind != passState {
		s.selector = o.template("ResultSelector")
	}
	s.resultPath, s.dropResult = o.resultPath()
}

// template reads a payload template, nil when the field is not there.
func (o *object) template(field string) expression {
	v := o.get(field)
	if !v.Defined() {
		return nil
	}
	return o.b.template(v, o.place(field))
}

var wholeInput = func() *query {
	q, err := compileQuery("$")
	if err != nil {
		panic(err)
	}
	return q
}()

// query reads a path that is $ when it is not there and nil when it is null.
func (o *object) query(field string) *query {
	v := o.get(field)
	switch {
	case !v.Defined():
		return wholeInput
	case v.Kind() == jsonvalue.Null:
		return nil
	}
	if q := o.path(field); q != nil {
		return q
	}
	return wholeInput
}

// path reads a path, nil when there is none.
func (o *object) path(field string) *query {
	text, ok := o.text(field)
	if !ok {
		return nil
	}
	q, err := compileQuery(text)
	if err != nil {
		o.b.report(o.place(field), CodeSchema, "Value is not a valid JSONPath: "+err.Error(), "write a path like $.order.id")
		return nil
	}
	return q
}

// referencePath reads a path that leads to a single place.
func (o *object) referencePath(field string) *query {
	q := o.path(field)
	if q != nil && !q.path.Reference() {
		o.b.advise(o.place(field), CodeSchema, "Value is not a valid Reference Path: it can lead to several places",
			"use names and single places only, like $.order.items[0]")
	}
	return q
}

// resultPath reads ResultPath: nil for $, or that the result is to be dropped.
func (o *object) resultPath() (at *query, drop bool) {
	v := o.get("ResultPath")
	if v.Kind() == jsonvalue.Null {
		return nil, true
	}
	q := o.referencePath("ResultPath")
	switch {
	case q == nil || q.identity():
		return nil, false
	case q.from != fromInput:
		o.problem("ResultPath", "a result can be put into the state's input only", "write a path that begins with $.; variables are set by Assign")
		return nil, false
	}
	return q, false
}

func (o *object) assignment() *assignment {
	v := o.get("Assign")
	if !v.Defined() {
		return nil
	}
	if v.Kind() != jsonvalue.Object {
		o.problem("Assign", "Assign must be an object, this is "+article(v.Kind()), `write { "name": value } or { "name.$": "$.path" }`)
		return nil
	}
	a := &assignment{}
	switch t := o.b.template(v, o.place("Assign")).(type) {
	case *objectTemplate:
		a.names, a.values = t.keys, t.items
	case constant:
		a.names = v.Keys()
		for _, m := range v.Items() {
			a.values = append(a.values, constant{m})
		}
	}
	for i, name := range a.names {
		if err := checkVariable(name); err != nil {
			o.b.advise(o.place("Assign", v.Key(i)), CodeSchema, err.Error(), "choose another name")
		}
	}
	return a
}

func (b *builder) task(s *state, o *object) {
	t := &taskFields{}
	s.task = t
	resource, ok := o.text("Resource")
	switch {
	case !o.has("Resource"):
		b.advise(o.at, CodeSchema, "These fields are required: [Resource]", "name what the task is to call")
	case ok && strings.TrimSpace(resource) == "":
		o.advise("Resource", "Resource is empty", "name what the task is to call")
	}
	t.resource = resource
	t.prepare()
	t.timeout = o.whole("TimeoutSeconds", 1, maxSeconds, 0)
	t.heartbeat = o.whole("HeartbeatSeconds", 1, maxSeconds, 0)
	t.timeoutPath, t.heartbeatPath = o.referencePath("TimeoutSecondsPath"), o.referencePath("HeartbeatSecondsPath")
	t.credentials = o.template("Credentials")
	o.exclusive("TimeoutSeconds", "TimeoutSecondsPath")
	o.exclusive("HeartbeatSeconds", "HeartbeatSecondsPath")
	if t.heartbeat > 0 && t.timeout > 0 && t.heartbeat >= t.timeout {
		o.advise("HeartbeatSeconds", fmt.Sprintf("HeartbeatSeconds (%d) must be less than TimeoutSeconds (%d)", t.heartbeat, t.timeout), "make it shorter")
	}
}

// exclusive reports fields of which there may be one.
func (o *object) exclusive(fields ...string) int {
	var there []string
	for _, f := range fields {
		if o.has(f) {
			there = append(there, f)
		}
	}
	if len(there) > 1 {
		o.advise(there[1], "there may be only one of "+strings.Join(there, ", "), "take the others out")
	}
	return len(there)
}

func (b *builder) fail(s *state, o *object) {
	f := &failFields{}
	s.fail = f
	read := func(field string) (*string, expression) {
		o.exclusive(field, field+"Path")
		var fixed *string
		if text, ok := o.text(field); ok {
			fixed = &text
		}
		text, ok := o.text(field + "Path")
		if !ok {
			return fixed, nil
		}
		e, err := compileField(text, field+"Path")
		if err != nil {
			o.problem(field+"Path", "Value is neither a valid JSONPath nor an intrinsic function call: "+err.Error(), "write a path like $.error")
			return fixed, nil
		}
		return fixed, e
	}
	f.err, f.errPath = read("Error")
	f.cause, f.causePath = read("Cause")
}

// maxNesting is how deep Parallel and Map may stand within each other.
const maxNesting = 50

func (b *builder) parallel(s *state, o *object) {
	branches := o.get("Branches")
	if branches.Kind() != jsonvalue.Array || branches.Len() == 0 {
		o.problem("Branches", "Branches must be an array with at least one branch", `write [ { "StartAt": ..., "States": ... } ]`)
		return
	}
	if branches.Len() > b.d.limits.Frames {
		o.advise("Branches", fmt.Sprintf("there are %d branches, at most %d are allowed", branches.Len(), b.d.limits.Frames), "use a Map")
	}
	for i, v := range branches.Items() {
		if bl := b.inner(s, v, o.place("Branches", i), i, nil); bl != nil {
			s.branches = append(s.branches, bl)
		}
	}
}

// inner reads a branch or item processor.
func (b *builder) inner(s *state, v jsonvalue.Value, at place, branch int, extra func(*object)) *block {
	if v.Kind() != jsonvalue.Object {
		b.report(at, CodeSchema, "an object with StartAt and States is expected, this is "+article(v.Kind()), `write { "StartAt": ..., "States": ... }`)
		return nil
	}
	if b.depth++; b.depth > maxNesting && !b.restores {
		b.report(at, CodeSchema, fmt.Sprintf("Parallel and Map states nest deeper than %d", maxNesting), "make it flatter")
		return nil
	}
	defer func() { b.depth-- }()
	o := b.object(v, at)
	o.text("Comment")
	if !b.queryLanguage(o) {
		return nil
	}
	if extra != nil {
		extra(o)
	}
	bl := b.block(o, s, branch)
	o.done("a branch")
	return bl
}

// distributedFields belong to the distributed Map.
var distributedFields = []string{
	"ItemReader", "ItemBatcher", "ResultWriter", "Label", "ToleratedFailureCount", "ToleratedFailureCountPath",
	"ToleratedFailurePercentage", "ToleratedFailurePercentagePath",
}

func (b *builder) mapping(s *state, o *object) {
	m := &mapFields{itemsPath: o.path("ItemsPath"), processor: "ItemProcessor"}
	s.mapping = m
	if !o.has("ItemProcessor") && o.has("Iterator") {
		m.processor = "Iterator"
	}
	o.exclusive("ItemProcessor", "Iterator")
	o.exclusive("ItemSelector", "Parameters")
	if m.selector = o.template("ItemSelector"); m.selector == nil {
		m.selector = o.template("Parameters")
	}
	m.concurrency = o.whole("MaxConcurrency", 0, maxCount, 0)
	m.concurrencyPath = o.path("MaxConcurrencyPath")
	o.exclusive("MaxConcurrency", "MaxConcurrencyPath")
	for _, f := range distributedFields {
		if o.get(f).Defined() {
			o.b.report(o.place(f), CodeUnfinished, f+" belongs to the distributed Map, which is not supported yet", "use a Map of mode INLINE without it")
		}
	}
	v := o.get(m.processor)
	if !v.Defined() {
		b.report(o.at, CodeSchema, "These fields are required: [ItemProcessor]", `add "ItemProcessor": { "StartAt": ..., "States": ... }`)
		return
	}
	if bl := b.inner(s, v, o.place(m.processor), 0, b.processorConfig); bl != nil {
		s.branches = []*block{bl}
	}
}

func (b *builder) processorConfig(o *object) {
	v := o.get("ProcessorConfig")
	if !v.Defined() {
		return
	}
	if v.Kind() != jsonvalue.Object {
		o.problem("ProcessorConfig", "ProcessorConfig must be an object, this is "+article(v.Kind()), `write { "Mode": "INLINE" }`)
		return
	}
	c := b.object(v, o.place("ProcessorConfig"))
	switch mode, ok := c.text("Mode"); {
	case !ok || mode == "INLINE":
	case mode == "DISTRIBUTED":
		b.report(c.place("Mode"), CodeUnfinished, "the distributed Map is not supported yet", "use the mode INLINE")
	default:
		c.problem("Mode", fmt.Sprintf("%q is no mode", mode), "there are INLINE and DISTRIBUTED")
	}
	c.text("ExecutionType")
	c.done("ProcessorConfig")
}
