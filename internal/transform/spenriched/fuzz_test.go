package spenriched

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// sample adds enriched events as they are collected, and broken ones.
func sample(f *testing.F) {
	text, err := os.ReadFile("../../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if i == 40 {
			break
		}
		f.Add(line)
	}
	f.Add([]byte("not\ta\tsnowplow\tevent"))
	f.Add(bytes.Repeat([]byte("\t"), 130))
	f.Add([]byte("\xff" + string(bytes.Repeat([]byte("\t{\"data\":{\"data\":[1e999,\"\\ud800\"]}}"), 130))))
}

// fuzz asserts that a message passes, is filtered, or is invalid and as it was; that the same
// payload has the same fate twice; and what want says of one that passes.
func fuzz(f *testing.F, tr connector.Worker, want func(t *testing.T, m *event.Message)) {
	sample(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		var fates [2]string
		for i := range fates {
			m := event.New(bytes.Clone(line))
			out, err := tr.Apply(context.Background(), nil, m)
			switch {
			case err != nil:
				if fault.Of(err) != fault.Invalid || len(out) > 0 || !bytes.Equal(m.Data, line) || fault.DetailOf(err).Safe == "" {
					t.Fatalf("%d messages, %v, payload %q", len(out), err, m.Data)
				}
				fates[i] = "invalid: " + err.Error()
			case len(out) == 0:
				fates[i] = "filtered"
			default:
				if len(out) != 1 || out[0] != m {
					t.Fatalf("%d messages of one", len(out))
				}
				want(t, m)
				fates[i] = m.Key + " " + string(m.Data)
			}
		}
		if fates[0] != fates[1] {
			t.Fatalf("first %q, then %q", fates[0], fates[1])
		}
	})
}

func unchanged(t *testing.T, m *event.Message) {
	if !bytes.Equal(m.Data, m.Raw()) {
		t.Fatalf("the payload is %q now", m.Data)
	}
}

func FuzzToJSON(f *testing.F) {
	fuzz(f, toJSONTransform(f), func(t *testing.T, m *event.Message) {
		var fields map[string]any
		if err := json.Unmarshal(m.Data, &fields); err != nil {
			t.Fatalf("%v: %s", err, m.Data)
		}
	})
}

func FuzzSetPk(f *testing.F) {
	fuzz(f, setPkTransform(f, "app_id"), func(t *testing.T, m *event.Message) {
		unchanged(t, m)
		if m.Key == "" {
			t.Fatal("an empty key")
		}
	})
}

func FuzzFilter(f *testing.F) { fuzz(f, filterTransform(f, "platform", "^web$", "keep"), unchanged) }

func FuzzFilterOfTimes(f *testing.F) {
	fuzz(f, filterTransform(f, "collector_tstamp", "^2026", "drop"), unchanged)
}

func FuzzFilterContext(f *testing.F) {
	fuzz(f, build(f, FilterContext, func(c *FilterContextConfig) {
		*c = FilterContextConfig{"contexts_nl_basjes_yauaa_context_1", "items[0].deviceClass", "^(Desktop|Phone)$", "keep"}
	}), unchanged)
}

func FuzzFilterUnstructEvent(f *testing.F) {
	fuzz(f, build(f, FilterUnstruct, func(c *FilterUnstructConfig) {
		*c = FilterUnstructConfig{"link_click", "1-0", "targetUrl", "example", "drop"}
	}), unchanged)
}
