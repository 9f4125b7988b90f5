package azure_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/azure"
	"github.com/weirdata/weir/internal/blob/blobtest"
	"github.com/weirdata/weir/internal/blob/remote"
	cloud "github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
)

// patience outlives the faults of these tests.
var patience = remote.Patience{Tries: 40, First: time.Millisecond, Most: 50 * time.Millisecond}

func named(endpoint, name string) cloud.ContainerName {
	account, key := enginetest.AzuriteAccount()
	return cloud.ContainerName{URL: endpoint + "/" + account + "/" + name, AccountKey: key}
}

// made makes a container.
func made(t testing.TB, engine string) (name string) {
	t.Helper()
	name = "weir-" + strings.ToLower(rand.Text())
	c, err := named(engine, name).Container()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return name
}

func opened(t testing.TB, endpoint, name, prefix string) *remote.Bucket {
	t.Helper()
	b, err := azure.Open(named(endpoint, name), prefix, remote.Properties{ContentType: "text/plain", Metadata: map[string]string{"team": "data"}})
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
	engine := enginetest.Azurite(t)
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		name := made(t, engine)
		return func() blob.Bucket { return opened(t, engine, name, "a place/in it") }
	})
}

func failure(status int, code string) faultproxy.WebFault {
	return faultproxy.WebAnswer(status, map[string]string{"Content-Type": "application/xml", "x-ms-error-code": code},
		`<?xml version="1.0"?><Error><Code>`+code+`</Code><Message>it is so</Message></Error>`)
}

func TestConformanceWithFaults(t *testing.T) {
	t.Parallel()
	engine := enginetest.Azurite(t)
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		name := made(t, engine)
		p := faultproxy.NewWeb(t, engine)
		p.On(faultproxy.Sometimes(uint64(len(t.Name())), 6, failure(500, "InternalError"), failure(503, "ServerBusy"),
			faultproxy.WebCut, faultproxy.WebLost, faultproxy.WebShort(10)))
		return func() blob.Bucket { return opened(t, p.URL, name, "") }
	})
}

// TestBlocks: an object of several blocks, whose list is committed and not answered for.
func TestBlocks(t *testing.T) {
	t.Parallel()
	engine := enginetest.Azurite(t)
	name := made(t, engine)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, name, "")
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	lost := false
	p.On(func(r *http.Request) faultproxy.WebFault {
		if strings.Contains(r.URL.RawQuery, "comp=blocklist") && !lost {
			lost = true
			return faultproxy.WebLost
		}
		return nil
	})
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
	if data, _, err := b.Get(t.Context(), "n"); err != nil || !bytes.Equal(data, content) || !lost {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	engine := enginetest.Azurite(t)
	p := faultproxy.NewWeb(t, engine)
	b := opened(t, p.URL, made(t, engine), "in")
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for info, err := range blob.All(t.Context(), b, blob.Query{}) {
		t.Errorf("a check has left %v, %v", info, err)
	}
	p.On(func(*http.Request) faultproxy.WebFault { return failure(403, "AuthorizationPermissionMismatch") })
	if err := b.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "Storage Blob Data Contributor") {
		t.Errorf("without a role: %v", err)
	}
	none := opened(t, engine, "weir-none-"+strings.ToLower(rand.Text()), "")
	if err := none.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "az storage container create") {
		t.Errorf("without a container: %v", err)
	}
}
