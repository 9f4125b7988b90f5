package jq

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
)

// PartitionKeys is the transform "jqPartitionKeys".
var PartitionKeys = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "jqPartitionKeys",
	Summary:   "Notes the partition keys that a jq program makes of a message, for !{partitionKeyFromQuery:NAME} in a prefix.",
	Stability: connector.Experimental,
	Default:   defaults,
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		p, err := newProgram(c)
		if err != nil {
			return nil, err
		}
		return partitions{p}, nil
	},
})

// Worker implements connector.Transform.
func (p partitions) Worker() (connector.Worker, error) { return &Partitioner{p.worker()}, nil }

// Notes implements firehose.Noter: the names that an object of the program's own has.
func (p partitions) Notes() (source firehose.KeySource, names []string) {
	source = firehose.FromQuery
	q, err := gojq.Parse(p.config.Command)
	if err != nil || q.Term == nil || q.Term.Object == nil || len(q.Term.SuffixList) > 0 {
		return source, nil
	}
	for _, kv := range q.Term.Object.KeyVals {
		name := kv.Key
		if kv.KeyString != nil && len(kv.KeyString.Queries) == 0 {
			name = kv.KeyString.Str
		}
		if name == "" || strings.HasPrefix(name, "$") {
			return source, nil
		}
		names = append(names, name)
	}
	return source, names
}

// Partitioner is a worker of the transform "jqPartitionKeys".
type Partitioner struct{ p *run }

// The code of a record that no partition keys could be made of, as Firehose has it.
const codeMetadata = "DynamicPartitioning.MetadataExtractionFailed"

// Apply notes the members of the object that the program answers; the payload stays as it is.
func (t *Partitioner) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	v, err := t.p.of(m)
	if err != nil {
		return out, refused("%v", err)
	}
	keys, ok := v.(map[string]any)
	switch {
	case !ok:
		return out, refused("the program answers no object")
	case len(keys) > firehose.MostKeys:
		return out, refused("the program answers %d partition keys, more than %d", len(keys), firehose.MostKeys)
	}
	values := make(map[string]string, len(keys))
	for name, v := range keys {
		text, ok := keyText(v)
		if !ok {
			return out, refused("the partition key %.200q is %.200s, and not a text, number or bool with something in it", name, shown(v))
		}
		values[name] = text
	}
	for name, text := range values {
		firehose.FromQuery.Set(m, name, text)
	}
	return append(out, m), nil
}

func refused(format string, args ...any) error {
	return (&firehose.Failure{Type: firehose.ProcessingFailedType, Attempts: 1, Code: codeMetadata, Message: fmt.Sprintf(format, args...)}).Refuse()
}

// keyText is a value as a partition key.
func keyText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case bool:
		return strconv.FormatBool(v), true
	case nil, []any, map[string]any:
		return "", false
	}
	text, err := json.Marshal(v)
	return string(text), err == nil
}

func shown(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%T", v)
	}
	return string(text)
}
