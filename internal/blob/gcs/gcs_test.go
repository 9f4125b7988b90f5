package gcs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/blobtest"
	"github.com/weirdata/weir/internal/blob/gcs"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
)

// patience outlives the faults of these tests.
var patience = remote.Patience{Tries: 40, First: time.Millisecond, Most: 50 * time.Millisecond}

func made(t testing.TB, engine string) string {
	t.Helper()
	name := "weir-" + strings.ToLower(rand.Text())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, engine+"/storage/v1/b?project=p", strings.NewReader(`{"name":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("make a bucket: %s, %s, %v", resp.Status, text, err)
	}
	return name
}

func opened(t testing.TB, endpoint, bucket, prefix string) *remote.Bucket {
	t.Helper()
	b, err := gcs.Open(t.Context(), bucket, prefix, gcs.Access{Endpoint: endpoint}, remote.Properties{ContentType: "text/plain", Metadata: map[string]string{"team": "data"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Persist(patience)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	engine := enginetest.GCS(t)
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		bucket := made(t, engine)
		return func() blob.Bucket { return opened(t, engine, bucket, "a place/in it") }
	})
}

func failure(status int, message string) faultproxy.WebFault {
	return faultproxy.WebAnswer(status, map[string]string{"Content-Type": "application/json"}, `{"error":{"message":"`+message+`"}}`)
}

func TestConformanceWithFaults(t *testing.T) {
	t.Parallel()
	engine := enginetest.GCS(t)
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		bucket := made(t, engine)
		p := faultproxy.NewWeb(t, engine)
		p.On(faultproxy.Sometimes(uint64(len(t.Name())), 6, failure(500, "it is so"), failure(503, "it is so"), failure(429, "slower"),
			faultproxy.WebCut, faultproxy.WebLost, faultproxy.WebShort(10)))
		return func() blob.Bucket { return opened(t, p.URL, bucket, "") }
	})
}

// TestParts: an object of several parts.
func TestParts(t *testing.T) {
	t.Parallel()
	engine := enginetest.GCS(t)
	bucket := made(t, engine)
	b := opened(t, engine, bucket, "")
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	for i, want := range []error{nil, blob.ErrExists} {
		w, err := b.Writer(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); !errors.Is(err, want) {
			t.Errorf("commit %d: %v, want %v", i, err, want)
		}
	}
	if data, _, err := b.Get(t.Context(), "n"); err != nil || !bytes.Equal(data, content) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	engine := enginetest.GCS(t)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, made(t, engine), "in")
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for info, err := range blob.All(t.Context(), b, blob.Query{}) {
		t.Errorf("a check has left %v, %v", info, err)
	}
	p.On(func(*http.Request) faultproxy.WebFault {
		return failure(403, "u@p does not have storage.objects.list access to the Google Cloud Storage bucket.")
	})
	if err := b.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "a role with storage.objects.list") {
		t.Errorf("without a role: %v", err)
	}
	none := opened(t, engine, "weir-none-"+strings.ToLower(rand.Text()), "")
	if err := none.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "gcloud storage buckets create") {
		t.Errorf("without a bucket: %v", err)
	}
}
