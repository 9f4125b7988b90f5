package object_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/target/object"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": enginetest.S3Key, "AWS_SECRET_ACCESS_KEY": enginetest.S3Secret, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func bucket(t *testing.T, endpoint string) string {
	t.Helper()
	c := client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.S3Key, enginetest.S3Secret, ""),
	})
	name := "weir-" + strings.ToLower(rand.Text())
	if _, err := c.CreateBucket(t.Context(), &client.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return name
}

// stored is the content of every object in a bucket.
func stored(t *testing.T, endpoint, name string) (all [][]byte) {
	t.Helper()
	p, err := place.Parse("s3://" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Open(t.Context(), place.Options{Access: place.Access{S3: &s3.Access{CustomAWSEndpoint: endpoint}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for info, err := range blob.All(t.Context(), b, blob.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := b.Get(t.Context(), info.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

// TestS3: the suite on S3, and with answers that are lost.
func TestS3(t *testing.T) {
	engine := enginetest.S3(t)
	for _, faults := range []bool{false, true} {
		conntest.Target(t, conntest.TargetCase{
			Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
				name, endpoint := bucket(t, engine), engine
				if faults {
					p := faultproxy.NewWeb(t, engine)
					p.On(faultproxy.Sometimes(uint64(len(t.Name())), 12, faultproxy.WebCut, faultproxy.WebLost, faultproxy.WebShort(5)))
					endpoint = p.URL
				}
				open := func() connector.Target {
					return build(t, t.TempDir(), func(c *object.Config) {
						c.Path, c.S3 = "s3://"+name+"/in", &s3.Access{CustomAWSEndpoint: endpoint}
					})
				}
				return open, func() [][]byte {
					var ps [][]byte
					for _, o := range stored(t, engine, name) {
						for l := range bytes.Lines(o) {
							ps = append(ps, bytes.TrimSuffix(l, []byte("\n")))
						}
					}
					return ps
				}
			},
			Refused:  [][]byte{[]byte("two\nlines")},
			Features: conntest.TargetFeatures{Empty: true},
		})
	}
}

// TestCheckS3: a check leaves nothing, and says what is missing.
func TestCheckS3(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	name := bucket(t, engine)
	p := faultproxy.NewWeb(t, engine)
	target := build(t, t.TempDir(), func(c *object.Config) {
		c.Path, c.S3 = "s3://"+name, &s3.Access{CustomAWSEndpoint: p.URL}
	})
	if err := target.(connector.Checker).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := stored(t, engine, name); len(left) > 0 {
		t.Errorf("a check has left %q", left)
	}
	p.On(func(*http.Request) faultproxy.WebFault {
		return faultproxy.WebAnswer(403, map[string]string{"Content-Type": "application/xml"}, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
	})
	err := target.(connector.Checker).Check(t.Context())
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "allow s3:ListBucket in a policy") || !strings.Contains(err.Error(), "s3://"+name) {
		t.Errorf("without permissions: %v", err)
	}
}
