// Package gtmss holds the transform for the preview mode of Google Tag Manager Server
// Side: an event that carries a preview header in a context gets it as an HTTP header,
// so that the container's preview session shows the event. Preview sessions are short:
// an event that arrives too late is invalid, because it would show up in a session of
// somebody else.
package gtmss

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/snowplow"
)

const (
	contextName = "contexts_com_google_tag-manager_server-side_preview_mode_1"
	header      = "x-gtm-server-preview"
)

// Entry is the transform spGtmssPreview.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "spGtmssPreview",
	Summary:   "Sets the HTTP header of Google Tag Manager's server side preview mode from a context of a Snowplow enriched event.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{ExpirySeconds: 300} },
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		path, err := snowplow.ParsePath(header)
		return connector.Stateless(&transform{expiry: time.Duration(c.ExpirySeconds) * time.Second, path: path}), err
	},
})

// Config is the configuration of spGtmssPreview.
type Config struct {
	// Age in seconds, counted from collector_tstamp, from which an event with a preview
	// header is refused as invalid. Default: 300.
	ExpirySeconds int `hcl:"expiry_seconds,optional"`
}

// maxExpiry is 68 years.
const maxExpiry = 1<<31 - 1

// Validate refuses an age that no event could stay below, or that overflows.
func (c Config) Validate() []connector.Problem {
	if c.ExpirySeconds < 1 || c.ExpirySeconds > maxExpiry {
		return []connector.Problem{{Field: "expiry_seconds",
			What: fmt.Sprintf("expiry_seconds must be from 1 to %d, not %d", maxExpiry, c.ExpirySeconds),
			Fix:  "leave it out to use 300"}}
	}
	return nil
}

type transform struct {
	expiry time.Duration
	path   snowplow.Path
}

func (t *transform) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	ev, err := snowplow.Of(m)
	if err != nil {
		return out, err
	}
	value, found, err := t.headerValue(ev)
	if err != nil {
		return out, snowplow.Invalid("failed to extract HeaderValue from parsedEvent", err)
	}
	if !found {
		return append(out, m), nil
	}
	collected, err := ev.Value(snowplow.CollectorTstamp)
	if err != nil {
		return out, snowplow.Invalid("failed to get value of the [collector_tstamp] atomic field", err)
	}
	if at, ok := collected.(time.Time); ok && time.Now().After(at.Add(t.expiry)) {
		return out, snowplow.Invalid("message has expired", nil)
	}
	m.SetHeader(header, value)
	return append(out, m), nil
}

// headerValue is the property of the first preview context that has it, in contexts and
// then in derived_contexts.
func (t *transform) headerValue(ev *snowplow.Event) (string, bool, error) {
	contexts, derived, err := ev.Contexts()
	if err != nil {
		return "", false, err
	}
	for _, list := range [2][]snowplow.Entity{contexts, derived} {
		for i := range list {
			if list[i].Name != contextName {
				continue
			}
			raw, found := list[i].LookupJSON(t.path)
			if !found {
				continue
			}
			value, err := decode(raw)
			return value, err == nil, err
		}
	}
	return "", false, nil
}

func decode(raw string) (string, error) {
	value, ok := snowplow.StringOf(raw)
	if !ok {
		return "", errors.New("invalid header value: it must be a string")
	}
	// The decoder passes over line ends, which a header must not hold.
	for i := range len(value) {
		if value[i] == '\r' || value[i] == '\n' {
			return "", base64.CorruptInputError(i)
		}
	}
	if _, err := base64.StdEncoding.DecodeString(value); err != nil {
		return "", err
	}
	return value, nil
}
