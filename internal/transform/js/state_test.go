package js_test

import (
	"context"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/transform/base64"
	"github.com/weirdata/weir/internal/transform/jq"
	"github.com/weirdata/weir/internal/transform/js"
	"github.com/weirdata/weir/internal/transform/spenriched"
)

// TestWhatLaterStepsSee is the table of what a transform leaves for the one after it: the
// parsed event stays behind spEnrichedToJson and ends at base64 and jq; behind js a payload is
// parsed again, except by js, which is given what the other returned.
func TestWhatLaterStepsSee(t *testing.T) {
	t.Parallel()
	step := func(e connector.Entry[connector.Transform], set func(into any)) connector.Worker {
		tr, err := e.Build(context.Background(), connector.Deps{}, func(into any) error { set(into); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return conntest.Worker(t, tr)
	}
	none := func(any) {}
	script := func(body string, snowplow, json bool) connector.Worker {
		return step(js.Entry, func(into any) {
			c := into.(*js.Config)
			c.Script, c.SnowplowMode, c.JSONMode = "function main(x) { "+body+" }", snowplow, json
		})
	}
	steps := map[string]connector.Worker{
		"toJson": step(spenriched.ToJSON, none),
		"setPk":  step(spenriched.SetPk, func(into any) { into.(*spenriched.SetPkConfig).AtomicField = "app_id" }),
		"filter": step(spenriched.Filter, func(into any) {
			*into.(*spenriched.FilterConfig) = spenriched.FilterConfig{AtomicField: "app_id", Regex: "^shop$", FilterAction: "keep"}
		}),
		"encode": step(base64.Encode, none),
		"decode": step(base64.Decode, none),
		"jq":     step(jq.JQ, func(into any) { into.(*jq.Config).Command = "." }),
		"js":     script("return x", false, false),
		"object": script("return {Data: {a: null}}", false, false),
		"event":  script("return {Data: String(x.Data.app_id)}", true, false),
		"json":   script("return {Data: 'JSON ' + Object.keys(x.Data)}", false, true),
		"type":   script("return {Data: typeof x.Data}", false, false),
	}
	const noEvent = "intermediate state cannot be parsed as parsedEvent: cannot parse tsv event - wrong number of fields provided: 1"
	for chain, want := range map[string]string{
		"toJson setPk":               `shop {"app_id":"shop"}`,
		"toJson filter setPk":        `shop {"app_id":"shop"}`,
		"toJson event":               " shop",
		"toJson json":                " JSON app_id",
		"toJson jq":                  ` {"app_id":"shop"}`,
		"toJson jq setPk":            noEvent,
		"toJson encode decode":       ` {"app_id":"shop"}`,
		"toJson encode decode setPk": noEvent,
		"encode decode setPk":        "shop TSV",
		"filter js setPk":            "shop TSV",
		"toJson js setPk":            noEvent,
		"event setPk":                noEvent,
		"object type":                " object",
		"object json":                " JSON a",
		"object event":               " undefined",
		"js type":                    " string",
		"encode type":                " string",
		"encode filter":              noEvent,
	} {
		t.Run(chain, func(t *testing.T) {
			fields := make([]string, 131)
			fields[0] = "shop"
			line := strings.Join(fields, "\t")
			m := event.New([]byte(line))
			got := ""
			for name := range strings.FieldsSeq(chain) {
				out, err := steps[name].Apply(context.Background(), nil, m)
				if err != nil {
					got = err.Error()
					break
				}
				if len(out) != 1 {
					t.Fatalf("%s gave %d messages", name, len(out))
				}
			}
			if got == "" {
				got = m.Key + " " + strings.Replace(string(m.Data), line, "TSV", 1)
			}
			if got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}
