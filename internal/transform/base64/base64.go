// Package base64 is the transforms "base64Decode" and "base64Encode": the payload from
// and to base64 in the standard alphabet of RFC 4648, with padding. Line breaks within
// encoded text are allowed.
package base64

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Config is the block of either transform: it has no options.
type Config struct{}

// Decode is the transform "base64Decode".
var Decode = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "base64Decode",
	Summary:   "Decodes a payload from base64.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{} },
	New: func(context.Context, connector.Deps, Config) (connector.Transform, error) {
		return connector.Stateless(decoder{}), nil
	},
})

// Encode is the transform "base64Encode".
var Encode = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "base64Encode",
	Summary:   "Encodes a payload as base64.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{} },
	New: func(context.Context, connector.Deps, Config) (connector.Transform, error) {
		return connector.Stateless(encoder{}), nil
	},
})

type decoder struct{}

// Apply decodes the payload of m.
func (decoder) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	data := make([]byte, base64.StdEncoding.DecodedLen(len(m.Data)))
	n, err := base64.StdEncoding.Decode(data, m.Data)
	if err != nil {
		const safe = "error decoding base64"
		return out, fault.Describe(fault.Invalid, fmt.Errorf("%s: %w", safe, err),
			fault.Detail{Type: "transformation", Code: "TransformationError", Safe: safe})
	}
	m.Replace(data[:n])
	return append(out, m), nil
}

type encoder struct{}

// Apply encodes the payload of m.
func (encoder) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	data := make([]byte, base64.StdEncoding.EncodedLen(len(m.Data)))
	base64.StdEncoding.Encode(data, m.Data)
	m.Replace(data)
	return append(out, m), nil
}
