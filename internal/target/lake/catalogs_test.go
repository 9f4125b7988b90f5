package lake

import (
	"crypto/rand"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg/restcatalog"
)

// inStore are the properties by which PyIceberg reaches files in the store of an engine.
func inStore(engine string, more map[string]string) map[string]string {
	p := map[string]string{"s3.endpoint": engine, "s3.access-key-id": enginetest.S3Key, "s3.secret-access-key": enginetest.S3Secret, "s3.region": "us-east-1"}
	maps.Copy(p, more)
	return p
}

// TestTableInAStore: files, metadata and manifests are in S3, some answers of which are lost, and
// PyIceberg reads them from there: by a catalog in a file, by Glue, and by the REST protocol.
func TestTableInAStore(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sqlite", "glue", "rest"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			engine, bucket := bucketS3(t)
			lossy := faultproxy.NewWeb(t, engine)
			name := "weir_" + strings.ToLower(rand.Text()) + ".events"
			file := filepath.Join(t.TempDir(), "catalog.db")
			reader := inStore(engine, map[string]string{"type": "sql", "uri": "sqlite:///" + file})
			c := tabled("s3://"+bucket+"/a/lake", func(c *Config) {
				c.S3, c.Table.Name, c.Table.SnapshotsKept = &s3.Access{CustomAWSEndpoint: lossy.URL}, name, 2
				c.Table.SQLite.Path = file
			})
			if kind == "glue" {
				rules := faultproxy.NewGlue(t, enginetest.Moto(t))
				c.Table.SQLite, c.Table.Glue = nil, &glue.Access{Region: "us-east-1", CustomAWSEndpoint: rules.URL}
				reader = inStore(engine, map[string]string{"type": "glue", "glue.endpoint": rules.URL, "glue.region": "us-east-1", "glue.access-key-id": "x", "glue.secret-access-key": "x"})
			}
			if kind == "rest" {
				uri := enginetest.IcebergCatalog(t)
				c.Table.SQLite, c.Table.REST = nil, &restcatalog.Access{URL: uri}
				reader = inStore(engine, map[string]string{"type": "rest", "uri": uri, "token": "any"})
			}
			target := opened(t, c)
			if err := target.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			lossy.On(faultproxy.Sometimes(7, 15, faultproxy.WebLost, faultproxy.WebCut))
			var want []string
			for i := range 12 {
				b := placed(2*i, timed(2*i, 0), timed(2*i+1, 70))
				// What was answered by nobody is delivered again, as the engine does.
				for again := 0; ; again++ {
					err := target.Write(t.Context(), b)
					if err == nil {
						break
					}
					if again == 100 {
						t.Fatal(err)
					}
				}
				want = append(want, fmt.Sprintf("e%03d", 2*i), fmt.Sprintf("e%03d", 2*i+1))
			}
			lossy.On(nil)
			if err := target.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := enginetest.PyIcebergWith(t, reader).Read(t, name, "")
			if slices.Sort(want); !slices.Equal(ids(got.Rows), want) {
				t.Errorf("the table has %v", ids(got.Rows))
			}
			if got.Snapshots > 4 {
				t.Errorf("it has %d snapshots", got.Snapshots)
			}
		})
	}
}
