package gatewaysource

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
)

// TestTraceContext: events keep the context of their request where traces are made, on the
// quick way and on the general one, and none otherwise.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	const (
		parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
		state  = "TraceState: a=1\r\n"
	)
	general := "X-Odd: x\r\nTE: trailers\r\n" // the quick way leaves this to net/http
	both := map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1"}
	alone := map[string]string{"traceparent": both["traceparent"]}
	for _, c := range []struct {
		name   string
		traced bool
		head   string
		want   map[string]string
	}{
		{"off", false, parent + state, nil},
		{"off, general", false, general + parent + state, nil},
		{"on", true, parent + state, both},
		{"on, general", true, general + parent + state, both},
		{"no state", true, parent, alone},
		{"no context", true, state, nil},
		{"malformed", true, "traceparent: x\r\n", nil},
		{"twice", true, parent + parent, nil},
	} {
		s := start(t, nil)
		if c.traced {
			s.KeepTraceContext()
		}
		var mu sync.Mutex
		var got []map[string]string
		s.run(t, func(b event.Batch) event.Outcomes {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range b {
				got = append(got, byName(m.Meta.Headers))
			}
			return nil
		})
		request := rawPost("/v1/track", plainHead+c.head, track)
		if r := s.raw(t, 1, request); r[0].code != http.StatusOK {
			t.Fatalf("%s: %+v", c.name, r)
		}
		// The head arrives first, and the rest when the buffer has moved on.
		cut := strings.Index(request, "\r\n\r\n") + 6
		if r := s.raw(t, 1, request[:cut], request[cut:]); r[0].code != http.StatusOK {
			t.Fatalf("%s: %+v", c.name, r)
		}
		mu.Lock()
		if diff := cmp.Diff([]map[string]string{c.want, c.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		mu.Unlock()
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
