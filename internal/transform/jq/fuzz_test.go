package jq

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

var programs = []string{
	`.`, `{id: .event_id, price: (.product.price * 2), tags}`, `.a[]`, `.l[.n] = 1`, `[.. | numbers] | add`, `with_entries(.value |= tostring)`, `.t | epoch`, `.t | epochMillis("02/01/06")`,
	`.a | hash("sha256"; "salt")`, `select(.a == 1)`, `.a == 1 and .b != "x"`, `.s | test("^a+$")`, `try error catch .`, `reduce .l[] as $x (0; . + $x)`, `.s[1:3]`, `del(.a, .l[0])`, `[paths]`, `@base64 "\(.s)"`,
	`to_entries | map(select(.value != null)) | from_entries`, `.a // "none" | ascii_downcase`, `[.l | sort, unique, reverse, flatten]`, `.collector_tstamp | fromdate`, `input`, `{`, `$x`, `def f: f; f`,
}

var payloads = []string{
	`{}`, `{"a":1,"b":"x","l":[3,1,2,null,{}],"s":"aaab","n":1,"t":"2024-02-03T04:05:06.789Z"}`, `{"a":12345678901234567890,"l":[1.5,-0,1e300,{"a":[]}],"s":"\u00fc\ud83d\ude00"}`, `[]`, `null`, `{`, `{"a":`,
	`{"event_id":"c6ef3124-b53a-4b13-a233-0088f79dcbcb","app_id":"shop","tags":["home","spring"],"product":{"id":42,"name":"Lamp","price":19.99}}`,
}

// fuzz runs any program over any payload: it never panics, and the same payload has the same
// fate twice.
func fuzz(f *testing.F, e connector.Entry[connector.Transform], want func(t *testing.T, in string, m *event.Message)) {
	for i, p := range programs {
		f.Add(p, payloads[i%len(payloads)], i%5 == 0)
		f.Add(p, payloads[1], false)
	}
	text, err := os.ReadFile("../../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range strings.SplitN(string(text), "\n", 11)[:10] {
		f.Add(programs[i], line, true)
	}
	f.Fuzz(func(t *testing.T, command, in string, enriched bool) {
		c := Config{Command: command, TimeoutMillis: 20, HashVersion: 5, MemoryLimitMB: 128, SnowplowMode: enriched}
		if len(c.Validate()) > 0 {
			return
		}
		tr, err := e.Build(context.Background(), connector.Deps{}, func(into any) error { *into.(*Config) = c; return nil })
		if err != nil {
			t.Fatalf("what Validate accepts is refused: %v", err)
		}
		w := conntest.Worker(t, tr)
		var fates [2]string
		for i := range fates {
			m := event.New([]byte(in))
			out, err := w.Apply(context.Background(), nil, m)
			switch {
			case err != nil:
				if fault.Of(err) != fault.Invalid || len(out) > 0 || string(m.Data) != in {
					t.Fatalf("%d messages, %v", len(out), err)
				}
				if strings.Contains(err.Error(), "panicked") {
					t.Fatal(err)
				}
				if strings.Contains(err.Error(), "deadline") {
					return
				}
				fates[i] = err.Error()
			case len(out) == 0:
				fates[i] = "filtered"
			default:
				want(t, in, m)
				fates[i] = string(m.Data)
			}
		}
		for _, name := range []string{"now", "local", "mktime", "strf"} {
			if strings.Contains(command, name) {
				return // the time is what it is
			}
		}
		if fates[0] != fates[1] {
			t.Fatalf("first %q, then %q", fates[0], fates[1])
		}
	})
}

func FuzzJQ(f *testing.F) {
	fuzz(f, JQ, func(t *testing.T, _ string, m *event.Message) {
		if !json.Valid(m.Data) {
			t.Fatalf("not JSON: %q", m.Data)
		}
	})
}

func FuzzJQFilter(f *testing.F) {
	fuzz(f, Filter, func(t *testing.T, in string, m *event.Message) {
		if string(m.Data) != in {
			t.Fatalf("the payload is %q now", m.Data)
		}
	})
}
