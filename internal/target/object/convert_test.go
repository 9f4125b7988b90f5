package object_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/parquet"
	"github.com/weirdata/weir/internal/target/object"
)

var ordersColumns = map[string]string{
	"id": "bigint", "total": "double", "paid": "boolean", "at": "timestamp", "note": "varchar(10)", "tags": "array<string>", "shop": "struct<id:bigint,name:string>",
}

func converting(columns map[string]string) func(*object.Config) {
	return func(c *object.Config) {
		c.FormatConversion = &object.FormatConversion{}
		c.FormatConversion.SetDefaults()
		c.FormatConversion.Columns = columns
		prefix := "orders/shop=!{partitionKeyFromQuery:shop}/"
		c.Prefix = &prefix
	}
}

// rowsIn are the rows of the objects of Parquet in a folder, as JSON.
func rowsIn(t *testing.T, dir string) (rows []string) {
	t.Helper()
	for name := range objects(t, dir) {
		if !strings.HasSuffix(name, ".parquet") {
			t.Errorf("there is an object %s", name)
			continue
		}
		r, err := parquet.Open(filepath.Join(dir, "out", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for range r.NumRows() {
			row, err := r.Next(nil)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, string(row))
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	return rows
}

func keyed(n int, shop, payload string) *event.Message {
	m := at(n, payload)
	firehose.FromQuery.Set(m, "shop", shop)
	return m
}

// TestConversion: records become rows of the declared columns, in objects by their partition keys, which
// DuckDB reads with the types as they were declared; a record that fits none is invalid alone, and is
// told of as Firehose does. What is delivered again is there already.
func TestConversion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := opened(t, dir, converting(ordersColumns))
	batch := func() []*event.Message {
		return []*event.Message{
			keyed(0, "7", `{"ID":"1","total":2,"paid":"true","at":"2026-11-29T18:05:00.25+01:00","note":5,"tags":["a",null],"shop":{"id":7,"NAME":"x","more":1},"else":{}}`),
			keyed(1, "7", `{"id":"one"}`),
			keyed(2, "8", `{"id":2,"tags":[],"shop":{}}`),
			keyed(3, "7", `no JSON`),
			keyed(4, "7", `{"id":3,"total":9007199254740993}`),
			keyed(5, "7", `{"note":"a text that is too long"}`),
			keyed(6, "8", `{"id":9007199254740993,"note":null}`),
		}
	}
	for range 2 {
		failed := write(t, target, batch()...)
		codes := map[int]string{}
		for i, err := range failed {
			f, ok := errors.AsType[*firehose.Failure](err)
			if !ok || f.Type != firehose.ConversionFailedType || fault.Of(err) != fault.Invalid {
				t.Errorf("%d: %v", i, err)
				continue
			}
			codes[i] = f.Code
		}
		if diff := cmp.Diff(map[int]string{1: "DataFormatConversion.MalformedData", 3: "DataFormatConversion.ParseError", 4: "DataFormatConversion.MalformedData",
			5: "DataFormatConversion.MalformedData"}, codes); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
	}
	if n := len(objects(t, dir)); n != 2 {
		t.Errorf("there are %d objects", n)
	}
	duck := enginetest.DuckDB(t)
	files := filepath.Join(dir, "out", "orders", "*", "*.parquet")
	got := duck.Query(t, fmt.Sprintf(`SELECT id, total, paid, "at" = TIMESTAMPTZ '2026-11-29 17:05:00.25Z' AS at, note, tags, shop FROM read_parquet('%s', hive_partitioning = false) ORDER BY id`, files))
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	if err := json.Compact(&buffer, text); err != nil {
		t.Fatal(err)
	}
	const want = `[{"at":true,"id":1,"note":"5","paid":true,"shop":{"id":7,"name":"x"},"tags":["a",null],"total":2.0},` +
		`{"at":null,"id":2,"note":null,"paid":null,"shop":{"id":null,"name":null},"tags":[],"total":null},` +
		`{"at":null,"id":9007199254740993,"note":null,"paid":null,"shop":null,"tags":null,"total":null}]`
	if buffer.String() != want {
		t.Errorf("DuckDB has\n%s, want\n%s", &buffer, want)
	}
	types := duck.Query(t, fmt.Sprintf(`SELECT column_name AS n, column_type AS kind FROM (DESCRIBE SELECT * FROM read_parquet('%s', hive_partitioning = false))`, files))
	var columns []string
	for _, c := range types {
		columns = append(columns, fmt.Sprint(c["n"], " ", c["kind"]))
	}
	if diff := cmp.Diff([]string{"at TIMESTAMP WITH TIME ZONE", "id BIGINT", "note VARCHAR", "paid BOOLEAN", "shop STRUCT(id BIGINT, \"name\" VARCHAR)",
		"tags VARCHAR[]", "total DOUBLE"}, columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
}

// TestConversionNames: the name has the message's messages in it without a prefix too, and an object that
// holds them is not written again.
func TestConversionNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := opened(t, dir, func(c *object.Config) {
		converting(map[string]string{"id": "bigint"})(c)
		c.Prefix = nil
	})
	for range 2 {
		if failed := write(t, target, at(1, `{"id":1}`), at(2, `{"id":2}`)); len(failed) > 0 {
			t.Error(failed)
		}
	}
	if got := rowsIn(t, dir); len(got) != 2 || got[0] != `{"id":1}` || got[1] != `{"id":2}` {
		t.Error(got)
	}
}

// asked makes a call of Glue.
func asked(t *testing.T, endpoint, operation, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(body))
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
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", operation, resp.Status, err)
	}
}

// TestConversionByCatalog: the columns are those of a table in Glue, of the latest version or of one that
// is named; what is wrong with the table is said when the target is opened, and by a check.
func TestConversionByCatalog(t *testing.T) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"} {
		if os.Getenv(name) == "" {
			t.Setenv(name, value)
		}
	}
	endpoint := enginetest.Moto(t)
	database := "weir_" + strings.ToLower(rand.Text())
	table := func(operation, columns string) {
		asked(t, endpoint, operation, fmt.Sprintf(`{"DatabaseName":%q,"TableInput":{"Name":"orders","StorageDescriptor":{"Columns":[%s]},"PartitionKeys":[{"Name":"shop","Type":"string"}]}}`, database, columns))
	}
	asked(t, endpoint, "CreateDatabase", fmt.Sprintf(`{"DatabaseInput":{"Name":%q}}`, database))
	table("CreateTable", `{"Name":"total","Type":"double"},{"Name":"id","Type":"bigint"}`)
	table("UpdateTable", `{"Name":"id","Type":"bigint"},{"Name":"note","Type":"string"}`)
	byTable := func(name, version string) func(*object.Config) {
		return func(c *object.Config) {
			converting(nil)(c)
			c.FormatConversion.CatalogTable = &object.CatalogTable{Name: name, VersionID: version, Access: glue.Access{Region: "us-east-1", CustomAWSEndpoint: endpoint}}
		}
	}
	for version, want := range map[string]string{"LATEST": `{"id":1,"note":"n"}`, "1": `{"total":2,"id":1}`} {
		dir := t.TempDir()
		target := opened(t, dir, byTable(database+".orders", version))
		if failed := write(t, target, keyed(0, "7", `{"id":1,"total":2,"note":"n"}`)); len(failed) > 0 {
			t.Error(failed)
		}
		if got := rowsIn(t, dir); len(got) != 1 || got[0] != want {
			t.Errorf("version %s: %v, want %s", version, got, want)
		}
	}
	table("UpdateTable", `{"Name":"id","Type":"bigint"},{"Name":"n","Type":"struct<a:int>"}`)
	for name, want := range map[string]string{database + ".orders": "declare bigint", database + ".nothing": "no such table"} {
		target := build(t, t.TempDir(), byTable(name, "LATEST"))
		if err := target.Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
