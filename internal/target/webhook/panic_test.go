package webhook

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestPanic: a defect in delivering is the error of its message alone.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := serve(t)
	w := build(t, nil, destination("d", `{"webhookUrl":"`+h.URL+`"}`, ""))
	w.client.Transport().Proxy = func(r *http.Request) (*url.URL, error) {
		if strings.Contains(r.URL.Path, "bad") {
			panic("a defect")
		}
		return nil, nil
	}
	b := event.Batch{message("d", "k", `{"n":1}`), message("d", "k", `{"n":2,"appendPath":"/bad"}`), message("d", "k", `{"n":3}`), message("d", "", `{"n":4}`)}
	err := w.Write(context.Background(), b)
	partial, ok := err.(*connector.Partial)
	if !ok || len(partial.Failed) != 1 || fault.Of(partial.Failed[1]) != fault.Invalid || !strings.Contains(partial.Failed[1].Error(), "a defect") {
		t.Fatalf("%v", err)
	}
	if got := h.all(); len(got) != 3 {
		t.Errorf("%d delivered, want 3", len(got))
	}
}
