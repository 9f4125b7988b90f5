//go:build unix

package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/controlplane"
	"github.com/weirdata/weir/internal/workspace"
)

// Workspaces, and destinations of each, of the benchmarks.
const (
	manyWorkspaces   = 1000
	manyDestinations = 10
)

// manyConfig is the configuration of one workspace: a source with ten webhooks; revision is that of the
// first.
func manyConfig(i, revision int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"workspaceId":"ws-%d","updatedAt":%q,"sources":[{"id":"src-%d","name":"site","writeKey":"write-key-%d","enabled":true,"workspaceId":"ws-%d",
		"sourceDefinition":{"id":"sd","name":"Javascript","type":"web"},"config":{"eventUpload":false},"destinations":[`,
		i, time.Date(2026, 1, 1, 0, 0, revision, 0, time.UTC).Format(time.RFC3339Nano), i, i, i)
	for j := range manyDestinations {
		if j > 0 {
			b.WriteString(",")
		}
		n := 0
		if j == 0 {
			n = revision
		}
		fmt.Fprintf(&b, `{"id":"dst-%d-%d","name":"hook","enabled":true,"workspaceID":"ws-%d","isProcessorEnabled":true,"revisionId":"r%d",
			"config":{"webhookUrl":"https://hooks.example.com/%d/%d","webhookMethod":"POST","headers":[{"from":"x-key","to":"secret-%d"}],
			"consentManagement":{"web":[{"provider":"oneTrust","consents":[{"consent":"C0002"}]}]}},"transformations":[],
			"destinationDefinition":{"id":"dd1","name":"WEBHOOK","displayName":"Webhook","config":{"transformAtV1":"processor","saveDestinationResponse":false,
			"supportedMessageTypes":["alias","group","identify","page","screen","track"]}}}`, i, j, i, n, i, j, i)
	}
	b.WriteString(`]}],"connections":{},"libraries":[],"credentials":{},"settings":{"eventAuditEnabled":false}}`)
	return b.String()
}

// manyPlane gives 1,000 workspaces with 10,000 destinations, and then changes of the last.
type manyPlane struct {
	full     []byte
	revision int
}

func newManyPlane() *manyPlane {
	p := &manyPlane{}
	all := map[string]json.RawMessage{}
	for i := range manyWorkspaces {
		all[fmt.Sprint("ws-", i)] = json.RawMessage(manyConfig(i, 0))
	}
	p.full, _ = json.Marshal(all)
	return p
}

func (p *manyPlane) RoundTrip(r *http.Request) (*http.Response, error) {
	body := p.full
	if r.URL.Query().Has("updatedAfter") {
		p.revision++
		var b bytes.Buffer
		b.WriteString("{")
		for i := range manyWorkspaces - 1 {
			fmt.Fprintf(&b, `"ws-%d":null,`, i)
		}
		fmt.Fprintf(&b, `"ws-%d":%s}`, manyWorkspaces-1, manyConfig(manyWorkspaces-1, p.revision))
		body = b.Bytes()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (p *manyPlane) start(b *testing.B) *controlplane.Poller {
	b.Helper()
	at := controlplane.New(controlplane.Options{Name: "many", URL: "http://plane.test", Token: "t", Namespace: "n", Poll: time.Hour, Timeout: time.Minute,
		MaxBytes: 1 << 30, Transport: p, Log: slog.New(slog.DiscardHandler)})
	if err := at.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	if got := at.State().Current().Destinations(); got != manyWorkspaces*manyDestinations {
		b.Fatalf("%d destinations", got)
	}
	return at
}

// cpu is what the process has used of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured reports the processor time of each iteration, which a busy machine does not change.
func measured(b *testing.B) (end func()) {
	begin := cpu()
	return func() { b.ReportMetric(float64(cpu()-begin)/float64(b.N)/1e6, "cpu-ms/op") }
}

// BenchmarkLoad is the first configuration of 1,000 workspaces with 10,000 destinations, and what of
// the heap it holds.
func BenchmarkLoad(b *testing.B) {
	p := newManyPlane()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := p.start(b)
	runtime.GC()
	runtime.ReadMemStats(&after)
	end := measured(b)
	for b.Loop() {
		p.start(b)
	}
	end()
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
	b.ReportMetric(float64(len(p.full))/(1<<20), "MiB-text")
	runtime.KeepAlive(kept)
}

// BenchmarkChange is a change of one destination of 10,000, from the answer to the state in force.
func BenchmarkChange(b *testing.B) {
	at := newManyPlane().start(b)
	stays := at.State().Current().Destination("dst-0-0")
	end := measured(b)
	defer func() { end() }()
	for b.Loop() {
		before := at.State().Current()
		if err := at.Fetch(context.Background()); err != nil {
			b.Fatal(err)
		}
		if at.State().Current() == before || at.State().Current().Destination("dst-0-0") != stays {
			b.Fatal("nothing has changed, or what has not changed was built again")
		}
	}
}

// BenchmarkFileChange is the same change in one workspaceConfig.json with a source of each workspace.
func BenchmarkFileChange(b *testing.B) {
	file := func(revision int) []byte {
		var sources []json.RawMessage
		for i := range manyWorkspaces {
			n := 0
			if i == manyWorkspaces-1 {
				n = revision
			}
			var one struct {
				Sources []json.RawMessage `json:"sources"`
			}
			if err := json.Unmarshal([]byte(manyConfig(i, n)), &one); err != nil {
				b.Fatal(err)
			}
			sources = append(sources, one.Sources...)
		}
		text, err := json.Marshal(map[string]any{"workspaceId": "all", "sources": sources})
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	texts := [2][]byte{file(1), file(2)}
	w, err := workspace.Parse("f", texts[0], time.Now())
	if err != nil {
		b.Fatal(err)
	}
	stays := w.Destination("dst-0-0")
	end := measured(b)
	defer func() { end() }()
	for i := 1; b.Loop(); i++ {
		if w, err = workspace.ParseAfter(w, "f", texts[i%2], time.Now()); err != nil {
			b.Fatal(err)
		}
		if w.Destination("dst-0-0") != stays {
			b.Fatal("what has not changed was built again")
		}
	}
}
