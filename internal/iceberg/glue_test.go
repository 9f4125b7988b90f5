package iceberg_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg"
)

// glueKeys are credentials for stand-ins, which take any.
func glueKeys(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "weir")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "weir")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func glueCatalog(t testing.TB, endpoint string) iceberg.Pointer {
	t.Helper()
	c, err := glue.NewCatalog(t.Context(), glue.Access{Region: "eu-central-1", CustomAWSEndpoint: endpoint}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newName is a table in a database of its own.
func newName() iceberg.Name {
	return iceberg.Name{"weir_" + strings.ToLower(rand.Text()), "events"}
}

func readGlue(t testing.TB, endpoint string, n iceberg.Name, filter string) enginetest.PyTable {
	t.Helper()
	return enginetest.PyIcebergWith(t, map[string]string{
		"type": "glue", "glue.endpoint": endpoint, "glue.region": "eu-central-1", "glue.access-key-id": "weir", "glue.secret-access-key": "weir",
	}).Read(t, n.String(), filter)
}

// TestGlue has PyIceberg read a table by its own client of Glue.
func TestGlue(t *testing.T) {
	glueKeys(t)
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	dir, n := t.TempDir(), newName()
	l := lakeWith(t, dir, glueCatalog(t, rules.URL), iceberg.Options{Name: n, Unit: "hour", Time: "at"})
	if _, known, err := l.table.Through(t.Context()); known || err != nil {
		t.Fatalf("a table that is not there: %v, %v", known, err)
	}
	l.append(1, l.file(event(1, noon, `,"n":1,"o":{"x":["a"]}`)))
	l.append(2, l.file(event(2, noon.Add(time.Hour), `,"f":1.5`)))
	got := readGlue(t, rules.URL, n, "at >= '2026-04-07T13:00:00+00:00'")
	if len(got.Rows) != 1 || got.Files != 1 || got.Types["o"] != "struct<5: x: optional list<string>>" || got.Properties["weir.commit"] != "2" {
		t.Errorf("PyIceberg finds %+v", got)
	}
}

// TestGlueConflictsAndLostAnswers is the model of TestConflictsAndLostAnswers over a catalog that
// fences by versions, whose answers are lost on the way too.
func TestGlueConflictsAndLostAnswers(t *testing.T) {
	glueKeys(t)
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	lossy := faultproxy.NewAWS(t, rules.URL)
	lost := 0
	lossy.On("UpdateTable", func(c *faultproxy.Call) faultproxy.Action {
		if c.N%5 == 3 {
			lost++
			return faultproxy.Lost
		}
		return nil
	})
	lossy.On("CreateTable", func(c *faultproxy.Call) faultproxy.Action {
		if c.N == 2 { // before that there is no database
			lost++
			return faultproxy.Lost
		}
		return nil
	})
	dir, n := t.TempDir(), newName()
	conflicts(t, 1, dir, n, losing(func() iceberg.Pointer { return glueCatalog(t, lossy.URL) }),
		func(filter string) enginetest.PyTable { return readGlue(t, rules.URL, n, filter) })
	if lost == 0 {
		t.Error("no answer was lost: the test shows nothing")
	}
}

// TestGlueFence: a commit whose table is changed between its look and its change is refused by
// the version, and made anew of what is there then.
func TestGlueFence(t *testing.T) {
	glueKeys(t)
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	dir, n := t.TempDir(), newName()
	other := lakeWith(t, dir, glueCatalog(t, rules.URL), iceberg.Options{Name: n})
	other.append(1, other.file(event(1, noon, "")))
	ours, theirs := other.file(event(2, noon, "")), other.file(event(3, noon, ""))
	var once sync.Once
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".UpdateTable") {
			once.Do(func() { other.append(2, theirs) })
		}
		rules.ServeHTTP(w, r)
	}))
	defer between.Close()
	l := lakeWith(t, dir, glueCatalog(t, between.URL), iceberg.Options{Name: n})
	l.append(3, ours)
	if rules.Stale() != 1 {
		t.Errorf("%d changes were of an old version, not 1", rules.Stale())
	}
	if got := readGlue(t, rules.URL, n, ""); len(got.Rows) != 3 {
		t.Errorf("the table has %d rows, not 3", len(got.Rows))
	}
}

// TestGlueKeepsWhatOthersSay: a commit changes where the metadata is and the columns, and
// nothing else of an entry.
func TestGlueKeepsWhatOthersSay(t *testing.T) {
	glueKeys(t)
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	n := newName()
	l := lakeWith(t, t.TempDir(), glueCatalog(t, rules.URL), iceberg.Options{Name: n})
	l.append(1, l.file(event(1, noon, "")))
	entry := glueEntry(t, rules.URL, n)
	entry["Description"] = "ours"
	entry["Parameters"].(map[string]any)["owner"] = "team"
	entry["StorageDescriptor"].(map[string]any)["Columns"].([]any)[0].(map[string]any)["Comment"] = "who it is"
	changeGlueEntry(t, rules.URL, n, entry)
	l.append(2, l.file(event(2, noon, `,"n":1,"o":{"x":["a"],"y":{"z":1.5}},"ok":true`)))
	now := glueEntry(t, rules.URL, n)
	parameters := now["Parameters"].(map[string]any)
	if now["Description"] != "ours" || parameters["owner"] != "team" {
		t.Errorf("it says %v", now)
	}
	if parameters["table_type"] != "ICEBERG" || parameters["previous_metadata_location"] == nil {
		t.Errorf("its parameters are %v", parameters)
	}
	types := map[string]string{}
	for _, c := range now["StorageDescriptor"].(map[string]any)["Columns"].([]any) {
		c := c.(map[string]any)
		types[c["Name"].(string)] = c["Type"].(string)
		if c["Name"] == "id" && c["Comment"] != "who it is" {
			t.Errorf("the comment is lost: %v", c)
		}
	}
	for column, want := range map[string]string{"id": "string", "at": "timestamp", "n": "bigint", "o": "struct<x:array<string>,y:struct<z:double>>", "ok": "boolean"} {
		if types[column] != want {
			t.Errorf("the column %s is %q, not %q", column, types[column], want)
		}
	}
}

// TestGlueTablesOfOthersAreRefused: an entry that is no Iceberg table is not made one.
func TestGlueTablesOfOthersAreRefused(t *testing.T) {
	glueKeys(t)
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	n := newName()
	l := lakeWith(t, t.TempDir(), glueCatalog(t, rules.URL), iceberg.Options{Name: n})
	l.append(1, l.file(event(1, noon, "")))
	entry := glueEntry(t, rules.URL, n)
	delete(entry["Parameters"].(map[string]any), "table_type")
	changeGlueEntry(t, rules.URL, n, entry)
	if _, _, err := l.table.Through(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "no Iceberg table") {
		t.Errorf("it is taken with %v", err)
	}
}

// askGlue makes a call as any client would.
func askGlue(t testing.TB, endpoint, operation string, body, out any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AWSGlue."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=weir/20260407/eu-central-1/glue/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", operation, resp.Status, answer, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatal(err)
	}
}

// glueEntry is what Glue says of a table.
func glueEntry(t testing.TB, endpoint string, n iceberg.Name) map[string]any {
	t.Helper()
	var out struct{ Table map[string]any }
	askGlue(t, endpoint, "GetTable", map[string]string{"DatabaseName": n[0], "Name": n[1]}, &out)
	return out.Table
}

// changeGlueEntry changes it as somebody else would.
func changeGlueEntry(t testing.TB, endpoint string, n iceberg.Name, entry map[string]any) {
	t.Helper()
	version := entry["VersionId"]
	for _, name := range []string{"DatabaseName", "VersionId", "CreateTime", "UpdateTime", "CatalogId", "CreatedBy", "IsRegisteredWithLakeFormation"} {
		delete(entry, name)
	}
	askGlue(t, endpoint, "UpdateTable", map[string]any{"DatabaseName": n[0], "TableInput": entry, "VersionId": version}, nil)
}
