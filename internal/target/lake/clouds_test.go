package lake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/catalog"
	cloud "github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
)

// cloudStore is an engine of a store, as everybody reaches it by the environment.
type cloudStore struct {
	name   string
	engine func(testing.TB) string
	// make makes a bucket at the engine, and is the address of a dataset in it.
	make func(t testing.TB, engine string) (path string)
	// reach are the variables that lead to an endpoint.
	reach func(endpoint string) map[string]string
}

func cloudStores() []cloudStore {
	account, key := enginetest.AzuriteAccount()
	return []cloudStore{
		{"S3", enginetest.S3, func(t testing.TB, _ string) string {
			_, bucket := bucketS3(t)
			return "s3://" + bucket + "/a/lake"
		}, func(endpoint string) map[string]string { return map[string]string{"AWS_ENDPOINT_URL_S3": endpoint} }},
		{"GCS", enginetest.GCS, func(t testing.TB, engine string) string {
			bucket := "weir-" + strings.ToLower(rand.Text())
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, engine+"/storage/v1/b?project=p", strings.NewReader(`{"name":"`+bucket+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			resp, err := ownClient(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("make a bucket: %s, %v", resp.Status, err)
			}
			return "gs://" + bucket + "/a/lake"
		}, func(endpoint string) map[string]string { return map[string]string{"STORAGE_EMULATOR_HOST": endpoint} }},
		{"Azure", enginetest.Azurite, func(t testing.TB, engine string) string {
			name := "weir-" + strings.ToLower(rand.Text())
			c, err := cloud.ContainerName{URL: engine + "/" + account + "/" + name, AccountKey: key, Client: ownClient(t)}.Container()
			if err == nil {
				_, err = c.Create(t.Context(), nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			return "azblob://" + name + "/a/lake"
		}, func(endpoint string) map[string]string {
			return map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=" + account + ";AccountKey=" + key + ";BlobEndpoint=" + endpoint + "/" + account}
		}},
	}
}

// ownClient is a client that leaves no connections.
func ownClient(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// reached has this process reach the engine, for good: all tests share it.
func (s cloudStore) reached(engine string) {
	for name, value := range s.reach(engine) {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, value); err != nil {
				panic(err)
			}
		}
	}
}

// landEvents is how many events the child that is killed lands.
const landEvents = 350

// land is the child: it lands events from the first that is not acknowledged, and prints how many are.
func land(path string) error {
	at, err := strconv.Atoi(os.Getenv("WEIR_TEST_FROM"))
	if err != nil {
		return err
	}
	target, err := New(connector.Deps{}, config(path, func(c *Config) { c.TimeField, c.TimeFormat = "created_at", "epoch_s" }))
	if err != nil {
		return err
	}
	ctx := context.Background()
	for {
		err := target.Open(ctx)
		if err == nil {
			break
		}
		if _, held := errors.AsType[*connector.Held](err); !held {
			return err
		}
		time.Sleep(50 * time.Millisecond) // the one before is about to be gone
	}
	for ; at < landEvents; at = min(at+25, landEvents) {
		if err := target.Write(ctx, positioned(at, min(at+25, landEvents))); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, min(at+25, landEvents))
	}
	return target.Close(ctx)
}

// TestLandingInClouds: in every store, a process that is killed at each kind of request, before it comes
// to the store or after, has landed what it has acknowledged, and who begins anew lands every event
// once.
func TestLandingInClouds(t *testing.T) {
	for _, s := range cloudStores() {
		engine := s.engine(t)
		s.reached(engine)
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			path := s.make(t, engine)
			p := faultproxy.NewWeb(t, engine)
			acked, kills := 0, 0
			for _, what := range []string{"/_weir/owner.json", "/_weir/dataset.json", "/_weir/schema/", "/_weir/plans/", ".parquet", "/_weir/commits/"} {
				for _, after := range []bool{false, true} {
					died := runLander(t, s, p, path, &acked, what, after)
					if died {
						kills++
					}
					if found := onceEach(t, path); found < acked || found > landEvents {
						t.Fatalf("killed at %s: %d events are there, and %d are acknowledged", what, found, acked)
					}
				}
			}
			if kills < 8 {
				t.Errorf("only %d kills: the test shows little", kills)
			}
			if runLander(t, s, p, path, &acked, "", false) || acked != landEvents {
				t.Fatalf("%d events are acknowledged in the end", acked)
			}
			if found := onceEach(t, path); found != landEvents {
				t.Errorf("%d events are there in the end, want %d", found, landEvents)
			}
			if err := catalog.Compact(t.Context(), path, catalog.CompactOptions{}); err != nil {
				t.Error(err)
			}
			if found := onceEach(t, path); found != landEvents {
				t.Errorf("%d events are there after a compaction, want %d", found, landEvents)
			}
		})
	}
}

// onceEach is how many events are in a dataset, none of them twice.
func onceEach(t *testing.T, path string) int {
	t.Helper()
	look, err := catalog.Look(t.Context(), path)
	if err != nil {
		return 0 // it was not made yet
	}
	look.Close()
	all := rowsOf(t, path)
	for n, times := range all {
		if times != 1 {
			t.Fatalf("event %d is there %d times", n, times)
		}
	}
	return len(all)
}

// runLander runs the child through p, and kills it at the first request that writes an object with what in
// its name; nothing kills it at none. It reports whether the child was killed.
func runLander(t *testing.T, s cloudStore, p *faultproxy.Web, path string, acked *int, what string, after bool) (killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, self)
	c.Env = append(os.Environ(), "WEIR_TEST_LAND="+path, fmt.Sprint("WEIR_TEST_FROM=", *acked))
	for name, value := range s.reach(p.URL) {
		c.Env = append(c.Env, name+"="+value)
	}
	var mu sync.Mutex
	p.On(func(r *http.Request) faultproxy.WebFault {
		if what == "" || r.Method != http.MethodPut && r.Method != http.MethodPost {
			return nil
		}
		return func(p *faultproxy.Web, w http.ResponseWriter, r *http.Request, body []byte) {
			address, err := url.QueryUnescape(r.URL.String())
			mu.Lock()
			if hit := err == nil && (strings.Contains(address, what) || bytes.Contains(body[:min(len(body), 4096)], []byte(what))); !hit || killed {
				mu.Unlock()
				faultproxy.WebShort(-1)(p, w, r, body)
				return
			}
			defer mu.Unlock()
			killed = true
			if after {
				faultproxy.WebLost(p, w, r, body)
			}
			if err := c.Process.Kill(); err != nil {
				t.Error(err)
			}
			if !after {
				faultproxy.WebCut(p, w, r, body)
			}
		}
	})
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if *acked, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	err = c.Wait()
	mu.Lock()
	defer mu.Unlock()
	if err != nil && !killed {
		t.Fatalf("the writer failed: %v: %s", err, &stderr)
	}
	return killed
}

// TestCrawlInClouds: folders that others write are found and adopted in every store, and read; a second crawl finds nothing new.
func TestCrawlInClouds(t *testing.T) {
	for _, s := range cloudStores() {
		engine := s.engine(t)
		s.reached(engine)
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			root := s.make(t, engine)
			b := bucketAt(t, root)
			for name, text := range map[string]string{
				"clicks/country=AT/part-1.jsonl": "{\"id\":1,\"price\":12}\n{\"id\":2,\"price\":12.5}\n",
				"clicks/country=DE/part-1.jsonl": "{\"id\":3}\n",
				"orders/2026/11/30/o.jsonl":      "{\"id\":4}\n",
			} {
				if _, err := b.Create(t.Context(), name, []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			crawl := func(o catalog.CrawlOptions) (all []catalog.Crawl) {
				if err := catalog.CrawlAll(t.Context(), root, o, func(c catalog.Crawl) { all = append(all, c) }); err != nil {
					t.Fatal(err)
				}
				return all
			}
			if all := crawl(catalog.CrawlOptions{Policy: catalog.Add}); len(all) != 2 || !all[0].Written || all[0].Rows+all[1].Rows != 4 {
				t.Fatalf("%+v", all)
			}
			if all := crawl(catalog.CrawlOptions{Policy: catalog.Add}); len(all) != 2 || all[0].New || all[0].Differs() || all[1].Differs() {
				t.Errorf("a second crawl: %+v", all)
			}
			var head bytes.Buffer
			if err := catalog.Head(t.Context(), &head, root+"/clicks", 10); err != nil {
				t.Fatal(err)
			}
			if want := "{\"id\":1,\"price\":12}\n{\"id\":2,\"price\":12.5}\n{\"id\":3}\n"; head.String() != want {
				t.Errorf("%s, want %s", head.String(), want)
			}
		})
	}
}

// bucketAt is the store at an address, as the environment leads to it.
func bucketAt(t *testing.T, address string) blob.Bucket {
	t.Helper()
	p, err := place.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Open(t.Context(), place.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}
