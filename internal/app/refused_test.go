package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRefusedEvent: an event that an HTTP server refuses goes to the failure target of a pipeline
// block at once; in the blocks of a config of Snowbridge it ends the pipeline after its attempts.
// Both say the status, how the answer begins, where the event is, and the rule to write.
func TestRefusedEvent(t *testing.T) {
	t.Parallel()
	for _, block := range []string{"p", ""} {
		t.Run("block "+block, func(t *testing.T) {
			t.Parallel()
			var taken, asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), "poison") {
					asked.Add(1)
					http.Error(w, "this field is not known here", http.StatusBadRequest)
					return
				}
				taken.Add(1)
			}))
			defer s.Close()
			dir := t.TempDir()
			hcl := oversize(t, dir, "", "use \"file\" {\npath = \"DIR/failed\"\n}", "")
			write(t, dir+"/in", `{"n":1}`+"\n"+`{"n":"poison"}`+"\n"+`{"n":3}`+"\n")
			hcl = strings.Replace(hcl, "use \"file\" {\n    path = \"DIR/out\"\n  }", fmt.Sprintf("use \"http\" {\nurl = %q\nbatching {\nmax_batch_messages = 1\nmax_concurrent_batches = 1\n}\n}", s.URL), 1)
			hcl += "retry {\ntransient {\ndelay_ms = 1\nmax_attempts = 2\n}\n}\n"
			if block != "" {
				hcl = "pipeline \"" + block + "\" {\n" + hcl + "}\n"
			}
			p, log := startBeside(t, dir, hcl)
			err := p.result(t)
			said := log.String()
			for _, want := range []string{"400 Bad Request", "this field is not known here", dir + "/in", " at 8", `http_codes = [400]`} {
				if !strings.Contains(said, want) && !strings.Contains(strings.ReplaceAll(said, `\`, ""), want) {
					t.Errorf("the log does not say %q", want)
				}
			}
			if block == "" {
				if err == nil || !strings.Contains(err.Error(), "400 Bad Request") || !strings.Contains(err.Error(), " at 8") || !strings.Contains(err.Error(), `type       = "invalid"`) {
					t.Errorf("Run: %v", err)
				}
				return
			}
			if err != nil || taken.Load() != 2 || asked.Load() != 1 {
				t.Errorf("%v; %d were taken, the other was sent %d times", err, taken.Load(), asked.Load())
			}
			once(t, dir+"/failed", `{"n":"poison"}`)
		})
	}
}
