package iceberg_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/iceberg/restcatalog"
	"github.com/weirdata/weir/internal/iceberg/restserver"
	"github.com/weirdata/weir/internal/iceberg/sqlcatalog"
)

// TestRESTServer has PyIceberg read, by its client of the REST protocol, what is in a catalog in
// a file, while more is appended.
func TestRESTServer(t *testing.T) {
	dir := t.TempDir()
	c := sqlite(t, dir)
	s := &restserver.Server{Catalog: c.(*sqlcatalog.Catalog), Read: func(_ context.Context, address string) ([]byte, error) {
		return os.ReadFile(filepath.FromSlash(strings.TrimPrefix(address, "file://")))
	}}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	py := enginetest.PyIcebergWith(t, map[string]string{"type": "rest", "uri": server.URL, "token": "any"})
	for _, n := range []iceberg.Name{name, {"deep", "er", "events"}} {
		l := lakeWith(t, filepath.Join(dir, n.Namespace()), c, iceberg.Options{Name: n, Unit: "hour", Time: "at"})
		l.append(1, l.file(event(1, noon, `,"n":1`)))
		if got := py.Read(t, n.String(), ""); len(got.Rows) != 1 {
			t.Errorf("%s has the rows %v", n, got.Rows)
		}
		l.append(2, l.file(event(2, noon.Add(time.Hour), `,"o":{"x":["a"]}`)))
		got := py.Read(t, n.String(), "at >= '2026-04-07T13:00:00+00:00'")
		if len(got.Rows) != 1 || got.Files != 1 || got.Properties["weir.commit"] != "2" || !strings.Contains(got.Types["o"], "list<string>") {
			t.Errorf("%s is %+v", n, got)
		}
	}
}

// restCatalog is the catalog at an endpoint.
func restCatalog(t testing.TB, endpoint string) iceberg.Catalog {
	t.Helper()
	c, err := restcatalog.Open(t.Context(), restcatalog.Access{URL: endpoint, Token: "any"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func readREST(t testing.TB, endpoint string, n iceberg.Name, filter string) enginetest.PyTable {
	t.Helper()
	return enginetest.PyIcebergWith(t, map[string]string{"type": "rest", "uri": endpoint, "token": "any"}).Read(t, n.String(), filter)
}

// TestREST has a catalog of others keep the metadata, by the protocol: it gives ids of its own,
// columns grow, snapshots expire, and PyIceberg reads the table from it.
func TestREST(t *testing.T) {
	endpoint := enginetest.IcebergCatalog(t)
	n := newName()
	l := lakeOf(t, t.TempDir(), restCatalog(t, endpoint), iceberg.Options{Name: n, Unit: "hour", Time: "at", Snapshots: 3})
	if _, known, err := l.table.Through(t.Context()); known || err != nil {
		t.Fatalf("a table that is not there: %v, %v", known, err)
	}
	l.append(1, l.file(event(1, noon, `,"o":{"x":["a"],"deep":{"y":2}},"n":1`)))
	for i := uint64(2); i < 12; i++ {
		l.append(i, l.file(event(int(i), noon.Add(time.Hour), `,"more":1.5,"o":{"z":true}`)))
	}
	l.append(3, l.file(event(3, noon, "")))
	got := readREST(t, endpoint, n, "")
	if len(got.Rows) != 11 || got.Snapshots > 6 || got.Properties["weir.commit"] != "11" {
		t.Errorf("it has %d rows and %d snapshots, and says %v", len(got.Rows), got.Snapshots, got.Properties)
	}
	first := fmt.Sprint(got.Rows)
	for _, want := range []string{"deep:map[y:2]", "x:[a]", "z:true", "more:1.5", "n:1"} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is not in %s", want, first)
		}
	}
	if hour := readREST(t, endpoint, n, "at < '2026-04-07T13:00:00+00:00'"); len(hour.Rows) != 1 || hour.Files != 1 {
		t.Errorf("one hour is %d rows of %d files", len(hour.Rows), hour.Files)
	}
	if !strings.Contains(got.Properties["schema.name-mapping.default"], `"deep"`) {
		t.Errorf("names are mapped by %q", got.Properties["schema.name-mapping.default"])
	}
}

// TestRESTConflictsAndLostAnswers is the model of TestConflictsAndLostAnswers over it.
func TestRESTConflictsAndLostAnswers(t *testing.T) {
	engine := enginetest.IcebergCatalog(t)
	lossy := faultproxy.NewWeb(t, engine)
	posts, lost := 0, 0
	lossy.On(func(r *http.Request) faultproxy.WebFault {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/tables/events") {
			return nil
		}
		if posts++; posts%5 != 3 {
			return nil
		}
		lost++
		return faultproxy.WebLost
	})
	n := newName()
	conflicts(t, 2, t.TempDir(), n, func(func() bool) iceberg.Catalog { return restCatalog(t, lossy.URL) },
		func(filter string) enginetest.PyTable { return readREST(t, engine, n, filter) })
	if lost == 0 {
		t.Error("no answer was lost: the test shows nothing")
	}
}

// TestRESTRefusals: what a catalog says is told, with what it means for delivery, and nothing
// that is a secret.
func TestRESTRefusals(t *testing.T) {
	for status, want := range map[int]fault.Kind{401: fault.Setup, 403: fault.Setup, 404: fault.Setup, 406: fault.Setup, 429: fault.Throttled, 500: fault.Transient, 503: fault.Transient} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer hush-hush" {
				t.Errorf("a request has %q", r.Header.Get("Authorization"))
			}
			if r.URL.Path == "/v1/config" {
				_, _ = io.WriteString(w, `{"defaults":{"prefix":"not/this"},"overrides":{"prefix":"a b/c"}}`)
				return
			}
			if want := "/v1/a%20b/c/namespaces/lake/tables/events"; r.URL.EscapedPath() != want {
				t.Errorf("asked for %s, not %s", r.URL.EscapedPath(), want)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":{"message":"no\nat line 1","type":"Whatever","code":1}}`)
		}))
		c, err := restcatalog.Open(t.Context(), restcatalog.Access{URL: server.URL + "/", Token: "hush-hush"}, "test")
		if err != nil {
			t.Fatal(err)
		}
		l := lakeOf(t, t.TempDir(), c, iceberg.Options{})
		_, _, err = l.table.Through(t.Context())
		if fault.Of(err) != want || err == nil || !strings.Contains(err.Error(), "Whatever: no") || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "line 1") {
			t.Errorf("%d is %v: %v", status, fault.Of(err), err)
		}
		server.Close()
		if _, _, err := l.table.Through(t.Context()); fault.Of(err) != fault.Transient || err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("a catalog that has gone: %v", err)
		}
		_ = c.Close()
	}
}

func TestRESTAccessIsChecked(t *testing.T) {
	for field, a := range map[string]restcatalog.Access{
		"url":              {URL: "catalog"},
		"oauth2.client_id": {URL: "https://c", OAuth2: &httpclient.OAuthClient{TokenURL: "https://c/token"}},
		"oauth2.token_url": {URL: "https://c", OAuth2: &httpclient.OAuthClient{ClientID: "c", TokenURL: "token"}},
		"sigv4.region":     {URL: "https://c", SigV4: &restcatalog.SigV4{Region: "Frankfurt am Main"}},
	} {
		if ps := a.Problems(); len(ps) != 1 || ps[0].Field != field {
			t.Errorf("%s: %v", field, ps)
		}
	}
	two := restcatalog.Access{URL: "https://c", Token: "t", SigV4: &restcatalog.SigV4{}}
	if ps := two.Problems(); len(ps) != 1 || len((restcatalog.Access{URL: "https://c/api"}).Problems()) != 0 {
		t.Errorf("two ways: %v", ps)
	}
}
