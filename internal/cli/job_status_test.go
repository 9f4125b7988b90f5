//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/runs"
)

// running is a run of a job that sends events to gateways, of which some fail at their destination.
type running struct {
	t         *testing.T
	events    int
	refuses   int // one of so many
	addresses []string
	next      atomic.Int64
	accepted  []atomic.Bool
}

// refusing is a destination that refuses one event of n for good.
func refusing(t *testing.T, n int) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, _ := jsontext.FindBytes(body, []string{"recordId"})
		if i, err := strconv.Atoi(string(id)); err != nil || i%n == 0 {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// ranWorkspace has a source with two destinations, both of which refuse one event of n.
func ranWorkspace(t *testing.T, n int) string {
	destination := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"name":%q,"enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":%q},
			"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook","config":{"supportedMessageTypes":["track"]}}}`, id, id, refusing(t, n))
	}
	return `{"workspaceId":"ws","sources":[{"id":"src","name":"src","writeKey":"key","enabled":true,"destinations":[` + destination("d1") + "," + destination("d2") + `]}]}`
}

func (r *running) send(i, at int) {
	body := fmt.Sprintf(`{"batch":[{"type":"track","userId":"u%d","event":"e","messageId":"m-%d","recordId":%d,"context":{"sources":{"job_run_id":"run","task_run_id":"task"}}}]}`, i%50, i, i)
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.addresses[at]+"/internal/v1/retl", strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return
	}
	q.Header.Set("X-Rudder-Source-Id", "src")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		r.accepted[i].Store(true)
	}
}

// until sends until so many more events were sent, from several clients at once.
func (r *running) until(more int, then func()) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	before := r.next.Load()
	for c := range 6 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.send(int(r.next.Add(1)*7)%r.events, c%len(r.addresses))
				}
			}
		})
	}
	eventually(r.t, "some events", func() bool { return r.next.Load() > before+int64(more) })
	then()
	close(stop)
	wg.Wait()
}

// all sends what was not accepted.
func (r *running) all() {
	eventually(r.t, "every event is accepted", func() bool {
		all := true
		for i := range r.accepted {
			if !r.accepted[i].Load() {
				all = false
				r.send(i, i%len(r.addresses))
			}
		}
		return all
	})
}

func fetched(t *testing.T, address, path string, into any) bool {
	t.Helper()
	resp, err := http.Get("http://" + address + runs.Path + path)
	if err != nil {
		return false
	}
	text, err := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(text, into) == nil
}

// counted waits until the run is completed, and compares its counts with what was sent.
func (r *running) counted(address string) {
	r.t.Helper()
	var st runs.Status
	eventually(r.t, "the run is completed", func() bool {
		st = runs.Status{}
		return fetched(r.t, address, "run", &st) && len(st.Tasks) == 1 && st.Tasks[0].Sources[0].Completed && len(st.Tasks[0].Sources[0].Destinations) == 2
	})
	n, bad := int64(r.events), int64((r.events+r.refuses-1)/r.refuses)
	source := st.Tasks[0].Sources[0]
	if source.Stats.In < n || source.Stats.In != source.Stats.Out || source.Stats.Failed != 0 {
		r.t.Errorf("the source counts %+v of %d events", source.Stats, n)
	}
	for _, d := range source.Destinations {
		if want := (runs.Stats{In: n, Out: n - bad, Failed: bad}); d.Stats != want {
			r.t.Errorf("%s counts %+v, want %+v", d.ID, d.Stats, want)
		}
	}
	got := map[string][]int{}
	for token, more := "", true; more; {
		var f runs.Failures
		if !fetched(r.t, address, "run/failed-records?pageSize=13&pageToken="+token, &f) {
			r.t.Fatal("the failed records cannot be read")
		}
		for _, task := range f.Tasks {
			for _, d := range task.Sources[0].Destinations {
				for _, x := range d.Records {
					i, err := strconv.Atoi(string(x.Record))
					if err != nil || x.Code != http.StatusBadRequest {
						r.t.Errorf("record %s, code %d", x.Record, x.Code)
					}
					got[d.ID] = append(got[d.ID], i)
				}
			}
		}
		if more = f.Paging != nil; more {
			token = f.Paging.Next
		}
	}
	var want []int
	for i := 0; i < r.events; i += r.refuses {
		want = append(want, i)
	}
	for _, d := range []string{"d1", "d2"} {
		if slices.Sort(got[d]); !slices.Equal(got[d], want) {
			r.t.Errorf("%s: failed are %v, want %v", d, got[d], want)
		}
	}
}

const ranCollect = `
collect "shop" {
  gateway {
    address            = %q
    internal_endpoints = true
  }
  workspace {
    config = "ws.json"
  }
  processor {
    deduplicate {}
  }
  %s
}
`

// TestJobStatusSurvivesKill: the counts of a run are exact, however often the process is killed while its
// events come in, are processed and delivered.
func TestJobStatusSurvivesKill(t *testing.T) {
	t.Parallel()
	r := &running{t: t, events: 300, refuses: 10, addresses: []string{addresstest.Free(t)}, accepted: make([]atomic.Bool, 300)}
	dir := files(t, "p.hcl", "store {\n  use \"embedded\" {\n    path = \"store\"\n  }\n}\n"+fmt.Sprintf(ranCollect, r.addresses[0], ""), "ws.json", ranWorkspace(t, r.refuses))
	for range 3 {
		p := launch(t, weir(t, dir, "run", "p.hcl"))
		r.until(100, func() {
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-p.ended
		})
	}
	launch(t, weir(t, dir, "run", "p.hcl"))
	r.all()
	r.counted(r.addresses[0])
}

// TestJobStatusTogether: the counts of a run are one, and exact, over two processes that share a store in
// PostgreSQL, one of which is killed in between.
func TestJobStatusTogether(t *testing.T) {
	t.Parallel()
	url := enginetest.Postgres(t)
	r := &running{t: t, events: 200, refuses: 7, addresses: []string{addresstest.Free(t), addresstest.Free(t)}, accepted: make([]atomic.Bool, 200)}
	var processes []*process
	ws := ranWorkspace(t, r.refuses)
	var dirs []string
	for _, address := range r.addresses {
		dir := files(t, "p.hcl", fmt.Sprintf("store {\n  use \"postgres\" {\n    dsn = %q\n  }\n}\n", url)+fmt.Sprintf(ranCollect, address, ""), "ws.json", ws)
		dirs = append(dirs, dir)
		processes = append(processes, launch(t, weir(t, dir, "run", "p.hcl")))
	}
	r.until(100, func() {
		if err := processes[1].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-processes[1].ended
	})
	launch(t, weir(t, dirs[1], "run", "p.hcl"))
	r.all()
	for _, address := range r.addresses {
		r.counted(address)
	}
}

// TestJobStatusOfFailures: what a failure target has of an event counts as failed, not as out.
func TestJobStatusOfFailures(t *testing.T) {
	t.Parallel()
	r := &running{t: t, events: 60, refuses: 4, addresses: []string{addresstest.Free(t)}, accepted: make([]atomic.Bool, 60)}
	router := "router {\n    failure_target {\n      use \"file\" {\n        path = \"failed.jsonl\"\n      }\n    }\n  }"
	dir := files(t, "p.hcl", "store {\n  use \"embedded\" {\n    path = \"store\"\n  }\n}\n"+fmt.Sprintf(ranCollect, r.addresses[0], router), "ws.json", ranWorkspace(t, r.refuses))
	launch(t, weir(t, dir, "run", "p.hcl"))
	r.all()
	r.counted(r.addresses[0])
	if got := strings.Count(read(t, filepath.Join(dir, "failed.jsonl")), "\n"); got < 2*r.events/r.refuses {
		t.Errorf("the failure target has %d events", got)
	}
}

// TestCancelledRun: the events of a run that was cancelled fail, though their destination is away and they
// would be tried again; those of other runs do not.
func TestCancelledRun(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(down.Close)
	r := &running{t: t, events: 20, addresses: []string{addresstest.Free(t)}, accepted: make([]atomic.Bool, 20)}
	retry := "router {\n    retry {\n      transient {\n        delay_ms     = 200\n        max_delay_ms = 200\n      }\n    }\n  }"
	ws := fmt.Sprintf(`{"workspaceId":"ws","sources":[{"id":"src","name":"src","writeKey":"key","enabled":true,"destinations":[{"id":"d","name":"d","enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":%q},
		"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook","config":{"supportedMessageTypes":["track"]}}}]}]}`, down.URL)
	dir := files(t, "p.hcl", "store {\n  use \"embedded\" {\n    path = \"store\"\n  }\n}\n"+fmt.Sprintf(ranCollect, r.addresses[0], retry), "ws.json", ws)
	launch(t, weir(t, dir, "run", "p.hcl"))
	r.all()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.addresses[0]+runs.DrainPath+"run", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%d %v", resp.StatusCode, err)
	}
	eventually(t, "every event has failed", func() bool {
		var st runs.Status
		if !fetched(t, r.addresses[0], "run", &st) {
			return false
		}
		source := st.Tasks[0].Sources[0]
		failed := source.Stats.Failed
		for _, d := range source.Destinations {
			failed += d.Stats.Failed
		}
		return source.Completed && failed == 20
	})
}
