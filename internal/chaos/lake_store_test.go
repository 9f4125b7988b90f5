//go:build unix

package chaos

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirdata/weir/internal/enginetest"
)

// storeEvents is how many events TestLandedOnceInAStore lands.
const storeEvents = 20_000

// TestLandedOnceInAStore: as TestLandedOnce, from a queue to a bucket of S3, where no lock ends
// with a process that is killed. DuckDB reads what is there.
func TestLandedOnceInAStore(t *testing.T) {
	t.Parallel()
	endpoint := enginetest.S3(t)
	duck := enginetest.DuckDB(t)
	in := &storeLake{duck: duck, bucket: "weir-" + strings.ToLower(rand.Text())}
	in.client = client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.S3Key, enginetest.S3Secret, ""),
	})
	if _, err := in.client.CreateBucket(t.Context(), &client.CreateBucketInput{Bucket: &in.bucket}); err != nil {
		t.Fatal(err)
	}
	const store = `
store {
  use "embedded" { path = "store" }
}
queue "q" {}
`
	land(t, storeEvents, store+`pipeline "fill" {
  source {
    use "file" {
      path          = "events.jsonl"
      position_file = "position"
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
`, store+fmt.Sprintf(`
pipeline "land" {
  source {
    use "queue" {
      name               = "q"
      stop_when_empty    = true
      lease_seconds      = 3
      max_batch_messages = 700
    }
  }
  target {
    use "lake" {
      path                   = "s3://%s/a/lake"
      time_field             = "created_at"
      time_format            = "epoch_s"
      buffer_max_events      = 3000
      buffer_max_age_seconds = 1
      s3 {
        custom_aws_endpoint = %q
      }
    }
  }
}
`, in.bucket, endpoint), in, "AWS_ACCESS_KEY_ID="+enginetest.S3Key, "AWS_SECRET_ACCESS_KEY="+enginetest.S3Secret, "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true")
}

// storeLake is a lake in a bucket.
type storeLake struct {
	client *client.Client
	bucket string
	duck   enginetest.Duck
}

func (s *storeLake) list(q *quickstart, prefix string) (keys []string) {
	pages := client.NewListObjectsV2Paginator(s.client, &client.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(q.t.Context())
		if err != nil {
			q.t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
}

func (s *storeLake) commits(q *quickstart) string {
	keys := s.list(q, "a/lake/_weir/commits/")
	if len(keys) == 0 {
		return ""
	}
	return keys[len(keys)-1]
}

// count downloads the files of the lake, whatever of them belongs to it, and asks DuckDB.
func (s *storeLake) count(q *quickstart) map[string]int {
	to := q.path("downloaded")
	if err := os.Mkdir(to, 0o700); err != nil {
		q.t.Fatal(err)
	}
	for i, key := range s.list(q, "a/lake/") {
		if !strings.HasSuffix(key, ".parquet") {
			continue
		}
		o, err := s.client.GetObject(q.t.Context(), &client.GetObjectInput{Bucket: &s.bucket, Key: aws.String(key)})
		if err != nil {
			q.t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(to, fmt.Sprintf("%d.parquet", i)))
		if err == nil {
			_, err = f.ReadFrom(o.Body)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			q.t.Fatal(err)
		}
		_ = o.Body.Close() // it is read
	}
	found := map[string]int{}
	for _, row := range s.duck.Query(q.t, fmt.Sprintf(`SELECT event_uuid AS id, count(*) AS n FROM read_parquet('%s/*.parquet') GROUP BY 1`, to)) {
		n := 0
		if _, err := fmt.Sscan(fmt.Sprint(row["n"]), &n); err != nil {
			q.t.Fatal(err)
		}
		found[fmt.Sprint(row["id"])] = n
	}
	return found
}
