package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// objections are ways to make a definition one that Parse refuses, and that does what it did.
var objections = map[string]func(g *inventor, top, state entry){
	"unknown field":     func(_ *inventor, _, s entry) { s["Novel"] = 1 },
	"unknown in top":    func(_ *inventor, top, _ entry) { top["Novel"] = entry{"a": 1} },
	"version":           func(_ *inventor, top, _ entry) { top["Version"] = "2.0" },
	"comment":           func(_ *inventor, _, s entry) { s["Comment"] = 7 },
	"JSONata field":     func(_ *inventor, _, s entry) { s["Arguments"] = entry{} },
	"unreachable state": func(_ *inventor, top, _ entry) { states(top)["lonely"] = entry{"Type": "Succeed"} },
	"long name": func(_ *inventor, top, _ entry) {
		name := strings.Repeat("n", 100)
		states(top)[name] = entry{"Type": "Pass", "Next": top["StartAt"]}
		top["StartAt"] = name
	},
	"unknown error": func(_ *inventor, _, s entry) {
		if list, ok := s["Retry"].([]any); ok {
			first := list[0].(entry)                                                       //nolint:forcetypeassert // made here
			first["ErrorEquals"] = append(first["ErrorEquals"].([]any), "States.Timeoutt") //nolint:forcetypeassert // made here
		} else {
			s["Novel"] = 1
		}
	},
}

func states(top entry) entry { return top["States"].(entry) } //nolint:forcetypeassert // made here

// anyState is a state of a definition, at any depth.
func (g *inventor) anyState(top entry) entry {
	all := states(top)
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	s := all[rapid.SampledFrom(names).Draw(g.t, "state")].(entry) //nolint:forcetypeassert // made here
	if inner, ok := s["ItemProcessor"].(entry); ok && g.chance(50) {
		return g.anyState(inner)
	}
	if branches, ok := s["Branches"].([]any); ok && g.chance(50) {
		return g.anyState(branches[0].(entry)) //nolint:forcetypeassert // made here
	}
	return s
}

// TestRestoreModel: what Parse objects to does not change what a definition does once it was
// accepted.
func TestRestoreModel(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := &inventor{t: t}
		top := g.block(0)
		text, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		limits := Limits{Transitions: 200, Frames: 60, Payload: 4096, Events: uint64(rapid.SampledFrom([]int{0, 30}).Draw(t, "events"))}
		def, err := Parse(text, limits)
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, len(objections))
		for name := range objections {
			names = append(names, name)
		}
		slices.Sort(names)
		name := rapid.SampledFrom(names).Draw(t, "objection")
		longer := name == "long name"
		objections[name](g, top, g.anyState(top))
		if text, err = json.Marshal(top); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(text, limits); err == nil {
			t.Fatalf("%s: %s is no objection", text, name)
		}
		old, err := Restore(def.Revision(), text, def.Limits())
		if err != nil {
			t.Fatalf("%s\nis not restored: %v", text, err)
		}
		if old.Revision() != def.Revision() || old.Limits() != def.Limits() {
			t.Fatal("revision or limits are others")
		}
		seen[name]++
		if longer {
			travel(t, old)
			return
		}
		alike(t, def, old)
	})
	t.Log(seen)
}

// alike steps executions of two definitions with the same events.
func alike(t *rapid.T, a, b *Definition) {
	env := Environment{Now: began}
	out := map[uint64]ActionKind{}
	x, y := a.New(Identity{ID: "e"}), b.New(Identity{ID: "e"})
	e := Event{Kind: Start, Data: []byte(good)}
	for range 40 {
		var actions, same []Action
		var err error
		if x, actions, err = a.Step(x, e, env); err != nil {
			t.Fatal(err)
		}
		if y, same, err = b.Step(y, e, env); err != nil {
			t.Fatal(err)
		}
		if p, q := fmt.Sprint(shown(actions)), fmt.Sprint(shown(same)); p != q {
			t.Fatalf("what was restored does something else:\n %s\n %s", p, q)
		}
		if !bytes.Equal(x.Append(nil), y.Append(nil)) {
			t.Fatal("what was restored comes to another state")
		}
		if x.Status.Ended() {
			return
		}
		if e.Kind != Start && e.Kind != TaskSubmitted {
			delete(out, e.ID)
		}
		for _, a := range actions {
			switch a.Kind {
			case StartTask, WaitUntil:
				out[a.ID] = a.Kind
			case Cancel:
				delete(out, a.ID)
			}
		}
		ids := x.Outstanding()
		slices.Sort(ids)
		e = answerOf(t, out, rapid.SampledFrom(ids).Draw(t, "id"))
	}
}

// TestRestoreBroken: a state that cannot be read fails with the reason when an execution comes
// to it, and no other does.
func TestRestoreBroken(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{
		"type":      `{"Type":"Novelty","End":true}`,
		"no type":   `{"End":true}`,
		"path":      `{"Type":"Pass","InputPath":"$[","End":true}`,
		"template":  `{"Type":"Pass","Parameters":{"a.$":"States.Novelty()"},"End":true}`,
		"JSONata":   `{"Type":"Pass","QueryLanguage":"JSONata","End":true}`,
		"wait":      `{"Type":"Wait","Timestamp":"tomorrow","End":true}`,
		"number":    `{"Type":"Task","Resource":"r","TimeoutSeconds":"7","End":true}`,
		"retry":     `{"Type":"Task","Resource":"r","Retry":{},"End":true}`,
		"processor": `{"Type":"Map","ItemProcessor":{"StartAt":"Y","States":{"Z":{"Type":"Pass","End":true}}},"End":true}`,
		"branches":  `{"Type":"Parallel","Branches":[],"End":true}`,
		"target":    `{"Type":"Pass","Next":"Nowhere"}`,
		"rule":      `{"Type":"Choice","Choices":[{"Variable":"$.a","Resembles":1,"Next":"C"}]}`,
	} {
		text := `{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Variable":"$.bad","IsPresent":true,"Next":"X"}],"Default":"G"},"X":` + broken + `,"G":{"Type":"Pass","End":true}}}`
		def, err := Restore("0000000000000001", []byte(text), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		x, _, err := def.Step(def.New(Identity{ID: "e"}), Event{Kind: Start, Data: []byte(`{}`)}, Environment{Now: began})
		if err != nil || x.Status != Succeeded {
			t.Errorf("%s: an execution that does not come there is %s, %v", name, x.Status, err)
		}
		x, _, err = def.Step(def.New(Identity{ID: "e"}), Event{Kind: Start, Data: []byte(`{"bad":[1]}`)}, Environment{Now: began})
		if err != nil || x.Status != Failed || *x.Error != errorRuntime || !strings.Contains(*x.Cause, "cannot be run by this version") {
			t.Errorf("%s: the execution is %s, %v", name, x.Status, err)
		}
	}
	for _, text := range []string{``, `7`, `{}`, `{"StartAt":"A"}`, `{"StartAt":"A","States":{"B":{"Type":"Pass","End":true}}}`, `{"QueryLanguage":"JSONata","StartAt":"A","States":{}}`} {
		if _, err := Restore("0000000000000001", []byte(text), Limits{}); err == nil {
			t.Errorf("%q is restored", text)
		}
	}
}

// TestRevision: texts and limits have revisions of their own, and that of limits nobody has set
// is that of the text, as it always was.
func TestRevision(t *testing.T) {
	t.Parallel()
	text := []byte(`{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`)
	of := func(l Limits) string {
		def, err := Parse(text, l)
		if err != nil {
			t.Fatal(err)
		}
		return def.Revision()
	}
	if of(Limits{}) != of(Limits{Payload: DefaultPayload}) || of(Limits{}) != "f3db07734f1365a4" {
		t.Errorf("the revision of the text is %s", of(Limits{}))
	}
	if of(Limits{}) == of(Limits{Events: 50}) || of(Limits{Events: 5}) == of(Limits{Events: 50}) {
		t.Error("other limits have the same revision")
	}
}
