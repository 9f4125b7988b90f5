package s3_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/blobtest"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
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

// patience outlives the faults of these tests.
var patience = remote.Patience{Tries: 40, First: time.Millisecond, Most: 50 * time.Millisecond}

func made(t testing.TB, endpoint string) (c *client.Client, bucket string) {
	t.Helper()
	c = client.New(client.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.S3Key, enginetest.S3Secret, ""),
	})
	bucket = "weir-" + strings.ToLower(rand.Text())
	if _, err := c.CreateBucket(t.Context(), &client.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	return c, bucket
}

func opened(t testing.TB, endpoint, bucket, prefix string, a s3.Access) *remote.Bucket {
	t.Helper()
	a.CustomAWSEndpoint = endpoint
	b, err := s3.Open(context.Background(), bucket, prefix, a.Filled(), remote.Properties{}, aws.Access{})
	if err != nil {
		t.Fatal(err)
	}
	b.Persist(patience)
	t.Cleanup(func() {
		for range 2 {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

func place(engine string) blobtest.Place {
	return func(t testing.TB) func() blob.Bucket {
		_, bucket := made(t, engine)
		return func() blob.Bucket { return opened(t, engine, bucket, "a place/in it", s3.Access{}) }
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, place(enginetest.S3(t)))
}

func failure(status int, code string) faultproxy.WebFault {
	return faultproxy.WebAnswer(status, map[string]string{"Content-Type": "application/xml"},
		`<?xml version="1.0"?><Error><Code>`+code+`</Code><Message>it is so</Message></Error>`)
}

// Faults of a store that pass.
var passing = []faultproxy.WebFault{
	failure(500, "InternalError"), failure(503, "SlowDown"), failure(409, "ConditionalRequestConflict"),
	faultproxy.WebCut, faultproxy.WebLost, faultproxy.WebLost, faultproxy.WebShort(10),
}

func TestConformanceWithFaults(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		_, bucket := made(t, engine)
		p := faultproxy.NewWeb(t, engine)
		p.On(faultproxy.Sometimes(uint64(len(t.Name())), 6, passing...))
		return func() blob.Bucket { return opened(t, p.URL, bucket, "", s3.Access{}) }
	})
}

// once meets the n-th request with a method and a part of its address, from 1, with a fault.
func once(method, part string, n int, f faultproxy.WebFault) faultproxy.WebRule {
	return func(r *http.Request) faultproxy.WebFault {
		if r.Method != method || !strings.Contains(r.URL.RequestURI(), part) {
			return nil
		}
		if n--; n == 0 {
			return f
		}
		return nil
	}
}

// TestLostAnswers: a write that was done and not answered is done, and the version it is told
// is that of the object.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	_, bucket := made(t, engine)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, bucket, "", s3.Access{})
	p.On(once(http.MethodPut, "/n?", 1, faultproxy.WebLost))
	v, err := b.Create(t.Context(), "n", []byte("mine"))
	if err != nil {
		t.Fatalf("a create that was not answered: %v", err)
	}
	p.On(once(http.MethodPut, "/n?", 1, faultproxy.WebLost))
	v2, err := b.Replace(t.Context(), "n", v, []byte("mine too"))
	if err != nil || v2 == v {
		t.Fatalf("a replacement that was not answered: %q, %v", v2, err)
	}
	if data, have, err := b.Get(t.Context(), "n"); err != nil || have != v2 || string(data) != "mine too" {
		t.Fatalf("Get = %q, %q, %v, want version %q", data, have, err, v2)
	}
	// The same content of somebody else is not mine.
	p.On(once(http.MethodPut, "/n?", 1, faultproxy.WebCut))
	if _, err := b.Create(t.Context(), "n", []byte("mine too")); !errors.Is(err, blob.ErrExists) {
		t.Errorf("a create of what is there: %v", err)
	}
	p.On(once(http.MethodPut, "/n?", 1, faultproxy.WebCut))
	if _, err := b.Replace(t.Context(), "n", v, []byte("mine too")); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("a replacement of an old version: %v", err)
	}
}

// content is more than fits into two parts.
var content = bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)

const part = 5 << 20

func uploads(t testing.TB, c *client.Client, bucket string) (keys []string) {
	t.Helper()
	out, err := c.ListMultipartUploads(t.Context(), &client.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		keys = append(keys, *u.Key)
	}
	return keys
}

func write(t testing.TB, b blob.Bucket, name string) (blob.Writer, error) {
	t.Helper()
	w, err := b.Writer(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, bytes.NewReader(content))
	return w, err
}

// TestParts writes objects in parts, with a fault at each request.
func TestParts(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	for name, rule := range map[string]faultproxy.WebRule{
		"none":             nil,
		"begin lost":       once(http.MethodPost, "?uploads", 1, faultproxy.WebLost),
		"part refused":     once(http.MethodPut, "partNumber=2", 1, failure(503, "SlowDown")),
		"part lost":        once(http.MethodPut, "partNumber=1", 1, faultproxy.WebLost),
		"last part cut":    once(http.MethodPut, "partNumber=3", 1, faultproxy.WebCut),
		"completion lost":  once(http.MethodPost, "uploadId=", 1, faultproxy.WebLost),
		"completion cut":   once(http.MethodPost, "uploadId=", 1, faultproxy.WebShort(40)),
		"completion 409":   once(http.MethodPost, "uploadId=", 1, failure(409, "ConditionalRequestConflict")),
		"completion 500":   once(http.MethodPost, "uploadId=", 1, failure(500, "InternalError")),
		"completion, late": once(http.MethodPost, "uploadId=", 1, failure(200, "InternalError")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, bucket := made(t, engine)
			p := faultproxy.NewWeb(t, engine)
			p.On(rule)
			b := opened(t, p.URL, bucket, "in", s3.Access{PartBytes: part})
			w, err := write(t, b, "n")
			if err == nil {
				err = w.Commit(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			data, _, err := b.Get(t.Context(), "n")
			if err != nil || !bytes.Equal(data, content) {
				t.Fatalf("%d bytes, %v", len(data), err)
			}
			// The slower of two: it is refused, and leaves no upload.
			w, err = write(t, b, "n")
			if err == nil {
				err = w.Commit(t.Context())
			}
			if !errors.Is(err, blob.ErrExists) {
				t.Errorf("a second writer: %v", err)
			}
			w, err = write(t, b, "gone")
			if err = errors.Join(err, w.Abort()); err != nil {
				t.Errorf("an abort: %v", err)
			}
			if name != "begin lost" { // that one is a sweep's
				if left := uploads(t, c, bucket); len(left) > 0 {
					t.Errorf("open uploads: %q", left)
				}
			}
			if err := b.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if left := uploads(t, c, bucket); len(left) > 0 {
				t.Errorf("open uploads behind a sweep: %q", left)
			}
		})
	}
}

// TestSweepKeepsOthers: uploads outside of the prefix are somebody else's.
func TestSweepKeepsOthers(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	c, bucket := made(t, engine)
	for _, key := range []string{"in/a", "inside/b", "c"} {
		if _, err := c.CreateMultipartUpload(t.Context(), &client.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	b := opened(t, engine, bucket, "in", s3.Access{})
	if err := b.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c", "inside/b"}, uploads(t, c, bucket)); diff != "" {
		t.Errorf("open uploads (-want +got):\n%s", diff)
	}
	// A writer whose upload is swept says so.
	w, err := write(t, b, "n")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err == nil || errors.Is(err, blob.ErrExists) {
		t.Errorf("the commit of what was swept: %v", err)
	}
}

// TestCutReads: what was cut is read on, of the version that was begun.
func TestCutReads(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	_, bucket := made(t, engine)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, bucket, "", s3.Access{})
	v, err := b.Create(t.Context(), "n", content)
	if err != nil {
		t.Fatal(err)
	}
	cuts := 0
	p.On(func(r *http.Request) faultproxy.WebFault {
		if r.Method == http.MethodGet && cuts < 5 {
			cuts++
			return faultproxy.WebShort(1 << 20)
		}
		return nil
	})
	r, err := b.Open(t.Context(), "n", 3, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, content[3:]) || cuts != 5 {
		t.Errorf("%d bytes, %v, with %d cuts", len(got), err, cuts)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a closed reader: %v", err)
	}
	cuts = 4
	if r, err = b.Open(t.Context(), "n", 0, -1); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := b.Replace(t.Context(), "n", v, []byte("another")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("a reader of what was replaced meanwhile: %v", err)
	}
}

// TestRequests: what the config says is in the requests.
func TestRequests(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	_, bucket := made(t, engine)
	p := faultproxy.NewWeb(t, engine)
	var put, begun atomic.Pointer[http.Header]
	p.On(func(r *http.Request) faultproxy.WebFault {
		h := r.Header.Clone()
		switch {
		case r.Method == http.MethodPut && !strings.Contains(r.URL.RawQuery, "partNumber"):
			put.Store(&h)
		case r.Method == http.MethodPost && strings.HasPrefix(r.URL.RawQuery, "uploads"):
			begun.Store(&h)
		}
		return failure(400, "InvalidRequest")
	})
	a := s3.Access{
		CustomAWSEndpoint: p.URL, ServerSideEncryption: "aws:kms", KMSKeyID: "arn:aws:kms:eu-central-1:123456789012:key/k", BucketKey: true,
		StorageClass: "STANDARD_IA", ExpectedBucketOwner: "123456789012", RequesterPays: true, PartBytes: part,
	}
	if ps := a.Problems(); len(ps) > 0 {
		t.Fatal(ps)
	}
	b, err := s3.Open(t.Context(), bucket, "", a.Filled(), remote.Properties{ContentType: "text/csv", ContentEncoding: "gzip", Metadata: map[string]string{"team": "data"}}, aws.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Create(t.Context(), "n", nil); fault.Of(err) != fault.Setup {
		t.Errorf("an invalid request is %v: %v", fault.Of(err), err)
	}
	if _, err := write(t, b, "m"); err == nil {
		t.Error("an upload that was refused goes on")
	}
	for what, sent := range map[string]*http.Header{"put": put.Load(), "upload": begun.Load()} {
		if sent == nil {
			t.Fatalf("no %s was sent", what)
		}
		for name, want := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": a.KMSKeyID,
			"X-Amz-Server-Side-Encryption-Bucket-Key-Enabled": "true", "X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Expected-Bucket-Owner": "123456789012",
			"X-Amz-Request-Payer": "requester", "Content-Type": "text/csv", "X-Amz-Meta-Team": "data",
		} {
			if got := sent.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", what, name, got, want)
			}
		}
		if got := sent.Get("Content-Encoding"); !strings.Contains(got, "gzip") {
			t.Errorf("%s: Content-Encoding is %q", what, got)
		}
	}
	if got := put.Load().Get("If-None-Match"); got != "*" {
		t.Errorf("If-None-Match is %q", got)
	}
}

// TestCheck: a check leaves nothing, and says which permission is missing.
func TestCheck(t *testing.T) {
	t.Parallel()
	engine := enginetest.S3(t)
	c, bucket := made(t, engine)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, bucket, "in", s3.Access{})
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ method, part, want string }{
		{http.MethodGet, "list-type", "allow s3:ListBucket in"},
		{http.MethodPut, "/in/", "allow s3:PutObject in"},
		{http.MethodHead, "/in/", "allow s3:GetObject and s3:ListBucket in"},
		{http.MethodPost, "?uploads", "allow s3:PutObject in"},
		{http.MethodDelete, "uploadId", "allow s3:AbortMultipartUpload in"},
		{http.MethodDelete, "DeleteObject", "allow s3:DeleteObject in"},
	} {
		p.On(func(r *http.Request) faultproxy.WebFault {
			if r.Method == row.method && strings.Contains(r.URL.RequestURI(), row.part) {
				return failure(403, "AccessDenied")
			}
			return nil
		})
		err := b.Check(t.Context())
		if err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), row.want) {
			t.Errorf("without permission to %s %s: %v, want %q", row.method, row.part, err, row.want)
		}
	}
	p.On(func(r *http.Request) faultproxy.WebFault {
		if r.Method != http.MethodPut {
			return nil
		}
		return faultproxy.WebAnswer(403, map[string]string{"Content-Type": "application/xml"},
			`<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/u is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:x</Message></Error>`)
	})
	if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "allow kms:GenerateDataKey in") {
		t.Errorf("without the key: %v", err)
	}
	out, err := c.ListObjectsV2(t.Context(), &client.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out.Contents { // the one whose deletion was denied
		if _, err := c.DeleteObject(t.Context(), &client.DeleteObjectInput{Bucket: &bucket, Key: o.Key}); err != nil {
			t.Fatal(err)
		}
	}
	p.On(nil)
	none := opened(t, engine, "weir-none-"+strings.ToLower(rand.Text()), "", s3.Access{})
	if err := none.Check(t.Context()); err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "there is no bucket") {
		t.Errorf("without a bucket: %v", err)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for field, a := range map[string]s3.Access{
		"region":                 {Region: "eu central"},
		"custom_aws_endpoint":    {CustomAWSEndpoint: "127.0.0.1:1"},
		"server_side_encryption": {ServerSideEncryption: "kms"},
		"kms_key_id":             {KMSKeyID: "k", ServerSideEncryption: "AES256"},
		"bucket_key":             {BucketKey: true},
		"external_id":            {ExternalID: "x"},
		"expected_bucket_owner":  {ExpectedBucketOwner: "me"},
		"storage_class":          {StorageClass: "GLACIER"},
		"checksums":              {Checksums: "never"},
		"part_bytes":             {PartBytes: 1},
	} {
		ps := a.Problems()
		if len(ps) != 1 || ps[0].Field != field || ps[0].Fix == "" || ps[0].What == "" {
			t.Errorf("%s: %v", field, ps)
		}
	}
	for name, good := range map[string]bool{"a-bucket": true, "arn:aws:s3:eu-central-1:1:accesspoint/p": true, "A": false, "ab": false, "a_b": false, "": false} {
		if err := s3.CheckBucket(name); (err == nil) != good {
			t.Errorf("CheckBucket(%q) = %v", name, err)
		}
	}
}
