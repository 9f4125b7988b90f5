package restserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/iceberg/restserver"
)

// fixed is a catalog in memory.
type fixed struct {
	tables map[string]string // where the metadata of a table is, by its name with dots
	empty  [][]string        // namespaces without tables
	err    error
}

func (f fixed) Get(_ context.Context, n iceberg.Name) (iceberg.Ref, error) {
	at, ok := f.tables[n.String()]
	if f.err != nil || !ok {
		return iceberg.Ref{}, errors.Join(f.err, iceberg.ErrNoTable)
	}
	return iceberg.Ref{Location: at}, nil
}

func (f fixed) Tables(_ context.Context, namespace []string) (names []string, known bool, err error) {
	for n := range f.tables {
		if name, ok := strings.CutPrefix(n, strings.Join(namespace, ".")+"."); ok && !strings.Contains(name, ".") {
			names, known = append(names, name), true
		}
	}
	return names, known, f.err
}

func (f fixed) Namespaces(context.Context) ([][]string, error) {
	all := append([][]string{}, f.empty...)
	for n := range f.tables {
		parts := strings.Split(n, ".")
		all = append(all, parts[:len(parts)-1])
	}
	return all, f.err
}

// metadata has two snapshots, one of which a branch names.
const metadata = `{"format-version":2,"snapshots":[{"snapshot-id":1},{"snapshot-id":9007199254740993,"kept":9007199254740993}],"refs":{"main":{"snapshot-id":9007199254740993,"type":"branch"}},"unknown":{"a":1}}` + "\n"

func serve(t *testing.T, c fixed) *httptest.Server {
	t.Helper()
	s := &restserver.Server{
		Catalog: c, Properties: map[string]string{"s3.region": "eu-central-1"}, Log: slog.New(slog.DiscardHandler),
		Read: func(_ context.Context, address string) ([]byte, error) {
			if address != "file:///m.json" {
				return nil, errors.New("secret reason")
			}
			return []byte(metadata), nil
		},
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

// ask is status and answer of a request.
func ask(t *testing.T, s *httptest.Server, method, path string, header ...string) (status int, text string, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body)), resp.Header
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, fixed{tables: map[string]string{"lake.events": "file:///m.json", "a.b.c.deep": "file:///m.json", "lake.broken": "file:///gone.json"}, empty: [][]string{{"empty"}}})
	for _, c := range []struct {
		method, path string
		status       int
		has          string
	}{
		{"GET", "/v1/config?warehouse=any", 200, `"defaults":{"s3.region":"eu-central-1"}`},
		{"GET", "/v1/namespaces", 200, `["empty"]`},
		{"GET", "/v1/namespaces?parent=a%1Fb", 200, `{"namespaces":[["a","b","c"]]}`},
		{"GET", "/v1/namespaces?parent=lake", 200, `{"namespaces":[]}`},
		{"GET", "/v1/namespaces?parent=none", 404, "NoSuchNamespaceException"},
		{"GET", "/v1/namespaces/lake", 200, `{"namespace":["lake"],"properties":{}}`},
		{"HEAD", "/v1/namespaces/lake", 200, ""},
		{"HEAD", "/v1/namespaces/none", 404, ""},
		{"GET", "/v1/namespaces/a%1Fb%1Fc/tables", 200, `{"identifiers":[{"namespace":["a","b","c"],"name":"deep"}]}`},
		{"GET", "/v1/namespaces/a/tables", 200, `{"identifiers":[]}`},
		{"GET", "/v1/namespaces/empty/tables", 200, `{"identifiers":[]}`},
		{"GET", "/v1/namespaces/none/tables", 404, "NoSuchNamespaceException"},
		{"GET", "/v1/namespaces/lake/tables/events", 200, `"metadata-location":"file:///m.json"`},
		{"GET", "/v1/namespaces/a%1Fb%1Fc/tables/deep", 200, `9007199254740993`},
		{"HEAD", "/v1/namespaces/lake/tables/events", 200, ""},
		{"HEAD", "/v1/namespaces/lake/tables/none", 404, ""},
		{"GET", "/v1/namespaces/lake/tables/none", 404, "NoSuchTableException"},
		{"GET", "/v1/namespaces/lake/tables/broken", 500, "the log of the server"},
		{"POST", "/v1/namespaces/lake/tables/events/metrics", 204, ""},
		{"POST", "/v1/namespaces/lake/tables/events", 406, "UnsupportedOperationException"},
		{"DELETE", "/v1/namespaces/lake/tables/events", 406, "UnsupportedOperationException"},
		{"POST", "/v1/namespaces", 406, "UnsupportedOperationException"},
		{"GET", "/v1/views", 404, "NotFoundException"},
		{"GET", "/", 404, "NotFoundException"},
	} {
		status, text, _ := ask(t, s, c.method, c.path)
		if status != c.status || !strings.Contains(text, c.has) || strings.Contains(text, "secret") {
			t.Errorf("%s %s: %d %s, not %d %s", c.method, c.path, status, text, c.status, c.has)
		}
	}
	if status, text, _ := ask(t, serve(t, fixed{err: errors.New("secret reason")}), "GET", "/v1/namespaces"); status != 500 || strings.Contains(text, "secret") {
		t.Errorf("a catalog that fails: %d %s", status, text)
	}
}

func TestSnapshotsAndTags(t *testing.T) {
	t.Parallel()
	s := serve(t, fixed{tables: map[string]string{"lake.events": "file:///m.json"}})
	const path = "/v1/namespaces/lake/tables/events"
	_, text, h := ask(t, s, "GET", path+"?snapshots=refs")
	var got struct {
		Metadata struct {
			Snapshots []struct {
				Kept json.Number `json:"kept"`
			} `json:"snapshots"`
			Unknown map[string]int `json:"unknown"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Metadata.Snapshots) != 1 || got.Metadata.Snapshots[0].Kept != "9007199254740993" || got.Metadata.Unknown["a"] != 1 {
		t.Errorf("the snapshots of branches are %s, %v", text, err)
	}
	if status, text, _ := ask(t, s, "GET", path+"?snapshots=refs", "If-None-Match", h.Get("ETag")); status != 304 || text != "" {
		t.Errorf("asked again: %d %s", status, text)
	}
	if status, _, _ := ask(t, s, "GET", path, "If-None-Match", h.Get("ETag")); status != 200 {
		t.Errorf("all snapshots, with the tag of some: %d", status)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer((&restserver.Server{Catalog: fixed{}, Token: "hush-hush"}).Handler())
	t.Cleanup(server.Close)
	for said, want := range map[string]int{"": 401, "Bearer": 401, "Bearer hush": 401, "Basic hush-hush": 401, "Bearer hush-hush": 200, "bearer hush-hush": 200} {
		if status, text, _ := ask(t, server, "GET", "/v1/namespaces", "Authorization", said); status != want || strings.Contains(text, "hush") {
			t.Errorf("%q: %d %s", said, status, text)
		}
	}
}
