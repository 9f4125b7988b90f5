package lake

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/glue"
)

// hived is a config with a table of Hive in a database of its own.
func hived(t testing.TB, path, endpoint string, change func(*Config)) Config {
	t.Helper()
	environment(enginetest.S3(t))
	return config(path, func(c *Config) {
		c.TimeField, c.PartitionBy = "at", []string{"year", "month", "day", "hour"}
		c.Table = &Table{Name: "weir_" + strings.ToLower(rand.Text()) + ".events", Format: formatHive, Glue: &glue.Access{Region: "us-east-1", CustomAWSEndpoint: endpoint}}
		if change != nil {
			change(c)
		}
	})
}

// glueAsk makes a call of Glue.
func glueAsk(t testing.TB, endpoint, operation string, body, out any) {
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
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=weir/20260407/us-east-1/glue/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", operation, resp.Status, answer, err)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatal(err)
	}
}

// entry is a table as Glue has it.
type entry struct {
	Parameters        map[string]string
	PartitionKeys     []struct{ Name, Type string }
	StorageDescriptor struct {
		Location string
		Columns  []struct{ Name, Type string }
	}
}

func entryOf(t testing.TB, endpoint, name string) (e entry) {
	t.Helper()
	database, table, _ := strings.Cut(name, ".")
	var out struct{ Table entry }
	glueAsk(t, endpoint, "GetTable", map[string]string{"DatabaseName": database, "Name": table}, &out)
	return out.Table
}

func (e entry) columns() map[string]string {
	m := map[string]string{}
	for _, c := range e.StorageDescriptor.Columns {
		m[c.Name] = c.Type
	}
	return m
}

// partitionsOf are the folders of a table's partitions.
func partitionsOf(t testing.TB, endpoint, name string) (folders []string) {
	t.Helper()
	database, table, _ := strings.Cut(name, ".")
	var out struct {
		Partitions []struct {
			Values            []string
			StorageDescriptor struct{ Location string }
		}
		NextToken string
	}
	glueAsk(t, endpoint, "GetPartitions", map[string]string{"DatabaseName": database, "TableName": table}, &out)
	if out.NextToken != "" {
		t.Fatal("there are more partitions")
	}
	for _, p := range out.Partitions {
		v := p.Values
		folder := fmt.Sprintf("year=%s/month=%s/day=%s/hour=%s", v[0], v[1], v[2], v[3])
		if !strings.HasSuffix(p.StorageDescriptor.Location, "/"+folder+"/") {
			t.Errorf("the partition %s is in %s", folder, p.StorageDescriptor.Location)
		}
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	return folders
}

// hourly is an event of the n-th hour.
func hourly(n int, more string) string {
	return fmt.Sprintf(`{"id":"e%d","at":%q%s}`, n, time.Date(2026, 4, 7, n, 0, 0, 0, time.UTC).Format(time.RFC3339), more)
}

func hourFolder(n int) string {
	return time.Date(2026, 4, 7, n, 0, 0, 0, time.UTC).Format("year=2006/month=01/day=02/hour=15")
}

func closes(t testing.TB, target *Target) {
	t.Helper()
	if err := target.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestHiveTable: columns and folders are in the catalog, batches are as large as the service
// takes, and what others have said of a column stays.
func TestHiveTable(t *testing.T) {
	t.Parallel()
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	path := filepath.Join(t.TempDir(), "lake")
	c := hived(t, path, rules.URL, func(c *Config) { c.Table.ProjectionYears = []int{2024, 2034} })
	target := opened(t, c)
	var all, want []string
	for n := range 230 {
		all, want = append(all, hourly(n, `,"o":{"x":1}`)), append(want, hourFolder(n))
	}
	writes(t, target, batch(all...))
	if err := target.Check(t.Context()); err != nil {
		t.Error(err)
	}
	closes(t, target)
	slices.Sort(want)
	if got := partitionsOf(t, rules.URL, c.Table.Name); !slices.Equal(got, want) {
		t.Errorf("%d partitions are registered, not %d", len(got), len(want))
	}
	if got := rules.Batches(); slices.Max(got) > 100 {
		t.Errorf("the batches are %v", got)
	}
	e := entryOf(t, rules.URL, c.Table.Name)
	if got := fmt.Sprint(e.columns()); got != "map[at:timestamp id:string o:struct<x:bigint>]" {
		t.Errorf("the columns are %s", got)
	}
	if got := fmt.Sprint(e.PartitionKeys); got != "[{year string} {month string} {day string} {hour string}]" {
		t.Errorf("the keys are %s", got)
	}
	for name, value := range map[string]string{
		"classification": "parquet", "projection.enabled": "true", "projection.year.range": "2024,2034", "projection.hour.digits": "2",
		"storage.location.template": "file://" + path + "/year=${year}/month=${month}/day=${day}/hour=${hour}/",
	} {
		if e.Parameters[name] != value {
			t.Errorf("%s is %q, not %q", name, e.Parameters[name], value)
		}
	}
	// One more column, one more member, one more hour; the catalog has been asked for what it has.
	before := len(rules.Batches())
	target = opened(t, c)
	writes(t, target, batch(hourly(3, ""), hourly(300, `,"o":{"y":{"z":["a"]}},"N":2`)))
	closes(t, target)
	if got := rules.Batches()[before:]; len(got) != 1 || got[0] != 1 {
		t.Errorf("one new folder is registered by the batches %v", got)
	}
	if got := fmt.Sprint(entryOf(t, rules.URL, c.Table.Name).columns()); got != "map[at:timestamp id:string n:bigint o:struct<x:bigint,y:struct<z:array<string>>>]" {
		t.Errorf("the columns are %s", got)
	}
	// Another dataset does not take the entry over.
	other := c
	other.Path = filepath.Join(t.TempDir(), "other")
	target = opened(t, other)
	if err := target.Check(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the entry of another dataset: %v", err)
	}
}

// TestHiveOutbox: a catalog that fails keeps nobody from landing, and has all that has landed
// as soon as it does not, in this run or in another.
func TestHiveOutbox(t *testing.T) {
	t.Parallel()
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	broken := faultproxy.NewAWS(t, rules.URL)
	broken.On("", faultproxy.Always(faultproxy.Cut))
	path := filepath.Join(t.TempDir(), "lake")
	c := hived(t, path, broken.URL, nil)
	target := opened(t, c)
	for n := range 5 {
		writes(t, target, batch(hourly(n, "")))
	}
	closes(t, target) // and with it all that the process knew
	target = opened(t, c)
	writes(t, target, batch(hourly(5, `,"n":1`)))
	// Some answers are lost, and what was registered then is registered again.
	broken.Heal()
	broken.On("BatchCreatePartition", faultproxy.Times(1, faultproxy.Lost))
	broken.On("CreateTable", faultproxy.Times(1, faultproxy.Lost))
	for !target.registry.Idle() {
		time.Sleep(20 * time.Millisecond) // the test's own limit ends it
	}
	if got := partitionsOf(t, rules.URL, c.Table.Name); len(got) != 6 {
		t.Errorf("the partitions are %v", got)
	}
	if got := fmt.Sprint(entryOf(t, rules.URL, c.Table.Name).columns()); got != "map[at:timestamp id:string n:bigint]" {
		t.Errorf("the columns are %s", got)
	}
	// Somebody removes the table: it is made anew, with everything.
	database, table, _ := strings.Cut(c.Table.Name, ".")
	glueAsk(t, rules.URL, "DeleteTable", map[string]string{"DatabaseName": database, "Name": table}, &struct{}{})
	writes(t, target, batch(hourly(6, "")))
	for !target.registry.Idle() {
		time.Sleep(20 * time.Millisecond)
	}
	if got := partitionsOf(t, rules.URL, c.Table.Name); len(got) != 7 {
		t.Errorf("after the table was removed the partitions are %v", got)
	}
}

// TestHiveEntriesFailAlone: a partition that is refused is tried again, and keeps no other from
// being registered.
func TestHiveEntriesFailAlone(t *testing.T) {
	t.Parallel()
	rules := faultproxy.NewGlue(t, enginetest.Moto(t))
	var mu sync.Mutex
	refused := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in map[string]any
		if err != nil || json.Unmarshal(body, &in) != nil {
			return
		}
		all, _ := in["PartitionInputList"].([]any)
		var errs []any
		mu.Lock()
		if len(all) > 0 && refused < 2 {
			refused++
			errs = append(errs, map[string]any{"PartitionValues": all[0].(map[string]any)["Values"], "ErrorDetail": map[string]string{"ErrorCode": "InternalServiceException", "ErrorMessage": "later"}})
			in["PartitionInputList"] = all[1:]
			body, _ = json.Marshal(in)
		}
		mu.Unlock()
		if errs != nil && len(all) == 1 {
			_ = json.NewEncoder(w).Encode(map[string]any{"Errors": errs})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		out := httptest.NewRecorder()
		rules.ServeHTTP(out, r)
		answer := out.Body.Bytes()
		if errs != nil {
			answer, _ = json.Marshal(map[string]any{"Errors": errs})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(out.Code)
		_, _ = w.Write(answer)
	}))
	defer front.Close()
	c := hived(t, filepath.Join(t.TempDir(), "lake"), front.URL, nil)
	target := opened(t, c)
	writes(t, target, batch(hourly(0, ""), hourly(1, ""), hourly(2, "")))
	for !target.registry.Idle() {
		time.Sleep(20 * time.Millisecond)
	}
	if got := partitionsOf(t, rules.URL, c.Table.Name); len(got) != 3 || refused != 2 {
		t.Errorf("%d entries were refused, and the partitions are %v", refused, got)
	}
	closes(t, target)
}

func TestHiveIsValidated(t *testing.T) {
	t.Parallel()
	valid := func(change func(*Config)) []connector.Problem {
		return config("s3://lake/events", func(c *Config) {
			c.Table = &Table{Name: "lake.events", Format: formatHive, Glue: &glue.Access{}}
			change(c)
		}).Validate()
	}
	for want, change := range map[string]func(*Config){
		"table.format":           func(c *Config) { c.Table.Format, c.TimeField = "delta", "at" },
		"table":                  func(c *Config) { c.Table.Glue, c.Table.SQLite = nil, &SQLite{Path: "catalog.db"} },
		"table.snapshots_kept":   func(c *Config) { c.Table.SnapshotsKept = 5 },
		"table.projection_years": func(c *Config) { c.Table.ProjectionYears = []int{2030, 2024} },
	} {
		if ps := valid(change); len(ps) != 1 || ps[0].Field != want {
			t.Errorf("%s: %v", want, ps)
		}
	}
	// Without a time field, and where events without a time are taken, as no Iceberg table can be.
	if ps := valid(func(*Config) {}); len(ps) > 0 {
		t.Error(ps)
	}
}
