package gtmss

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/snowplow"
)

// build makes a worker as the engine does.
func build(t testing.TB, set func(*Config)) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compile(t, set))
}

func compile(t testing.TB, set func(*Config)) connector.Transform {
	t.Helper()
	tr, err := Entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		set(into.(*Config))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func preview(data string) string {
	return `{"schema":"iglu:x/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.acme/page/jsonschema/1-0-0","data":{}},` +
		`{"schema":"iglu:com.google.tag-manager.server-side/preview_mode/jsonschema/1-0-0","data":` + data + `}]}`
}

func message(tstamp, contexts, derived string) *event.Message {
	var parts [snowplow.NumFields]string
	for name, value := range map[string]string{"collector_tstamp": tstamp, "contexts": contexts, "derived_contexts": derived} {
		f, _ := snowplow.FieldOf(name)
		parts[f] = value
	}
	return event.New([]byte(strings.Join(parts[:], "\t")))
}

const layout = "2006-01-02 15:04:05.000"

func TestHeader(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Format(layout)
	tr := build(t, func(*Config) {})
	tests := []struct {
		name, tstamp, contexts, derived string
		header, err                     string
	}{
		{name: "set", tstamp: now, contexts: preview(`{"x-gtm-server-preview":"aGVsbG8="}`), header: "aGVsbG8="},
		{name: "escaped slash", tstamp: now, contexts: preview(`{"x-gtm-server-preview":"\/\/\/\/"}`), header: "////"},
		{name: "derived", tstamp: now, derived: preview(`{"x-gtm-server-preview":"aGVsbG8="}`), header: "aGVsbG8="},
		{name: "the first counts", tstamp: now, contexts: preview(`{"x-gtm-server-preview":"Zmlyc3Q="}`), derived: preview(`{"x-gtm-server-preview":"aGVsbG8="}`), header: "Zmlyc3Q="},
		{name: "no context", tstamp: "1999-01-01 00:00:00"},
		{name: "no property", tstamp: "1999-01-01 00:00:00", contexts: preview(`{}`)},
		{name: "not a string", tstamp: now, contexts: preview(`{"x-gtm-server-preview":7}`), err: "failed to extract HeaderValue from parsedEvent: invalid header value: it must be a string"},
		{name: "null", tstamp: now, contexts: preview(`{"x-gtm-server-preview":null}`), err: "failed to extract HeaderValue from parsedEvent: invalid header value: it must be a string"},
		{name: "not base64", tstamp: now, contexts: preview(`{"x-gtm-server-preview":"a b"}`), err: "failed to extract HeaderValue from parsedEvent: illegal base64 data at input byte 1"},
		{name: "line end", tstamp: now, contexts: preview(`{"x-gtm-server-preview":"aGVs\r\nbG8="}`), err: "failed to extract HeaderValue from parsedEvent: illegal base64 data at input byte 4"},
		{name: "broken", tstamp: now, contexts: "{", err: "failed to extract HeaderValue from parsedEvent: field contexts: invalid JSON at byte 1: expected a member name"},
		{name: "no time", contexts: preview(`{"x-gtm-server-preview":"aGVsbG8="}`), err: "failed to get value of the [collector_tstamp] atomic field: field is empty"},
		{name: "old", tstamp: "1999-01-01 00:00:00", contexts: preview(`{"x-gtm-server-preview":"aGVsbG8="}`), err: "message has expired"},
	}
	for _, tt := range tests {
		m := message(tt.tstamp, tt.contexts, tt.derived)
		shared := event.HeadersOf(map[string]string{"kept": "yes"})
		m.Meta.Headers = shared
		out, err := tr.Apply(context.Background(), nil, m)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || len(out) != 0 || fault.Of(err) != fault.Invalid || fault.DetailOf(err).Type != "transformation" {
				t.Errorf("%s: %v, kind %s", tt.name, err, fault.Of(err))
			}
			continue
		}
		want := map[string]string{"kept": "yes"}
		if tt.header != "" {
			want[header] = tt.header
		}
		if err != nil || len(out) != 1 || out[0] != m {
			t.Errorf("%s: %v %v", tt.name, out, err)
		}
		if diff := cmp.Diff(want, byName(m.Meta.Headers)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
		if len(shared) != 1 {
			t.Errorf("%s: shared headers were written to", tt.name)
		}
	}
	if _, err := tr.Apply(context.Background(), nil, event.New([]byte("{}"))); fault.Of(err) != fault.Invalid {
		t.Errorf("no event: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := build(t, func(c *Config) { c.ExpirySeconds = 60 })
		data := preview(`{"x-gtm-server-preview":"aGVsbG8="}`)
		collected := time.Now().UTC().Format(layout)
		time.Sleep(time.Minute)
		if _, err := tr.Apply(t.Context(), nil, message(collected, data, "")); err != nil {
			t.Errorf("at its limit: %v", err)
		}
		time.Sleep(time.Millisecond)
		_, err := tr.Apply(t.Context(), nil, message(collected, data, ""))
		if err == nil || err.Error() != "message has expired" {
			t.Errorf("after its limit: %v", err)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if c := *Entry.Default().(*Config); c.ExpirySeconds != 300 || c.Validate() != nil {
		t.Errorf("default %+v: %v", c, c.Validate())
	}
	for _, n := range []int{0, -1, maxExpiry + 1} {
		if ps := (Config{n}).Validate(); len(ps) != 1 || ps[0].Field != "expiry_seconds" {
			t.Errorf("%d: %+v", n, ps)
		}
	}
}

// byName is h as a map: the tests of this package set no name twice.
func byName(h event.Headers) map[string]string {
	if h == nil {
		return nil
	}
	m := make(map[string]string, len(h))
	for i := range h {
		m[h[i].Name] = h[i].Text()
	}
	return m
}
