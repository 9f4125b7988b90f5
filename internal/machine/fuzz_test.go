package machine

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// FuzzParse reads anything as a definition. What is accepted must run without panic, and end
// or wait for something.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		seedMachine, ``, `{}`, `[]`, `{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`,
		alone(`"Type":"Wait","SecondsPath":"$.s"`),
		alone(`"Type":"Map","ItemSelector":{"a.$":"$$.Map.Item.Value"},"ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Fail","ErrorPath":"$.a"}}},"Retry":[{"ErrorEquals":["States.ALL"],"JitterStrategy":"FULL"}]`),
		alone(`"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Task","Resource":"r","End":true}}}],"Assign":{"v.$":"$[0]"}`),
		alone(`"Type":"Pass","Parameters":{"a.$":"States.Format('{} {}', $.a, States.ArrayRange(1, 9, 2))","b.$":"$..a[?(@.b > 1)]"},"ResultPath":"$.x.y[0]","OutputPath":"$$.State"`),
		`{"StartAt":"C","TimeoutSeconds":5,"States":{"C":{"Type":"Choice","Choices":[{"Not":{"Variable":"$.a","StringMatches":"a*\\"},"Next":"D"},{"And":[{"Variable":"$","IsPresent":true}],"Next":"C"}],"Default":"D"},"D":{"Type":"Succeed"}}}`,
	} {
		f.Add([]byte(text), []byte(`{"a":[{"b":1},{"b":2}],"s":3}`))
	}
	f.Fuzz(func(t *testing.T, text, input []byte) {
		def, err := Parse(text, Limits{Transitions: 50, Frames: 50})
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("the error is not a list of problems: %v", err)
			}
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 || p.Message == "" {
					t.Fatalf("the problem %+v has no place or message", p)
				}
			}
			return
		}
		exercise(t, def, input)
	})
}

// FuzzRestore reads anything as a definition that was accepted once. What can be restored must run
// without panic, and end or wait for something, however little of it can be used.
func FuzzRestore(f *testing.F) {
	for _, text := range []string{
		codecMachine, `{"StartAt":"A","States":{"A":{"Type":"Pass","Novel":1,"Next":"B"},"B":{"Type":"Nothing"}}}`,
		alone(`"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass"}}},"MaxConcurrency":"3"`),
		alone(`"Type":"Map","ItemProcessor":{"StartAt":"X","States":{"B":{"Type":"Wait"}}}`),
		alone(`"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Task","Resource":7,"Retry":[7],"Catch":{}}}}, 7]`),
		alone(`"Type":"Pass","Parameters":{"a.$":7,"a":1,"b.$":"$["},"ResultPath":"$..x","Assign":[]`),
		`{"StartAt":"C","TimeoutSeconds":0,"States":{"C":{"Type":"Choice","Choices":[{"Variable":"$.a"},{"And":[]},7],"Default":7},"S":{"Type":"Succeed"},"S":{"Type":"Fail","ErrorPath":"x"}}}`,
	} {
		f.Add([]byte(text), []byte(`{"a":[{"b":1},{"b":2}],"s":3}`))
		f.Add([]byte(text), []byte(`[1,2]`))
	}
	f.Fuzz(func(t *testing.T, text, input []byte) {
		def, err := Restore("00000000000000ff", text, Limits{Transitions: 50, Frames: 50})
		if err == nil {
			exercise(t, def, input)
			return
		}
		if _, err := Parse(text, Limits{}); err == nil {
			t.Fatal("what Parse accepts cannot be restored")
		}
	})
}

// FuzzHead reads anything as the head of an execution, and as its parts. What is accepted must
// be kept again in the same way, and must survive any event.
func FuzzHead(f *testing.F) {
	def, err := Parse([]byte(codecMachine), Limits{Transitions: 20})
	if err != nil {
		f.Fatal(err)
	}
	def.headValues = 8
	env := Environment{Now: time.Unix(1_700_000_000, 0)}
	s := &shelf{parts: map[partKey][]byte{}}
	x := def.New(Identity{ID: "id", Name: "name"})
	x, _, err = def.Step(x, Event{Kind: Start, Data: []byte(`{"l":[1,2,3,4,5,6]}`)}, env)
	for n := 0; err == nil && n < 12 && !x.Status.Ended(); n++ {
		rest := def.Rest(&x)
		for _, p := range rest.Put {
			s.parts[partKey{p.Number, p.Place}] = p.Data
		}
		f.Add(rest.Head, []byte(`[1,2,3]`), byte(n))
		x, err = def.Load(rest.Head, s.read, nil)
		if err == nil {
			ids := x.Outstanding()
			kind := []EventKind{TaskFailed, TimerFired, TaskSucceeded}[n%3]
			x, _, err = def.Step(x, Event{Kind: kind, ID: ids[n%len(ids)], Data: []byte(`[1]`)}, env)
		}
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, head, part []byte, kind byte) {
		parts := func(_ uint64, _, n int) ([][]byte, error) {
			found := make([][]byte, n)
			for i := range found {
				if kind%2 == 0 || i%2 == 0 {
					found[i] = part
				}
			}
			return found, nil
		}
		x, err := def.Load(head, parts, nil)
		if err != nil {
			return
		}
		again := def.Rest(&x).Head
		y, err := def.Load(again, parts, nil)
		if err != nil || !bytes.Equal(again, def.Rest(&y).Head) {
			t.Fatalf("the head reads back as another: %v", err)
		}
		for _, id := range x.Outstanding() {
			e := Event{Kind: EventKind(kind % 9), ID: id, Data: []byte(`{"l":[0]}`)}
			if next, _, err := def.Step(x, e, env); err == nil {
				def.Rest(&next)
			}
		}
	})
}

// exercise steps an execution with whatever its actions ask for.
func exercise(t *testing.T, def *Definition, input []byte) {
	t.Helper()
	env := Environment{Now: time.Unix(1_700_000_000, 0)}
	x := def.New(Identity{ID: "fuzz"})
	next, actions, err := def.Step(x, Event{Kind: Start, Data: input}, env)
	for n := 0; err == nil && n < 60; n++ {
		x = next
		if (x.Status == Running) != (len(x.Outstanding()) > 0) {
			t.Fatalf("an execution that is %s waits for %v", x.Status, x.Outstanding())
		}
		state := x.Append(nil)
		if x, err = def.Decode(state); err != nil {
			t.Fatalf("the state cannot be read back: %v", err)
		}
		if !bytes.Equal(state, x.Append(nil)) {
			t.Fatal("the state reads back as another")
		}
		if x.Status.Ended() {
			return
		}
		ids := x.Outstanding()
		e := Event{ID: ids[n%len(ids)], Kind: []EventKind{TaskSucceeded, TimerFired, TaskFailed, TaskTimedOut, TaskSubmitted}[n%5], Data: input}
		env.Now = env.Now.Add(time.Second)
		next, actions, err = def.Step(x, e, env)
	}
	_ = actions
	if err != nil && x.Status != Pending {
		t.Fatalf("a running execution refused an event: %v", err)
	}
}

// codecMachine has a state of each kind that a state can be kept in.
const codecMachine = `{"StartAt":"P","TimeoutSeconds":1000,"States":{
	"P":{"Type":"Parallel","Branches":[
		{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"r","Retry":[{"ErrorEquals":["A"]},{"ErrorEquals":["States.ALL"]}],"Assign":{"v.$":"$"},"Next":"T2"},"T2":{"Type":"Task","Resource":"r","End":true}}},
		{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":5,"Next":"M"},
			"M":{"Type":"Map","ItemsPath":"$.l","MaxConcurrency":2,"ItemProcessor":{"StartAt":"I","States":{"I":{"Type":"Task","Resource":"r","End":true}}},"Retry":[{"ErrorEquals":["States.ALL"]}],"End":true}}},
		{"StartAt":"L","States":{"L":{"Type":"Pass","Next":"L2"},"L2":{"Type":"Choice","Choices":[{"Variable":"$.stop","IsPresent":true,"Next":"L3"}],"Default":"L"},"L3":{"Type":"Succeed"}}}],
		"Catch":[{"ErrorEquals":["States.ALL"],"Next":"F"}],"Next":"F"},
	"F":{"Type":"Pass","End":true}}}`

// FuzzStateCodec reads anything as the state of an execution. What is accepted must be what
// Append wrote, and must survive any event.
func FuzzStateCodec(f *testing.F) {
	def, err := Parse([]byte(codecMachine), Limits{Transitions: 20})
	if err != nil {
		f.Fatal(err)
	}
	env := Environment{Now: time.Unix(1_700_000_000, 0)}
	x := def.New(Identity{ID: "id", Name: "name"})
	f.Add(x.Append(nil), uint64(0), byte(1))
	x, _, err = def.Step(x, Event{Kind: Start, Data: []byte(`{"l":[1,2,3]}`)}, env)
	if err != nil {
		f.Fatal(err)
	}
	for n := range 12 {
		ids := x.Outstanding()
		f.Add(x.Append(nil), ids[n%len(ids)], byte(n))
		kind := []EventKind{TaskFailed, TimerFired, TaskSucceeded}[n%3]
		if x, _, err = def.Step(x, Event{Kind: kind, ID: ids[n%len(ids)], Data: []byte(`[1]`)}, env); err != nil {
			f.Fatal(err)
		}
		if x.Status.Ended() {
			break
		}
	}
	f.Fuzz(func(t *testing.T, state []byte, id uint64, kind byte) {
		x, err := def.Decode(state)
		if err != nil {
			return
		}
		again := x.Append(nil)
		y, err := def.Decode(again)
		if err != nil || !bytes.Equal(again, y.Append(nil)) {
			t.Fatalf("the state reads back as another: %v", err)
		}
		ids := append(x.Outstanding(), id)
		for _, id := range ids {
			e := Event{Kind: EventKind(kind % 9), ID: id, Data: []byte(`{"l":[0]}`)}
			if next, _, err := def.Step(x, e, env); err == nil {
				next.Append(nil)
			}
		}
	})
}
