package machine

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const nested = `{"StartAt":"C","States":{
	"C":{"Type":"Choice","Choices":[{"Variable":"$.a","IsPresent":true,"Next":"P"}],"Default":"W"},
	"P":{"Type":"Parallel","Branches":[{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}},{"StartAt":"B","States":{"B":{"Type":"Wait","Seconds":60,"End":true}}}],
		"Catch":[{"ErrorEquals":["States.ALL"],"Next":"F"}],"Next":"M"},
	"M":{"Type":"Map","ItemsPath":"$","ItemProcessor":{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"work","End":true}}},"End":true},
	"W":{"Type":"Wait","Seconds":5,"End":true},
	"F":{"Type":"Fail"}}}`

// TestDrawing: what a Parallel or Map runs lies between it and what follows; ends lead to the end.
func TestDrawing(t *testing.T) {
	t.Parallel()
	def, err := Parse([]byte(nested), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	g := def.Drawing()
	var got []string
	for _, e := range g.Edges {
		got = append(got, e.From+" "+e.Role+" "+e.To)
	}
	slices.Sort(got)
	want := []string{
		"start next state/C",
		"state/A next state/M",
		"state/B next state/M",
		"state/C next state/P",
		"state/C otherwise state/W",
		"state/F next end",
		"state/M into state/T",
		"state/M next end",
		"state/P catch state/F",
		"state/P into state/A",
		"state/P into state/B",
		"state/T next end",
		"state/W next end",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	g.Place()
	if len(g.Nodes) != 10 || g.Width == 0 || g.Height == 0 {
		t.Errorf("%d nodes, %v by %v", len(g.Nodes), g.Width, g.Height)
	}
}

// TestStandings: where each thread of an execution is, also once it was kept and loaded, and its input.
func TestStandings(t *testing.T) {
	t.Parallel()
	def, err := Parse([]byte(nested), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	input := `{"a":"` + string(slices.Repeat([]byte("x"), 3*headValues)) + `"}`
	x, _, err := def.Step(def.New(Identity{ID: "x"}), Event{Kind: Start, Data: []byte(input)}, Environment{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	rest := def.Rest(&x)
	loaded, err := def.Load(rest.Head, func(number uint64, first, n int) ([][]byte, error) {
		out := make([][]byte, n)
		for _, p := range rest.Put {
			if p.Number == number && p.Place >= first && p.Place < first+n {
				out[p.Place-first] = p.Data
			}
		}
		return out, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Standing{
		{State: "P", Branch: -1, Phase: "branches", Entered: now, Count: 2, Begun: 2, Left: 1},
		{State: "B", Depth: 1, Branch: 1, Phase: "waiting", Entered: now},
	}
	for name, x := range map[string]*Execution{"made": &x, "loaded": &loaded} {
		if diff := cmp.Diff(want, x.Standings(10)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := x.Standings(1); len(got) != 1 {
			t.Errorf("%s: one of them is %v", name, got)
		}
		if text, err := x.InputText(); err != nil || string(text) != input {
			t.Errorf("%s: the input is %.20s, %v", name, text, err)
		}
	}
	gone, err := def.Load(rest.Head, func(_ uint64, _, n int) ([][]byte, error) { return make([][]byte, n), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := gone.InputText(); err == nil {
		t.Errorf("an input that is gone is %q", text)
	}
}
