package httpsource

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
)

// TestTraceContext: messages keep the context of their request where traces are made, and
// otherwise only what forward_headers names.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	const context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		name      string
		traced    bool
		forwarded []string
		want      map[string]string
	}{
		{"off", false, nil, nil},
		{"off and forwarded", false, []string{"Traceparent"}, map[string]string{"Traceparent": context}},
		{"on", true, nil, map[string]string{"traceparent": context, "tracestate": "a=1,b=2"}},
		{"on and forwarded", true, []string{"Traceparent", "X-A"}, map[string]string{"traceparent": context, "tracestate": "a=1,b=2", "X-A": "x"}},
	} {
		p := start(t, func(f *Config) { f.ForwardHeaders = c.forwarded })
		if c.traced {
			p.KeepTraceContext()
		}
		var got []map[string]string
		p.run(t, func(m *event.Message) error { got = append(got, byName(m.Meta.Headers)); return nil })
		if r := p.post(t, strings.NewReader("one\ntwo"), func(r *http.Request) {
			r.Header.Set("Traceparent", context)
			r.Header["Tracestate"] = []string{"a=1", "b=2"}
			r.Header.Set("X-A", "x")
		}); r.code != http.StatusAccepted {
			t.Fatalf("%s: %+v", c.name, r)
		}
		if diff := cmp.Diff([]map[string]string{c.want, c.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
