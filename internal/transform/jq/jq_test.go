package jq

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// build makes a worker as the engine does.
func build(t testing.TB, e connector.Entry[connector.Transform], command string, change ...func(*Config)) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compiled(t, e, command, change...))
}

func compiled(t testing.TB, e connector.Entry[connector.Transform], command string, change ...func(*Config)) connector.Transform {
	t.Helper()
	tr, err := e.Build(context.Background(), connector.Deps{}, func(into any) error {
		c := into.(*Config)
		c.Command, c.TimeoutMillis = command, 60_000
		for _, f := range change {
			f(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func snowplowMode(c *Config) { c.SnowplowMode = true }

func line() string {
	fields := make([]string, 131)
	fields[0], fields[1], fields[3] = "shop", "web", "2024-02-03 04:05:06.789"
	return strings.Join(fields, "\t")
}

func TestMapper(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, command, in, want, err string
		change                       func(*Config)
	}{
		{name: "identity", command: `.`, in: `{"b":"<&>","a":12345678901234567890,"n":null,"o":{"x":[]},"l":[null,{},1]}`, want: `{"a":12345678901234567890,"b":"\u003c\u0026\u003e","l":[1]}`},
		{name: "string keeps its quotes", command: `.a`, in: `{"a":"x"}`, want: `"x"`},
		{name: "first output only", command: `.a[]`, in: `{"a":[1,2]}`, want: `1`},
		{name: "null", command: `.b`, in: `{"a":1}`, want: `null`},
		{name: "whole floats", command: `{a: (.a * 1.5)}`, in: `{"a":2}`, want: `{"a":3}`},
		{name: "no output", command: `empty`, in: `{}`, err: "error running jq query: the jq program has no output"},
		{name: "array", command: `.`, in: `[]`, err: "failed making input for the jq query: the payload is JSON, but not an object"},
		{name: "not JSON", command: `.`, in: `{`, err: "failed making input for the jq query: the payload is not valid JSON"},
		{name: "error", command: `.a.b`, in: `{"a":1}`, err: `error running jq query: expected an object but got: number (1)`},
		{name: "own error", command: `error({b: 1, a: 2})`, in: `{}`, err: `error running jq query: error: {"a":2,"b":1}`},
		{name: "endless", command: `def f: f; f`, in: `{}`, err: "context deadline exceeded", change: func(c *Config) { c.TimeoutMillis = 100 }},
		{name: "output of shared parts", command: `reduce range(40) as $i (1; {a: ., b: [.]})`, in: `{}`, err: "error encoding jq query output data: the output is larger than 256 MiB"},
		{name: "index of the payload", command: `.l[.n] = 1`, in: `{"n":500000000}`, err: "array index too large"},
		{name: "index updated", command: `.l[500000000] |= 1`, in: `{}`, err: "array index too large"},
		{name: "path set", command: `setpath(["l", .n]; 1)`, in: `{"n":500000000}`, err: "array index too large"},
		{name: "indexes", command: `.l[1] = 5 | .l[-1] += 1 | .l[0:1] = [7] | .o["k"] = .l[.i] | setpath(["p", 0]; .l | length) | .e = ([.l[]] | .[1:]) | del(.l[.i])`, in: `{"l":[1,2,3],"i":1}`, want: `{"e":[5,4],"i":1,"l":[7,4],"o":{"k":5},"p":[3]}`},
		{name: "environment", command: `[env, $ENV]`, in: `{}`, want: `[]`},
		{name: "epoch", command: `{s: (.t | epoch), m: (.t | epochMillis), l: (.d | epoch("02/01/06")), n: (.no | epoch), c: ((.t | epochMillis) + 1)}`,
			in: `{"t":"2024-02-03T04:05:06.789Z","d":"03/02/24"}`, want: `{"c":1706933106790,"l":1706918400,"m":1706933106789,"s":1706933106}`},
		{name: "epoch of a number", command: `.t | epoch`, in: `{"t":1}`, err: "epoch: the input is a number, not a timestamp"},
		{name: "epoch of other text", command: `.t | epoch`, in: `{"t":"x"}`, err: `epoch: the input is not a timestamp of the layout "2006-01-02T15:04:05.999Z"`},
		{name: "hash", command: `.a | hash("sha256"; "09a2d6b3ecd943aa8512df1f")`, in: `{"a":"python-requests 2"}`, want: `"23e37c9c9aaed4e592b306b291deb43fd197551048704d57"`},
		{name: "hash without salt", command: `.a | hash("md5"; "")`, in: `{"a":"python-requests 2"}`, want: `"30368c83ff2751652f501b62d6b965794d3512177f301db1"`},
		{name: "hash 6", command: `.a | hash("md5")`, in: `{"a":""}`, want: `"d41d8cd98f00b204e9800998ecf8427e"`, change: func(c *Config) { c.HashVersion = 6 }},
		{name: "hash of a number", command: `.a | hash("md5"; "")`, in: `{"a":1}`, err: "hash: the input is a number, not a string"},
		{name: "hash unknown", command: `.a | hash("crc"; "")`, in: `{"a":""}`, err: `hash: unknown algorithm "crc"`},
		{name: "snowplow", command: `{a: .app_id, t: .collector_tstamp, ty: (.collector_tstamp | type), e: (.collector_tstamp | epochMillis), s: "\(.collector_tstamp)", eq: (.collector_tstamp == null)}`,
			in: line(), change: snowplowMode, want: `{"a":"shop","e":1706933106789,"eq":false,"s":"2024-02-03T04:05:06.789Z","t":"2024-02-03T04:05:06.789Z","ty":"string"}`},
		{name: "snowplow parse", command: `.`, in: `{}`, change: snowplowMode, err: "failed making input for the jq query"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var change []func(*Config)
			if test.change != nil {
				change = append(change, test.change)
			}
			tr := build(t, JQ, test.command, change...)
			for range 2 {
				m := event.New([]byte(test.in))
				out, err := tr.Apply(context.Background(), nil, m)
				if test.err != "" {
					if err == nil || !strings.Contains(err.Error(), test.err) || fault.Of(err) != fault.Invalid || len(out) != 0 || string(m.Data) != test.in {
						t.Fatalf("got %s, %v; want %s", m.Data, err, test.err)
					}
					if d := fault.DetailOf(err); d.Type != "transformation" || d.Safe == "" {
						t.Errorf("detail %+v", d)
					}
					continue
				}
				if err != nil || len(out) != 1 || string(m.Data) != test.want {
					t.Fatalf("got %s, %v\nwant %s", m.Data, err, test.want)
				}
			}
		})
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const in = `{"a":1}`
	for command, want := range map[string]string{
		`.a == 1`: "kept", `.a == 2`: "filtered", `.a`: "jq filter didn't return expected [boolean] value", `empty`: "no output",
	} {
		m := event.New([]byte(in))
		m.Keep("view")
		out, err := build(t, Filter, command).Apply(context.Background(), nil, m)
		got := "filtered"
		if err != nil {
			got = err.Error()
		} else if len(out) == 1 {
			got = "kept"
		}
		if !strings.Contains(got, want) || string(m.Data) != in || m.View() != "view" {
			t.Errorf("%s: got %s, want %s", command, got, want)
		}
	}
}

// TestPanic: whatever happens inside a program is the error of that message.
func TestPanic(t *testing.T) {
	t.Parallel()
	p, err := newProgram(Config{Command: `.t | tostring`, TimeoutMillis: 100, HashVersion: 5, MemoryLimitMB: 128})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := p.worker().first(map[string]any{"t": time.Now()}); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := p.worker().first(map[string]any{"t": 1}); err != nil || v != "1" {
		t.Errorf("the message after it: %v, %v", v, err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	bad := Config{Command: ".a |", HashVersion: 4, MemoryLimitMB: 128}
	if ps := bad.Validate(); len(ps) != 3 || !strings.Contains(ps[0].What, "parse jq_command: unexpected EOF") {
		t.Errorf("got %+v", ps)
	}
	good := defaults()
	good.Command = "."
	if ps := good.Validate(); len(ps) != 0 {
		t.Errorf("got %+v", ps)
	}
}

// TestLimit: a time limit that has passed for one message does not touch the next, and
// one that is started again in time does not pass.
func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(100 * time.Millisecond)
		for round := range 5 {
			l.start()
			time.Sleep(90 * time.Millisecond)
			synctest.Wait()
			if l.Err() != nil {
				t.Fatalf("round %d ended early", round)
			}
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		select {
		case <-l.Done():
		default:
			t.Fatal("not ended in time")
		}
		if l.Err() != context.DeadlineExceeded {
			t.Error(l.Err())
		}
		for range 3 {
			l.start()
			if l.Err() != nil {
				t.Fatal("ended at once")
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
	})
}

func BenchmarkJQ(b *testing.B) {
	tr := build(b, JQ, `{id: .event_id, price: (.product.price * 2), tags}`)
	data := []byte(`{"event_id":"c6ef3124-b53a-4b13-a233-0088f79dcbcb","app_id":"shop","tags":["home","spring"],"product":{"id":42,"name":"Lamp","price":19.99}}`)
	out := make(event.Batch, 0, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.Apply(context.Background(), out, event.New(data)); err != nil {
			b.Fatal(err)
		}
	}
}
