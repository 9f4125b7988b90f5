package lake

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
)

var once sync.Once

// environment is that of those who look into a lake of the engine: once, since all tests share it.
func environment(engine string) {
	once.Do(func() {
		for name, value := range map[string]string{
			"AWS_ACCESS_KEY_ID": enginetest.S3Key, "AWS_SECRET_ACCESS_KEY": enginetest.S3Secret, "AWS_REGION": "us-east-1",
			"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_S3": engine,
		} {
			if err := os.Setenv(name, value); err != nil {
				panic(err)
			}
		}
	})
}

// bucketS3 is a new bucket, and the engine that has it.
func bucketS3(t testing.TB) (engine, bucket string) {
	t.Helper()
	engine = enginetest.S3(t)
	environment(engine)
	c := client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: &engine, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.S3Key, enginetest.S3Secret, ""),
	})
	bucket = "weir-" + strings.ToLower(rand.Text())
	if _, err := c.CreateBucket(t.Context(), &client.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	return engine, bucket
}

// TestConformanceS3: the suite on S3, and with answers that are lost.
func TestConformanceS3(t *testing.T) {
	for _, faults := range []bool{false, true} {
		conntest.Target(t, conntest.TargetCase{
			Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
				engine, bucket := bucketS3(t)
				endpoint := engine
				if faults {
					p := faultproxy.NewWeb(t, engine)
					p.On(faultproxy.Sometimes(uint64(len(t.Name())), 12, faultproxy.WebCut, faultproxy.WebLost, faultproxy.WebShort(5)))
					endpoint = p.URL
				}
				path := "s3://" + bucket + "/a/lake"
				open := func() connector.Target {
					target, err := New(connector.Deps{}, config(path, func(c *Config) { c.S3 = &s3.Access{CustomAWSEndpoint: endpoint} }))
					if err != nil {
						t.Fatal(err)
					}
					return object{target}
				}
				return open, func() (out [][]byte) {
					if err := catalog.Rows(t.Context(), path, func(_ string, row []byte) error {
						var e struct{ Payload []byte }
						if err := json.Unmarshal(row, &e); err != nil {
							return err
						}
						out = append(out, e.Payload)
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					return out
				}
			},
			Refused:  [][]byte{[]byte(refused)},
			Features: conntest.TargetFeatures{Empty: true},
		})
	}
}

// positioned are events of a source that gives positions, from the i-th on.
func positioned(from, to int) event.Batch {
	var b event.Batch
	for i := from; i < to; i++ {
		m := event.New(fmt.Appendf(nil, `{"n":%d,"created_at":%d}`, i, 1712512800+i%7*3600))
		m.Meta.Origin = &event.Origin{Stream: "s", Position: fmt.Appendf(nil, "%08d", i)}
		b = append(b, m)
	}
	return b
}

// onS3 is a target on a store.
func onS3(t testing.TB, endpoint, path string) *Target {
	t.Helper()
	target, err := New(connector.Deps{}, config(path, func(c *Config) {
		c.TimeField, c.TimeFormat, c.S3 = "created_at", "epoch_s", &s3.Access{CustomAWSEndpoint: endpoint}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// rowsOf is how often each n is in the lake.
func rowsOf(t testing.TB, path string) map[int]int {
	t.Helper()
	found := map[int]int{}
	if err := catalog.Rows(t.Context(), path, func(_ string, row []byte) error {
		var e struct{ N int }
		err := json.Unmarshal(row, &e)
		found[e.N]++
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestTwoOwners: a second writer waits for the first. One that takes the dataset all the same,
// because it took the first for dead, makes the first begin anew: nothing it had in hand lands.
func TestTwoOwners(t *testing.T) {
	t.Parallel()
	engine, bucket := bucketS3(t)
	path := "s3://" + bucket + "/lake"
	ctx := t.Context()
	first := onS3(t, engine, path)
	if err := first.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(ctx, positioned(0, 100)); err != nil {
		t.Fatal(err)
	}
	// Another address of the same store is another place for this process, as for another one.
	second := onS3(t, faultproxy.NewWeb(t, engine).URL, path)
	disown(t, engine, bucket, `"host":"somebody"`)
	err := second.Open(ctx)
	if _, held := errors.AsType[*connector.Held](err); !held || !strings.Contains(err.Error(), "process 1 of somebody") {
		t.Fatalf("a second writer: %v", err)
	}
	disown(t, engine, bucket, `"ended":true`)
	if err := second.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := second.Write(ctx, positioned(50, 200)); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(ctx, positioned(200, 300)); fault.Of(err) != fault.Fatal || !errors.Is(err, catalog.ErrTaken) {
		t.Errorf("a writer that has lost the dataset: %v", err)
	}
	if err := errors.Join(first.Close(ctx), second.Write(ctx, positioned(150, 300)), second.Close(ctx)); err != nil {
		t.Error(err)
	}
	for n, times := range rowsOf(t, path) {
		if times != 1 {
			t.Errorf("event %d is there %d times", n, times)
		}
	}
	if n := len(rowsOf(t, path)); n != 300 {
		t.Errorf("%d events are there, want 300", n)
	}
	if err := first.Open(ctx); err != nil { // the second has ended
		t.Fatal(err)
	}
	if err := first.Close(ctx); err != nil {
		t.Error(err)
	}
}

// disown makes somebody else the owner of the dataset, as the owner object would say.
func disown(t *testing.T, engine, bucket, with string) {
	t.Helper()
	b := opener(t, engine, "s3://"+bucket+"/lake")
	const name = "_weir/owner.json"
	_, v, err := b.Get(t.Context(), name)
	if err == nil {
		_, err = b.Replace(t.Context(), name, v, fmt.Appendf(nil, `{"writer":%q,"process":1,%s}`, rand.Text(), with))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func opener(t *testing.T, engine, path string) blob.Bucket {
	t.Helper()
	p, err := place.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Open(t.Context(), place.Options{Access: place.Access{S3: &s3.Access{CustomAWSEndpoint: engine}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestAbandonedUploads: what a dead writer has left of an upload is aborted by the next one.
func TestAbandonedUploads(t *testing.T) {
	t.Parallel()
	engine, bucket := bucketS3(t)
	path := "s3://" + bucket + "/lake"
	w, err := opener(t, engine, path).Writer(t.Context(), "year=2026/events-x.parquet")
	if err == nil {
		_, err = w.Write(make([]byte, 20<<20))
	}
	if err != nil {
		t.Fatal(err)
	}
	target := onS3(t, engine, path)
	if err := errors.Join(target.Open(t.Context()), target.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err == nil {
		t.Error("an upload of before the dataset was opened could be ended")
	}
}

// TestCheckS3: a check writes nothing that stays, and says what is missing.
func TestCheckS3(t *testing.T) {
	t.Parallel()
	engine, bucket := bucketS3(t)
	p := faultproxy.NewWeb(t, engine)
	target := onS3(t, p.URL, "s3://"+bucket+"/lake")
	if err := target.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.On(func(*http.Request) faultproxy.WebFault {
		return faultproxy.WebAnswer(403, map[string]string{"Content-Type": "application/xml"}, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := target.Check(ctx); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "s3://"+bucket) {
		t.Errorf("without permissions: %v", err)
	}
}
