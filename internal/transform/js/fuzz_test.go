package js

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// FuzzJS runs scripts as users write them over any payload, in each mode: a result is a
// payload, an error is the message's own, and the same payload has the same fate twice.
func FuzzJS(f *testing.F) {
	text, err := os.ReadFile("../../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.SplitN(string(text), "\n", 21)[:20] {
		f.Add([]byte(line))
	}
	for _, in := range []string{payload, `{}`, `[]`, ``, `{"a":null,"b":[],"c":{"d":{}}}`, `{"n":12345678901234567890,"f":1.50,"s":"\ud800\/ü"}`, ` { "a" : 1 , "a" : 2 } `, "{\"\xff\":\"\xff\"}", `{"10":1,"9":2,"__proto__":{"x":1},"toJSON":1}`} {
		f.Add([]byte(in))
	}
	snowplowMode := func(c *Config) { c.SnowplowMode = true }
	steps := map[string]connector.Worker{
		"same":     build(f, `function main(x) { return x }`),
		"parse":    build(f, rewrite),
		"spread":   build(f, `function main(x) { const d = JSON.parse(x.Data); for (const k of Object.keys(d)) { d['_' + k] = d[k]; delete d[k] } return {Data: {...d}, PartitionKey: 'k'} }`),
		"json":     build(f, `function main(x) { x.Data.added = Object.keys(x.Data).length; delete x.Data.a; return x }`, jsonMode),
		"nulls":    build(f, `function main(x) { return x }`, jsonMode, removeNulls),
		"event":    build(f, `function main(x) { x.Data.n = allContexts(x.Data, 'com_acme_thing').length; x.PartitionKey = String(x.Data.app_id); x.HTTPHeaders = {a: x.Data.app_id}; return x }`, snowplowMode),
		"nulls of": build(f, `function main(x) { return {Data: x.Data} }`, snowplowMode, removeNulls),
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for name, tr := range steps {
			var fates [2]string
			for i := range fates {
				m := event.New(bytes.Clone(in))
				out, err := tr.Apply(context.Background(), nil, m)
				if err != nil {
					if fault.Of(err) != fault.Invalid || len(out) > 0 || !bytes.Equal(m.Data, in) || strings.Contains(err.Error(), "panicked") {
						t.Fatalf("%s: %d messages, %v", name, len(out), err)
					}
					fates[i] = err.Error()
					continue
				}
				fates[i] = m.Key + " " + string(m.Data)
				if name == "same" {
					if !bytes.Equal(m.Data, in) {
						t.Fatalf("%q came out as %q", in, m.Data)
					}
				} else if !json.Valid(m.Data) {
					t.Fatalf("%s: not JSON: %q", name, m.Data)
				}
			}
			if fates[0] != fates[1] {
				t.Fatalf("%s: first %q, then %q", name, fates[0], fates[1])
			}
		}
	})
}
