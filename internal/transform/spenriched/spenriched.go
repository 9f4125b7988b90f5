// Package spenriched holds the transforms of Snowplow enriched events: to JSON, filters
// on an atomic field, a context or the unstruct event, and the choice of a partition
// key from an atomic field.
//
// All of them read the event through [snowplow.Of]: the line is parsed once however
// many of them follow one another. The event stays with the message when its payload
// becomes JSON, so that filters may stand behind spEnrichedToJson. A payload that is no
// enriched event, or a field that has not the type it should, makes the message invalid.
package spenriched

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/snowplow"
)

// ToJSON is the transform spEnrichedToJson.
var ToJSON = connector.Of(connector.Spec[ToJSONConfig, connector.Transform]{
	Name:      "spEnrichedToJson",
	Summary:   "Turns a Snowplow enriched event into one JSON object.",
	Stability: connector.Stable,
	Default:   func() ToJSONConfig { return ToJSONConfig{} },
	New: func(context.Context, connector.Deps, ToJSONConfig) (connector.Transform, error) {
		return connector.Stateless(toJSON{}), nil
	},
})

// ToJSONConfig has no options: absent fields are left out, timestamps become RFC 3339
// in UTC, and each kind of entity becomes an array such as contexts_com_acme_page_1.
type ToJSONConfig struct{}

type toJSON struct{}

func (toJSON) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	ev, err := snowplow.Of(m)
	if err != nil {
		return out, err
	}
	data, err := ev.AppendJSON(make([]byte, 0, ev.JSONSize()))
	if err != nil {
		return out, snowplow.Invalid("the enriched event cannot be turned into JSON", err)
	}
	m.Replace(data)
	m.Keep(ev)
	return append(out, m), nil
}

// SetPk is the transform spEnrichedSetPk.
var SetPk = connector.Of(connector.Spec[SetPkConfig, connector.Transform]{
	Name:      "spEnrichedSetPk",
	Summary:   "Makes an atomic field of a Snowplow enriched event the message's partition key.",
	Stability: connector.Stable,
	Default:   func() SetPkConfig { return SetPkConfig{} },
	New: func(_ context.Context, _ connector.Deps, c SetPkConfig) (connector.Transform, error) {
		f, err := fieldOf(c.AtomicField)
		return setPk{f}, err
	},
})

// SetPkConfig is the configuration of spEnrichedSetPk.
type SetPkConfig struct {
	// Name of the atomic field whose value becomes the partition key, such as
	// "domain_userid". An event without a value in it is invalid.
	AtomicField string `hcl:"atomic_field"`
}

// Validate refuses a field that enriched events do not have.
func (c SetPkConfig) Validate() []connector.Problem { return checkField(c.AtomicField) }

type setPk struct{ field snowplow.Field }

// Worker implements connector.Transform.
func (t setPk) Worker() (connector.Worker, error) { return &setPkWorker{setPk: t}, nil }

// setPkWorker is a setPk with memory to build keys in.
type setPkWorker struct {
	setPk
	text []byte
}

// Apply sets the key of m.
func (t *setPkWorker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	ev, err := snowplow.Of(m)
	if err != nil {
		return out, err
	}
	if t.text, err = ev.AppendText(t.text[:0], t.field); err != nil {
		return out, snowplow.Invalid("failed to get value of the provided atomic field", err)
	}
	m.Key = string(t.text)
	return append(out, m), nil
}

// fieldOf is the atomic field with the given name, or an error that proposes one.
func fieldOf(name string) (snowplow.Field, error) {
	f, ok := snowplow.FieldOf(name)
	if !ok {
		return 0, fmt.Errorf("atomic_field %q is not a field of an enriched event: did you mean %q?", name, snowplow.NearestField(name))
	}
	return f, nil
}

func checkField(name string) []connector.Problem {
	if _, ok := snowplow.FieldOf(name); ok {
		return nil
	}
	return []connector.Problem{{
		Field: "atomic_field",
		What:  fmt.Sprintf("atomic_field %q is not a field of an enriched event", name),
		Fix:   fmt.Sprintf("did you mean %q?", snowplow.NearestField(name)),
	}}
}
