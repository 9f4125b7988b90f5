package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// inventor makes definitions up that Parse should accept.
type inventor struct {
	t     *rapid.T
	names int
}

type entry = map[string]any

func (g *inventor) pick(label string, from ...any) any {
	return rapid.SampledFrom(from).Draw(g.t, label)
}

func (g *inventor) chance(percent int) bool {
	return rapid.IntRange(1, 100).Draw(g.t, "chance") <= percent
}

func (g *inventor) path() any {
	return g.pick("path", "$", "$", "$", "$", "$", "$", "$", "$$.Execution.Input", "$$.Execution.Input", "$.a", "$.b[0]", "$.list", "$.list[1:]", "$..a", "$$.Execution.Input", "$$.State", "$v0", "$v1.a", "$.list[?(@ > 1)]")
}

func (g *inventor) field() any {
	return g.pick("field", "$", "$", "$", "$", "$$.State.Name", "$$", "$$.Execution.Input.n", "$.list[*]", "States.Array(1, 'x')", "States.Format('{}', $)", "$.a", "$.list", "$v0", "States.Array($.a, 1, 'x')", "States.Format('{} {}', $.a, $v0)",
		"States.ArrayRange(0, 5, 1)", "States.MathAdd($.n, -1)", "States.StringToJson($.s)", "States.UUID()", "States.JsonMerge($, $.b, false)")
}

func (g *inventor) value() any {
	return g.pick("value", 0, 1.5, "text", nil, true, []any{1, 2}, entry{"a": 1}, []any{})
}

func (g *inventor) template() any {
	return entry{"fixed": g.value(), "found.$": g.field(), "deep": []any{entry{"x.$": g.field()}}}
}

func (g *inventor) errors(last bool) []any {
	if last {
		return []any{g.pick("error", "States.ALL", "E0", "States.TaskFailed")}
	}
	return []any{g.pick("error", "E0", "E1", "States.Timeout", "States.DataLimitExceeded", "States.Runtime")}
}

// block makes a States object whose states are all reachable: each leads on to the next one, or
// back to any.
func (g *inventor) block(depth int) entry {
	n := rapid.IntRange(1, 4).Draw(g.t, "states")
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", g.names)
		g.names++
	}
	states := entry{}
	for i, name := range names {
		next := ""
		if i+1 < n {
			next = names[i+1]
		}
		states[name] = g.state(names, next, depth)
	}
	return entry{"StartAt": names[0], "States": states}
}

func (g *inventor) state(names []string, next string, depth int) entry {
	types := []any{"Pass", "Task", "Wait", "Choice"}
	if depth < 2 {
		types = append(types, "Parallel", "Map")
	}
	if next == "" {
		types = append(types, "Succeed", "Succeed", "Fail")
	}
	typ := g.pick("type", types...)
	s := entry{"Type": typ}
	set := func(field string, percent int, v func() any) {
		if g.chance(percent) {
			s[field] = v()
		}
	}
	anyState := func() any { return rapid.SampledFrom(names).Draw(g.t, "target") }
	if typ == "Fail" {
		set("Error", 70, func() any { return g.pick("error", "E0", "E1", "States.Runtime") })
		set("CausePath", 50, g.field)
		return s
	}
	set("InputPath", 10, g.path)
	set("OutputPath", 10, g.path)
	if typ == "Succeed" {
		return s
	}
	assign := func() any { return entry{"v0": g.value(), "v1.$": g.field()} }
	set("Assign", 20, assign)
	if typ == "Choice" {
		target := func() any {
			if next != "" {
				return next
			}
			return anyState()
		}
		s["Choices"] = []any{
			entry{"And": []any{entry{"Variable": "$.n", "IsPresent": true}, entry{"Variable": g.path(), "NumericGreaterThanPath": "$.n"}}, "Next": anyState()},
			entry{"And": []any{entry{"Variable": "$.a", "IsPresent": true}, entry{"Not": entry{"Variable": "$.a", "StringMatches": "t*t\\"}}}, "Next": target(), "Assign": assign()},
		}
		if next != "" || g.chance(70) {
			s["Default"] = target()
		}
		return s
	}
	if next == "" {
		s["End"] = true
	} else {
		s["Next"] = next
	}
	if typ == "Wait" {
		switch g.pick("wait", 0, 1, 2) {
		case 0:
			s["Seconds"] = rapid.IntRange(0, 3).Draw(g.t, "seconds")
		case 1:
			s["SecondsPath"] = "$.n"
		default:
			s["TimestampPath"] = "$.t"
		}
		return s
	}
	set("ResultPath", 50, func() any { return g.pick("result path", nil, "$", "$.r", "$.list[0]", "$.a.b.c") })
	switch typ {
	case "Pass":
		set("Result", 30, g.value)
		set("Parameters", 40, g.template)
		return s
	case "Task":
		s["Resource"] = "r"
		set("Parameters", 40, g.template)
		set("TimeoutSecondsPath", 20, func() any { return "$.n" })
	case "Parallel":
		s["Branches"] = []any{g.block(depth + 1), g.block(depth + 1)}
	case "Map":
		s["ItemProcessor"] = g.block(depth + 1)
		set("ItemsPath", 70, func() any { return "$.list" })
		set("ItemSelector", 40, g.template)
		set("MaxConcurrency", 50, func() any { return rapid.IntRange(0, 2).Draw(g.t, "concurrency") })
	}
	set("ResultSelector", 20, g.template)
	set("Retry", 50, func() any {
		return []any{
			entry{"ErrorEquals": g.errors(false), "MaxAttempts": 1, "JitterStrategy": "FULL"},
			entry{"ErrorEquals": g.errors(true), "MaxAttempts": rapid.IntRange(0, 2).Draw(g.t, "attempts"), "BackoffRate": 1.5},
		}
	})
	set("Catch", 50, func() any {
		return []any{
			entry{"ErrorEquals": g.errors(false), "Next": anyState(), "ResultPath": "$.error"},
			entry{"ErrorEquals": g.errors(true), "Next": anyState(), "ResultPath": g.pick("result path", nil, "$", "$.error"), "Assign": entry{"v0.$": "$.Cause"}},
		}
	})
	return s
}

// TestAnyMachine steps machines that were made up with events that were made up: none panics,
// each ends or waits for something, and the driver can rely on what Step promises.
func TestAnyMachine(t *testing.T) {
	t.Parallel()
	accepted, ended := 0, map[Status]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := &inventor{t: t}
		text, err := json.Marshal(g.block(0))
		if err != nil {
			t.Fatal(err)
		}
		def, err := Parse(text, Limits{Transitions: 200, Frames: 60, Payload: 4096})
		if err != nil {
			t.Fatalf("%s\nwas refused: %v", text, err)
		}
		accepted++
		ended[travel(t, def)]++
	})
	t.Logf("%d machines; how they ended: %v", accepted, ended)
}

// good is an input that most made-up paths find something in.
const good = `{"a":{"b":1},"list":[1,2,3],"n":2,"s":"{}","t":"2026-03-01T12:00:01Z","b":[{"x":1}]}`

func travel(t *rapid.T, def *Definition) Status {
	env := Environment{Now: began}
	out := map[uint64]ActionKind{}
	x := def.New(Identity{ID: "e"})
	e := Event{Kind: Start, Data: []byte(rapid.SampledFrom([]string{
		good, good, good, good, good, good, `{}`, `[1,2]`, `"text"`, `null`,
	}).Draw(t, "input"))}
	for range 60 {
		next, actions, err := def.Step(x, e, env)
		if err != nil {
			t.Fatalf("event %+v: %v", e, err)
		}
		again, sameActions, _ := def.Step(x, e, env)
		state := next.Append(nil)
		if !bytes.Equal(state, again.Append(nil)) || len(actions) != len(sameActions) {
			t.Fatal("the same step gave another result")
		}
		if x, err = def.Decode(state); err != nil {
			t.Fatalf("the state cannot be read back: %v", err)
		}
		if e.Kind != Start && e.Kind != TaskSubmitted {
			delete(out, e.ID)
		}
		for i, a := range actions {
			switch a.Kind {
			case StartTask, WaitUntil:
				if _, there := out[a.ID]; there || a.ID == 0 {
					t.Fatalf("the id %d is used twice", a.ID)
				}
				out[a.ID] = a.Kind
			case Cancel:
				if _, there := out[a.ID]; !there {
					t.Fatalf("cancel of %d, which is not out", a.ID)
				}
				delete(out, a.ID)
			case Finish:
				if i != len(actions)-1 {
					t.Fatal("something is to be done after the end")
				}
			}
		}
		ids := x.Outstanding()
		if len(ids) != len(out) || (x.Status == Running) != (len(ids) > 0) {
			t.Fatalf("an execution that is %s waits for %v, out are %v", x.Status, ids, out)
		}
		if x.Status.Ended() {
			return x.Status
		}
		slices.Sort(ids)
		e = answerOf(t, out, rapid.SampledFrom(ids).Draw(t, "id"))
		env.Now = env.Now.Add(time.Second)
	}
	return x.Status
}

func answerOf(t *rapid.T, out map[uint64]ActionKind, id uint64) Event {
	if out[id] == WaitUntil {
		return Event{Kind: TimerFired, ID: id}
	}
	e := Event{ID: id, Kind: rapid.SampledFrom([]EventKind{TaskSucceeded, TaskSucceeded, TaskFailed, TaskTimedOut, TaskSubmitted}).Draw(t, "kind")}
	switch e.Kind {
	case TaskSucceeded, TaskSubmitted:
		e.Data = []byte(rapid.SampledFrom([]string{good, good, good, good, `[]`, `5`, ``, `{broken`}).Draw(t, "result"))
	case TaskFailed:
		if name := rapid.SampledFrom([]string{"", "E0", "E1", "States.Runtime"}).Draw(t, "error"); name != "" {
			e.Error = &name
		}
	case TaskTimedOut:
		e.Heartbeat = rapid.Bool().Draw(t, "heartbeat")
	}
	return e
}
