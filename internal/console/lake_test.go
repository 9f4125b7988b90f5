package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/api"
)

// pond is a lake in which a query waits until it is let go.
type pond struct{ asked, answer chan error }

func (p pond) Datasets(context.Context) ([]Dataset, error) { return nil, errors.New("not started yet") }

func (p pond) Query(ctx context.Context, _, _ string) (*LakeAnswer, error) {
	p.asked <- nil
	select {
	case err := <-p.answer:
		return &LakeAnswer{Rows: [][]*string{}}, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestLakeQueries: as many are asked at once as may be, who may not see payloads asks nothing, and an
// error of who asks is told as one.
func TestLakeQueries(t *testing.T) {
	t.Parallel()
	c, _ := made(t, 1)
	p := pond{make(chan error), make(chan error)}
	c.o.Lakes = p
	access := func() *api.Access { return &api.Access{Token: "secret-4711"} }
	h := api.Handler(access, c.Routes(access))
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer secret-4711")
		h.ServeHTTP(w, r)
		return w
	}
	const query = `{"dataset":"a","query":"SELECT 1"}`
	answers := make(chan int, mostAsked)
	for range mostAsked {
		go func() { answers <- ask("POST", "/v1/lake/query", query).Code }()
		<-p.asked
	}
	if w := ask("POST", "/v1/lake/query", query); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s", w.Code, w.Body)
	}
	p.answer <- nil
	p.answer <- fmt.Errorf("%w: no such column", ErrQuery)
	if got := <-answers + <-answers; got != http.StatusOK+http.StatusBadRequest {
		t.Errorf("the answers add up to %d", got)
	}
	if w := ask("GET", "/v1/lake/datasets", ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "not started yet") {
		t.Errorf("before the start: %d %s", w.Code, w.Body)
	}
	if w := ask("POST", "/v1/lake/query", `{"dataset":"a","query":"`+strings.Repeat("x", longestQuery+1)+`"}`); w.Code != http.StatusBadRequest {
		t.Errorf("a query that is too long: %d %s", w.Code, w.Body)
	}
	for _, r := range c.lakes() {
		if want := map[string]api.Right{"/v1/lake/datasets": api.See, "/v1/lake/query": api.Payloads}[r.Path]; r.Right != want {
			t.Errorf("%s needs %s", r.Path, r.Right)
		}
	}
}
