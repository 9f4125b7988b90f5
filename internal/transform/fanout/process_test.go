//go:build unix

package fanout

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enrich"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/trackingplan"
	"github.com/weirdata/weir/internal/usertransform"
)

// BenchmarkProcess is what the processor does to an event beside its queues, one thing after the other:
// the copy to three destinations, consent, a small user transformation of one of them, the place of the
// sender's address and its browser, a tracking plan. Numbers are for each event that comes in, in reads of
// 100; cpu-ns is what the process has used of the CPU, which a busy machine does not stretch.
func BenchmarkProcess(b *testing.B) {
	const consent = `"config":{"consentManagement":[{"provider":"custom","resolutionStrategy":"and","consents":[{"consent":"marketing"},{"consent":"analytics"}]}]},`
	const plan = `,"dgSourceTrackingPlanConfig":{"trackingPlan":{"id":"tp","version":1},"config":{"global":{"unplannedProperties":"forward"}}}`
	const code = `,"transformations":[{"id":"t","versionId":"v1"}]`
	destination := func(id, config, more string) string {
		return fmt.Sprintf(`{"id":%q,"enabled":true,"isProcessorEnabled":true,%s"destinationDefinition":{"name":"WEBHOOK","displayName":%q,"config":{"supportedMessageTypes":["track"]}}%s}`, id, config, id, more)
	}
	for _, row := range []struct {
		name, consent, code, plan string
		enrich                    bool
	}{
		{name: "fanout=3"},
		{name: "fanout=3,consent", consent: consent},
		{name: "fanout=3,consent,transformation", consent: consent, code: code},
		{name: "fanout=3,consent,enrichment", consent: consent, enrich: true},
		{name: "fanout=3,consent,plan", consent: consent, plan: plan},
		{name: "everything", consent: consent, code: code, enrich: true, plan: plan},
	} {
		b.Run(row.name, func(b *testing.B) {
			dir := b.TempDir()
			places, err := os.ReadFile("../../geo/testdata/places.mmdb")
			if err != nil {
				b.Fatal(err)
			}
			for name, text := range map[string]string{
				"ws.json": `{"workspaceId":"ws","sources":[{"id":"src","writeKey":"k","enabled":true,"geoEnrichment":{"enabled":true}` + row.plan + `,"destinations":[` +
					destination("a", row.consent, "") + "," + destination("b", row.consent, row.code) + "," + destination("c", row.consent, "") + `]}]}`,
				"v1.js":       `export function transformEvent(event) { event.properties.currency = 'EUR'; delete event.request_ip; return event }`,
				"tp-1.json":   `{"events":[{"name":"Order","eventType":"track","rules":{"type":"object","properties":{"properties":{"type":"object","properties":{"price":{"type":"number"}},"required":["price"]}}}}]}`,
				"places.mmdb": string(places),
			} {
				if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			tr, err := Entry.Build(context.Background(), connector.Deps{Dir: dir}, func(into any) error {
				c := into.(*Config)
				c.WorkspaceConfig = "ws.json"
				if row.code != "" {
					c.Transformations = &usertransform.Config{Directory: "."}
					c.Transformations.SetDefaults()
				}
				if row.enrich {
					c.Enrichment = &enrich.Config{GeolocationDatabase: "places.mmdb", UserAgent: true, Bots: enrich.Flag}
				}
				if row.plan != "" {
					c.TrackingPlans = &trackingplan.Config{Directory: ".", PatienceMillis: 60000}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			data := []byte(`{"type":"track","messageId":"0b9d8c1c","userId":"user-1","event":"Order","properties":{"price":12.5,"items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}]},"context":{"ip":"81.2.69.160","library":{"name":"analytics-go","version":"4.2.3"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0","consentManagement":{"provider":"custom","deniedConsentIds":["ads","social"]}},"integrations":{"All":true},"request_ip":"81.2.69.160"}`)
			if !json.Valid(data) {
				b.Fatal("no JSON")
			}
			process(b, conntest.Worker(b, tr), data)
		})
	}
}

// process has a worker work on reads of 100 events.
func process(b *testing.B, w connector.Worker, data []byte) {
	const size = 100
	scope := &event.Scope{Workspace: "ws", Source: "src"}
	n := 0
	read := func() {
		batch := make(event.Batch, size)
		for i := range batch {
			batch[i] = event.New(data)
			batch[i].Meta.Scope = scope
		}
		if all, ok := w.(connector.BatchWorker); ok {
			for _, o := range all.ApplyAll(context.Background(), batch) {
				if o.Err != nil {
					b.Fatal(o.Err)
				}
				n += len(o.Out)
			}
			return
		}
		for _, m := range batch {
			out, err := w.Apply(context.Background(), nil, m)
			if err != nil {
				b.Fatal(err)
			}
			n += len(out)
		}
	}
	read() // what is loaded once
	n = 0
	b.ReportAllocs()
	b.ResetTimer()
	before := used(b)
	for range b.N {
		read()
	}
	cpu := used(b) - before
	if n != 3*size*b.N {
		b.Fatalf("%d events became %d", size*b.N, n)
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N*size), "cpu-ns/event")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
}

// used is how long the process has had a CPU.
func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
