package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// shelf keeps the head and the parts of one execution.
type shelf struct {
	head    []byte
	parts   map[partKey][]byte
	broken  error // of every read
	recent  *Recent
	reads   int
	bytes   int // of parts that were read
	written int // bytes
}

func (s *shelf) read(number uint64, first, n int) ([][]byte, error) {
	s.reads++
	if n == 1 {
		s.bytes += len(s.parts[partKey{number, first}])
	}
	if s.broken != nil {
		return nil, s.broken
	}
	found := make([][]byte, n)
	for i := range found {
		found[i] = s.parts[partKey{number, first + i}]
	}
	return found, nil
}

// keep keeps x, and holds to what Rest promises.
func (s *shelf) keep(t rapid.TB, d *Definition, x *Execution) {
	t.Helper()
	rest := d.Rest(x)
	if again := d.Rest(x); !bytes.Equal(rest.Head, again.Head) || len(rest.Put) != len(again.Put) {
		t.Fatal("an execution is kept in two ways")
	}
	for _, p := range rest.Drop {
		if s.parts[partKey{p.Number, p.Place}] == nil {
			t.Fatalf("part %d-%d is dropped and is not there", p.Number, p.Place)
		}
		delete(s.parts, partKey{p.Number, p.Place})
	}
	for _, p := range rest.Put {
		if s.parts[partKey{p.Number, p.Place}] != nil {
			t.Fatalf("part %d-%d is written twice", p.Number, p.Place)
		}
		s.parts[partKey{p.Number, p.Place}] = p.Data
		s.written += len(p.Data)
	}
	s.head = rest.Head
	s.written += len(rest.Head)
	if x.Status.Ended() {
		if len(s.parts) > 0 {
			t.Fatalf("an execution that is %s leaves %d parts behind", x.Status, len(s.parts))
		}
		return
	}
	y := s.load(t, d)
	wanted := map[partKey]bool{}
	if y.kept != nil {
		for _, series := range y.kept.series {
			for at := range series.n {
				if !slices.Contains(series.open, at) {
					wanted[partKey{series.number, at}] = true
				}
			}
		}
	}
	if there := slices.Collect(maps.Keys(s.parts)); len(there) != len(wanted) {
		t.Fatalf("there are the parts %v, the head refers to %v", there, wanted)
	}
	for key := range wanted {
		if s.parts[key] == nil {
			t.Fatalf("part %v is not there", key)
		}
	}
	if same := d.Rest(&y); !bytes.Equal(same.Head, s.head) || len(same.Put)+len(same.Drop) > 0 {
		t.Fatalf("what was loaded is kept otherwise: %d written, %d dropped", len(same.Put), len(same.Drop))
	}
}

func (s *shelf) load(t rapid.TB, d *Definition) Execution {
	t.Helper()
	x, err := d.Load(s.head, s.read, s.recent)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// whole is x with all its parts, in one piece.
func whole(x Execution) []byte {
	r := &run{x: &x}
	x.root = x.root.clone(nil)
	r.executionInput()
	x.root.each(func(f *frame) {
		f.input, f.asItem = hold(r.input(f)), false
		for i := range f.vars {
			f.vars[i].value = hold(r.get(&f.vars[i].value))
		}
		if f.item != nil {
			f.item = &mapItem{index: f.item.index, value: r.itemValue(f.item)}
		}
		if f.fan == nil {
			return
		}
		f.fan.input = hold(r.get(&f.fan.input))
		if n := f.fan; n.number != 0 {
			items := make([]jsonvalue.Value, n.count)
			for i := range items {
				items[i] = r.piece(n.number, i, n.each)
			}
			n.items, n.results = jsonvalue.OfArray(items), x.kept.several(n.number+1, 0, n.count)
			for _, late := range n.fresh {
				n.results[late.ordinal] = late.value
			}
			n.number = 0
		}
	})
	x.apart, x.numbers, x.kept = held{}, 0, nil
	return x.Append(nil)
}

// TestPartsModel steps made-up machines with made-up events twice: kept in one piece, and as a
// head and parts. Both do the same, what is kept means the same, and there is never a part too
// many or too few. Some steps are made without keeping what came before, some find no store.
func TestPartsModel(t *testing.T) {
	t.Parallel()
	long := `{"a":{"b":1},"list":[` + strings.Repeat(`{"x":1,"pad":"yyyyyyyyyyyy"},7,`, 15) + `3],"n":2,"s":"{}","t":"2026-03-01T12:00:01Z","b":[{"x":1}]}`
	parts, fans := 0, 0
	travel := func(t *rapid.T) {
		g := &inventor{t: t}
		top := g.block(0)
		if g.chance(70) { // else few Maps have anything to do
			outer := entry{"Type": "Map", "ItemsPath": "$.list", "ItemProcessor": g.block(1), "Next": top["StartAt"], "ResultPath": "$.list",
				"MaxConcurrency": rapid.IntRange(1, 4).Draw(t, "concurrency"), "Retry": []any{entry{"ErrorEquals": []any{"States.ALL"}, "MaxAttempts": 1}}}
			if g.chance(30) {
				outer["ItemSelector"] = g.template()
			}
			top["States"].(entry)["outer"], top["StartAt"] = outer, "outer" //nolint:forcetypeassert // block has made it
		}
		text, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		def, err := Parse(text, Limits{Transitions: 200, Frames: 60, Payload: 8192})
		if err != nil {
			t.Fatal(err)
		}
		def.headValues = rapid.SampledFrom([]int{4, 40, 400}).Draw(t, "head values")
		s := &shelf{parts: map[partKey][]byte{}}
		if rapid.Bool().Draw(t, "recent") {
			s.recent = NewRecent(rapid.SampledFrom([]int{100, 10_000}).Draw(t, "most"))
			s.recent.least = 1
		}
		x := def.New(Identity{ID: "e"})
		y, env := x, Environment{Now: began}
		out := map[uint64]ActionKind{}
		e := Event{Kind: Start, Data: []byte(rapid.SampledFrom([]string{good, long, long, `[1,2]`}).Draw(t, "input"))}
		for range 60 {
			next, actions, err := def.Step(x, e, env)
			if err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 5).Draw(t, "outage") == 0 {
				s.broken = errors.New("no store")
				if _, _, err := def.Step(y, e, env); err != nil && !errors.Is(err, s.broken) {
					t.Fatalf("a step without a store: %v", err)
				}
				s.broken = nil
			}
			other, same, err := def.Step(y, e, env)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := fmt.Sprint(shown(actions)), fmt.Sprint(shown(same)); a != b {
				t.Fatalf("in parts another step is made:\n %s\n %s", a, b)
			}
			if x, err = def.Decode(next.Append(nil)); err != nil {
				t.Fatal(err)
			}
			y = other
			if rapid.IntRange(0, 3).Draw(t, "chain") > 0 || x.Status.Ended() {
				s.keep(t, def, &y)
				if y.Status.Ended() {
					y, err = def.Decode(s.head)
				} else {
					y, err = def.Load(s.head, s.read, s.recent)
				}
				if err != nil {
					t.Fatal(err)
				}
				parts += len(s.parts)
				y.root.each(func(f *frame) {
					if f.fan != nil && f.fan.number != 0 {
						fans++
					}
				})
			}
			if a, b := x.Append(nil), whole(y); !bytes.Equal(a, b) {
				t.Fatalf("in parts the state is another:\n %q\n %q", a, b)
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
	for range 5 {
		rapid.Check(t, travel)
	}
	t.Logf("%d parts, %d times a Map in parts", parts, fans)
	if parts < 100 || fans < 20 {
		t.Errorf("%d parts, %d times a Map in parts: the test shows nothing", parts, fans)
	}
}

// shown is what of actions can be compared.
func shown(actions []Action) (texts []string) {
	for _, a := range actions {
		texts = append(texts, fmt.Sprint(a.Kind, a.ID, a.State, a.Resource, a.Input.JSON(), a.Timeout, a.At, a.Status, a.Output.JSON()))
	}
	return texts
}

// TestMapIsLinear: what a Map writes for an item does not depend on how many there are, whatever
// its selector looks at.
func TestMapIsLinear(t *testing.T) {
	t.Parallel()
	for name, selector := range map[string]string{
		"items":   ``,
		"input":   `"ItemSelector":{"i.$":"$$.Map.Item.Value","c.$":"$.common","e.$":"$$.Execution.Input.common"},`,
		"context": `"ItemSelector":{"i.$":"$$.Map.Item.Value","n.$":"$$.Map.Item.Index","e.$":"$$.Execution.Id"},`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const text = `{"StartAt":"M","States":{"M":{"Type":"Map","ItemsPath":"$.items",%s"ItemProcessor":{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"r","End":true}}},"Next":"S"},"S":{"Type":"Succeed"}}}`
			def, err := Parse([]byte(fmt.Sprintf(text, selector)), Limits{Payload: 1 << 21})
			if err != nil {
				t.Fatal(err)
			}
			cost := func(n int) (written, read int) {
				items := make([]string, n)
				for i := range items {
					items[i] = fmt.Sprintf(`{"id":%d,"pad":%q}`, i, strings.Repeat("x", 60))
				}
				s := &shelf{parts: map[partKey][]byte{}, recent: NewRecent(1 << 21)}
				x := def.New(Identity{ID: "e"})
				events := []Event{{Kind: Start, Data: []byte(`{"common":7,"items":[` + strings.Join(items, ",") + `]}`)}}
				done := 0
				for len(events) > 0 {
					next, actions, err := def.Step(x, events[0], Environment{Now: began})
					if err != nil {
						t.Fatal(err)
					}
					events = events[1:]
					for _, a := range actions {
						if a.Kind == StartTask {
							events = append(events, Event{Kind: TaskSucceeded, ID: a.ID, Data: a.Input.Append(nil)})
							done++
						}
					}
					if x = next; x.Status.Ended() {
						break
					}
					rest := def.Rest(&x)
					for _, p := range rest.Put {
						s.parts[partKey{p.Number, p.Place}] = p.Data
						s.written += len(p.Data)
					}
					for _, p := range rest.Drop {
						delete(s.parts, partKey{p.Number, p.Place})
					}
					s.head = rest.Head
					s.written += len(rest.Head)
					x = s.load(t, def)
				}
				if x.Status != Succeeded || done != n || x.Output.Len() != n {
					t.Fatalf("%s after %d tasks", x.Status, done)
				}
				return s.written, s.bytes
			}
			few, fewReads := cost(200)
			many, manyReads := cost(2000)
			t.Logf("200 items: %d bytes written, %d read; 2000 items: %d bytes written, %d read", few, fewReads, many, manyReads)
			if many > 13*few || manyReads > 13*fewReads { // the first forty items begin together
				t.Errorf("ten times the items cost %.1f times the writes and %.1f times the reads", float64(many)/float64(few), float64(manyReads)/float64(fewReads))
			}
		})
	}
}

// TestPartsAreRefused: a head says that it needs its parts, and a part that is missing is an
// error and not a value.
func TestPartsAreRefused(t *testing.T) {
	t.Parallel()
	def := mustParse(t, `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":5,"End":true}}}`)
	def.headValues = 4
	x, _, err := def.Step(def.New(Identity{ID: "e"}), Event{Kind: Start, Data: []byte(good)}, Environment{Now: began})
	if err != nil {
		t.Fatal(err)
	}
	rest := def.Rest(&x)
	if len(rest.Put) != 1 {
		t.Fatalf("%d parts are written, want the input, once", len(rest.Put))
	}
	if _, err := def.Decode(rest.Head); !errors.Is(err, ErrVersion) {
		t.Errorf("a head without parts: %v", err)
	}
	s := &shelf{head: rest.Head, parts: map[partKey][]byte{}}
	y := s.load(t, def)
	if _, _, err := def.Step(y, Event{Kind: TimerFired, ID: y.Outstanding()[0]}, Environment{Now: began}); !errors.Is(err, ErrPart) {
		t.Errorf("a part that is missing: %v", err)
	}
	for n := range rest.Head {
		if _, err := def.Load(rest.Head[:n], s.read, nil); err == nil {
			t.Errorf("%d bytes of a head are taken for one", n)
		}
	}
}

// keptMachine is that of testdata/execution-1.bin, in which a Map has 60 items and 40 iterations
// that go on, after four that have ended.
const keptMachine = `{"StartAt":"A","States":{"A":{"Type":"Pass","Assign":{"v.$":"$.items[0]"},"Next":"M"},"M":{"Type":"Map","ItemsPath":"$.items","ItemProcessor":{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"F","Retry":[{"ErrorEquals":["States.ALL"]}],"End":true}}},"End":true}}}`

// TestVersionOne: what was kept in one piece before there were parts is read, written back as it
// is, and goes on in parts.
func TestVersionOne(t *testing.T) {
	t.Parallel()
	kept, err := os.ReadFile("testdata/execution-1.bin")
	if err != nil {
		t.Fatal(err)
	}
	def := mustParse(t, keptMachine)
	x, err := def.Decode(kept)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.Append(nil), kept) {
		t.Error("it is written in another way")
	}
	s := &shelf{head: kept, parts: map[partKey][]byte{}}
	for x = s.load(t, def); !x.Status.Ended(); {
		var f *frame
		x.root.each(func(g *frame) {
			if g.phase == inTask {
				f = g
			}
		})
		result := fmt.Appendf(nil, `{"id":%d}`, f.ordinal)
		if x, _, err = def.Step(x, Event{Kind: TaskSucceeded, ID: f.id, Data: result}, Environment{Now: began}); err != nil {
			t.Fatal(err)
		}
		if s.keep(t, def, &x); !x.Status.Ended() {
			if len(s.parts) < 5 {
				t.Fatalf("only %d parts are kept", len(s.parts))
			}
			x = s.load(t, def)
		}
	}
	if want := x.Input.Get("items").JSON(); x.Output.JSON() != want {
		t.Errorf("the output is %s, want %s", x.Output.JSON(), want)
	}
}
