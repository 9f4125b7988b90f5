package gateway_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/gateway"
)

// TestSegment: what clients of Segment send, and what they are answered.
func TestSegment(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{MaxEvents: 3})
	const event = `"userId":"u","messageId":"m"`
	for _, row := range []struct {
		name, path, key, body string
		code                  int
		answer                string
	}{
		{"identify", "/v1/i", "KEY1", `{` + event + `}`, 200, "identify"},
		{"track", "/v1/t", "KEY1", `{` + event + `}`, 200, "track"},
		{"page", "/v1/p", "KEY1", `{` + event + `}`, 200, "page"},
		{"screen", "/v1/s", "KEY1", `{` + event + `}`, 200, "screen"},
		{"group", "/v1/g", "KEY1", `{` + event + `}`, 200, "group"},
		{"alias", "/v1/a", "KEY1", `{` + event + `}`, 200, "alias"},
		{"batch", "/v1/b", "KEY1", `{"batch":[{"type":"track",` + event + `}]}`, 200, "track"},
		{"key in the body", "/v1/t", "", `{` + event + `,"writeKey":"KEY1"}`, 200, "track"},
		{"key in the body of a long path", "/v1/track", "", `{"writeKey":"KEY1",` + event + `}`, 200, "track"},
		{"key beside the batch", "/v1/b", "", `{"writeKey":"KEY1","batch":[{"type":"page",` + event + `}]}`, 200, "page"},
		{"key after the batch", "/v1/batch", "", `{"batch":[{"type":"page",` + event + `}], "writeKey" : "KEY1" }`, 200, "page"},
		{"key as escapes", "/v1/t", "", `{` + event + `,"write\u004bey":"KEY\u0031"}`, 200, "track"},
		{"the header counts", "/v1/t", "KEY1", `{` + event + `,"writeKey":"no"}`, 200, "track"},

		{"wrong header", "/v1/t", "no", `{` + event + `,"writeKey":"KEY1"}`, 401, "invalid write key\n"},
		{"no key", "/v1/t", "", `{` + event + `}`, 401, "failed to read writekey from header\n"},
		{"no key, no JSON", "/v1/b", "", `nothing`, 401, "failed to read writekey from header\n"},
		{"a key of an event", "/v1/b", "", `{"batch":[{"writeKey":"KEY1",` + event + `}]}`, 401, "failed to read writekey from header\n"},
		{"empty key", "/v1/t", "", `{` + event + `,"writeKey":""}`, 401, "failed to read writekey from header\n"},
		{"no text as key", "/v1/t", "", `{` + event + `,"writeKey":["KEY1"]}`, 401, "invalid write key\n"},
		{"wrong key", "/v1/t", "", `{` + event + `,"writeKey":"no"}`, 401, "invalid write key\n"},
		{"disabled", "/v1/t", "", `{` + event + `,"writeKey":"KEY2"}`, 404, "source is disabled\n"},
		{"no ids", "/v1/t", "", `{"writeKey":"KEY1"}`, 400, "request neither has anonymousId nor userId\n"},
		{"broken behind the key", "/v1/b", "", `{"writeKey":"KEY1","batch":[{` + event + `]}`, 400, "invalid json\n"},
		{"too many", "/v1/b", "", `{"writeKey":"KEY1","sentAt":"2026-11-20T12:00:00Z","batch":[{` + event + `}` + strings.Repeat(`,{`+event+`}`, 3) + `]}`, 413, "request size exceeds max limit\n"},
	} {
		b, a := ask(t, g, post(row.path, row.key, row.body))
		if a.Code != row.code {
			t.Errorf("%s: %d %s", row.name, a.Code, a.Body)
			continue
		}
		if a.Code != 200 {
			if string(a.Body) != row.answer {
				t.Errorf("%s: %q, want %q", row.name, a.Body, row.answer)
			}
			continue
		}
		var e map[string]any
		if err := json.Unmarshal(b[0].Data, &e); err != nil || len(b) != 1 {
			t.Fatalf("%s: %v, %d events", row.name, err, len(b))
		}
		if e["type"] != row.answer || b[0].Meta.Scope.Source == "" {
			t.Errorf("%s: %s of %+v", row.name, b[0].Data, b[0].Meta.Scope)
		}
		if _, kept := e["writeKey"]; kept && row.key == "" {
			t.Errorf("%s: the write key is in the event", row.name)
		}
	}
}

// TestClockOfABatch: the sentAt of a batch of Segment's clients is that of events without one,
// wherever it stands; that of others means nothing, as at RudderStack.
func TestClockOfABatch(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	const (
		sent  = `"sentAt":"2026-11-20T13:05:00.007Z"` // the client's clock is an hour ahead
		list  = `"batch":[{"userId":"u","originalTimestamp":"2026-11-20T13:00:00Z"},{"userId":"v","originalTimestamp":"2026-11-20T13:00:00Z","sentAt":"2026-11-20T13:00:01Z"}]`
		right = "2026-11-20T12:00:00.000Z"
	)
	for _, row := range []struct{ path, body, want string }{
		{"/v1/b", `{` + sent + `,` + list + `}`, right},
		{"/v1/b", `{` + list + `,` + sent + `}`, right},
		{"/v1/batch", `{` + list + `,` + sent + `,"writeKey":"KEY1"}`, right},
		{"/v1/batch", `{"_metadata":{},` + sent + `,` + list + `}`, right},
		{"/v1/batch", `{"batch":[],` + sent + `,` + list + `,"_metadata":{}}`, right},
		{"/v1/batch", `{` + sent + `,` + list + `}`, "2026-11-20T13:00:00.000Z"},
		{"/v1/b", `{"sentAt":"soon",` + list + `}`, "2026-11-20T13:00:00.000Z"},
	} {
		b, a := ask(t, g, post(row.path, "KEY1", row.body))
		if a != gateway.OK || len(b) != 2 {
			t.Fatalf("%s %s: %d %s, %d events", row.path, row.body, a.Code, a.Body, len(b))
		}
		var got [2]struct{ Timestamp string }
		for i := range got {
			if err := json.Unmarshal(b[i].Data, &got[i]); err != nil {
				t.Fatal(err)
			}
		}
		if got[0].Timestamp != row.want || got[1].Timestamp != "2026-11-20T12:04:59.007Z" {
			t.Errorf("%s %s: %v", row.path, row.body, got)
		}
	}
}

// TestSettings: what Segment's browser SDK starts with names this gateway and nobody else.
func TestSettings(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	for host, want := range map[string]string{"events.example.com:8443": "events.example.com:8443/v1", "[::1]:80": "[::1]:80/v1", `x"><script>`: "/v1"} {
		r := httptest.NewRequest("GET", "/v1/projects/KEY1/settings", nil)
		r.Host = host
		var c gateway.Call
		a := g.Begin(&c, r, received)
		var got struct {
			Integrations map[string]struct{ APIKey, APIHost string }
			Metrics      struct{ SampleRate int }
		}
		got.Metrics.SampleRate = 1
		if err := json.Unmarshal(a.Body, &got); err != nil || a.Code != 200 || got.Metrics.SampleRate != 0 {
			t.Fatalf("%v: %d %s", err, a.Code, a.Body)
		}
		if diff := cmp.Diff(map[string]struct{ APIKey, APIHost string }{"Segment.io": {"KEY1", want}}, got.Integrations); diff != "" {
			t.Errorf("%s: -want +got\n%s", host, diff)
		}
	}
	for path, want := range map[string]int{"/v1/projects/no/settings": 401, "/v1/projects/KEY2/settings": 404, "/v1/projects//settings": 404, "/v1/projects/a/b/settings": 404, "/v1/projects/KEY1": 404} {
		var c gateway.Call
		if a := g.Begin(&c, httptest.NewRequest("GET", path, nil), received); a.Code != want {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
	}
}
