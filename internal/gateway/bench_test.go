package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/workspace"
)

// sample is an event as a server SDK sends it.
func sample(i int) string {
	return fmt.Sprintf(`{"type":"track","messageId":"0b9d8c1c-5a3f-4a53-b5a1-%012d","anonymousId":"c3d2e1f0-0000-4000-8000-%012d","userId":"user-%d","event":"Order Completed",`+
		`"originalTimestamp":"2026-11-20T10:00:00.123Z","sentAt":"2026-11-20T10:00:05.456Z","channel":"server","properties":{"price":12.5,"currency":"EUR","items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}]},`+
		`"context":{"library":{"name":"analytics-go","version":"4.2.3"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)","ip":"10.1.2.3"},"integrations":{"All":true}}`, i, i, i%10)
}

func sampleBatch(n int) string {
	events := make([]string, n)
	for i := range events {
		events[i] = sample(i)
	}
	return `{"batch":[` + strings.Join(events, ",") + `]}`
}

func open(t testing.TB, o gateway.Options) *gateway.Gateway {
	t.Helper()
	f, err := workspace.Open("testdata/workspaceConfig.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	return gateway.New(f, o)
}

// head is a request for path with the body still to come.
func head(path string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, io.LimitReader(strings.NewReader(""), 0))
	r.SetBasicAuth("KEY1", "")
	r.RemoteAddr = "192.0.2.7:4711"
	return r
}

func benchmarkEvents(b *testing.B, path, body string, n int) {
	g, r, data := open(b, gateway.Options{}), head(path), []byte(body)
	b.ReportAllocs()
	b.SetBytes(int64(len(body) / n))
	events := 0
	for b.Loop() {
		var c gateway.Call
		if a := g.Begin(&c, r, time.Now()); a != nil {
			b.Fatal(a.Code)
		}
		batch, a := g.Events(&c, data)
		if a != nil {
			b.Fatal(a.Code)
		}
		events += len(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

func BenchmarkIngest(b *testing.B) {
	b.Run("events=1", func(b *testing.B) { benchmarkEvents(b, "/v1/track", sample(1), 1) })
	b.Run("events=100", func(b *testing.B) { benchmarkEvents(b, "/v1/batch", sampleBatch(100), 100) })
}

// TestIngestAllocates bounds the allocations of a request: the same for any number of
// events.
func TestIngestAllocates(t *testing.T) {
	if raceDetector {
		return
	}
	g := open(t, gateway.Options{})
	for _, n := range []int{1, 100} {
		r, data := head("/v1/batch"), []byte(sampleBatch(n))
		now := time.Now()
		allocs := testing.AllocsPerRun(200, func() {
			var c gateway.Call
			if a := g.Begin(&c, r, now); a != nil {
				t.Fatal(a.Code)
			}
			if _, a := g.Events(&c, data); a != nil {
				t.Fatal(a.Code)
			}
		})
		if allocs > 8 {
			t.Errorf("a request of %d events makes %.0f allocations, more than 8", n, allocs)
		}
	}
}
