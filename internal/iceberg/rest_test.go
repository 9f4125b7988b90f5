package iceberg_test

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/iceberg"
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
