package machine

import (
	"testing"
	"time"
)

// BenchmarkStep measures whole executions; transitions/s counts states entered. With codec
// each step also decodes and encodes the state, as a driver with a store does.
func BenchmarkStep(b *testing.B) {
	const payload = `{"id":"12345","country_code":"GB","total":129.95,"lines":[{"sku":"a-1","quantity":2},{"sku":"b-7","quantity":1}]}`
	for _, bench := range []struct {
		name, machine string
		transitions   int
	}{
		{"states=pass", `{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","Parameters":{"id.$":"$.id","country_code.$":"$.country_code","n.$":"$.lines[0].quantity"},"Next":"C"},
			"C":{"Type":"Pass","Result":{"ok":true},"ResultPath":"$.status","End":true}}}`, 3},
		{"states=choice", `{"StartAt":"A","States":{"A":{"Type":"Choice","Choices":[{"Variable":"$.country_code","StringEquals":"FR","Next":"D"},
			{"And":[{"Variable":"$.country_code","StringEquals":"GB"},{"Variable":"$.total","NumericGreaterThan":100}],"Next":"B"}],"Default":"D"},
			"B":{"Type":"Choice","Choices":[{"Variable":"$.vip","IsPresent":true,"Next":"D"}],"Default":"D"},"D":{"Type":"Succeed"}}}`, 3},
		{"states=task", seedMachine, 2},
	} {
		def := mustParse(b, bench.machine)
		for _, codec := range []bool{false, true} {
			name := bench.name + "/codec=no"
			if codec {
				name = bench.name + "/codec=yes"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				benchmark(b, def, codec, []byte(payload))
				b.ReportMetric(float64(b.N*bench.transitions)/b.Elapsed().Seconds(), "transitions/s")
			})
		}
	}
}

func benchmark(b *testing.B, def *Definition, codec bool, payload []byte) {
	b.Helper()
	env := Environment{Now: time.Unix(1_700_000_000, 0)}
	var buf []byte
	for b.Loop() {
		x := def.New(Identity{ID: "orders-0-4711", Name: "orders-0-4711"})
		e := Event{Kind: Start, Data: payload}
		for !x.Status.Ended() {
			next, actions, err := def.Step(x, e, env)
			if err != nil {
				b.Fatal(err)
			}
			x = next
			if codec {
				buf = x.Append(buf[:0])
				if x, err = def.Decode(buf); err != nil {
					b.Fatal(err)
				}
			}
			for _, a := range actions {
				if a.Kind == StartTask {
					e = Event{Kind: TaskSucceeded, ID: a.ID, Data: payload}
				}
			}
		}
		if x.Status != Succeeded {
			b.Fatal(x.Status)
		}
	}
}

// TestStepAllocations keeps a whole execution of three Pass states cheap.
func TestStepAllocations(t *testing.T) {
	def := mustParse(t, `{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","Parameters":{"id.$":"$.id"},"Next":"C"},"C":{"Type":"Pass","End":true}}}`)
	x, env := def.New(Identity{ID: "e"}), Environment{Now: began}
	e := Event{Kind: Start, Data: []byte(`{"id":"12345","lines":[{"sku":"a-1"},{"sku":"b-7"}]}`)}
	n := testing.AllocsPerRun(100, func() {
		if _, _, err := def.Step(x, e, env); err != nil {
			t.Error(err)
		}
	})
	if n > 30 {
		t.Errorf("the step takes %v allocations, want at most 30", n)
	}
}
