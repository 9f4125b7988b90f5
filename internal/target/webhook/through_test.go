package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	gatewaysource "github.com/weirdata/weir/internal/source/gateway"
	"github.com/weirdata/weir/internal/target/webhook"
	"github.com/weirdata/weir/internal/transform/fanout"
)

// TestThrough sends events to a gateway and finds them at two destinations: gateway, fanout
// and webhook read one workspace config and understand each other.
func TestThrough(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string][]string{} // bodies by path
	h := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = append(got[r.URL.Path], string(body))
	}))
	t.Cleanup(h.Close)
	hook := func(id, name string) string {
		return fmt.Sprintf(`{"id":%q,"enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"%s/%s"},"destinationDefinition":{"name":"WEBHOOK","displayName":%q}}`, id, h.URL, id, name)
	}
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	text := `{"workspaceId":"ws","sources":[{"id":"src","writeKey":"KEY","enabled":true,"destinations":[` + hook("one", "One") + "," + hook("two", "Two") + `]}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, d := context.Background(), connector.Deps{}
	source, err := gatewaysource.Entry.Build(ctx, d, func(into any) error {
		c := into.(*gatewaysource.Config)
		c.Address, c.WorkspaceConfig = "127.0.0.1:0", path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	transform, err := fanout.Entry.Build(ctx, d, func(into any) error {
		into.(*fanout.Config).WorkspaceConfig = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	target, err := webhook.Entry.Build(ctx, d, func(into any) error {
		into.(*webhook.Config).WorkspaceConfig = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Open(ctx); err != nil {
		t.Fatal(err)
	}
	answer := make(chan int, 1)
	var client sync.WaitGroup
	client.Go(func() {
		body := `{"batch":[{"type":"track","userId":"u","event":"a"},{"type":"track","userId":"u","event":"b","integrations":{"Two":false}}]}`
		r, err := http.NewRequest(http.MethodPost, "http://"+source.(*gatewaysource.Source).Addr().String()+"/v1/batch", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		r.SetBasicAuth("KEY", "")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	})
	b, ack, err := source.Read(ctx, connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	worker, err := transform.Worker()
	if err != nil {
		t.Fatal(err)
	}
	var out event.Batch
	for _, m := range b {
		if out, err = worker.Apply(ctx, out, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.Write(ctx, out); err != nil {
		t.Fatal(err)
	}
	if err := ack(ctx, nil); err != nil {
		t.Fatal(err)
	}
	client.Wait()
	if code := <-answer; code != 200 {
		t.Errorf("answered %d", code)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for _, c := range []interface{ Close(context.Context) error }{source, target} {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	names := func(path string) (all []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, body := range got[path] {
			var e struct {
				Event, MessageID string
				Context          struct{ IP string }
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.MessageID == "" || e.Context.IP != "127.0.0.1" {
				t.Errorf("%v: %s", err, body)
			}
			all = append(all, e.Event)
		}
		return all
	}
	if one, two := fmt.Sprint(names("/one")), fmt.Sprint(names("/two")); one != "[a b]" || two != "[a]" {
		t.Errorf("one has %s, two %s", one, two)
	}
}
