//go:build unix

package cli_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestInit: what weir init writes is checked without a finding, runs as it stands but for the
// ports, and does what it says; nothing is overwritten.
func TestInit(t *testing.T) {
	t.Parallel()
	post := func(t *testing.T, address, path, user, body string) bool {
		r, err := http.NewRequest(http.MethodPost, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, "")
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode < 300
	}
	for kind, row := range map[string]struct {
		send func(t *testing.T, dir, address string) bool
		out  string // a pattern of files
		text string
	}{
		"collect": {func(t *testing.T, _, address string) bool {
			return post(t, address, "/v1/track", "website", `{"userId":"me","event":"Hello"}`)
		}, "events.jsonl", "Hello"},
		"machine": {func(t *testing.T, _, address string) bool {
			return post(t, address, "/", "", `{"id":"7","items":[{"price":2,"count":3}]}`) && post(t, address, "/", "", `{"items":[]}`)
		}, "valid/7.json", `"total":6`},
		"lake": {func(t *testing.T, _, address string) bool {
			return post(t, address, "/", "", `{"id":"7","time":"2026-01-01T00:00:00Z","score":1.5}`)
		}, "lake/year=*/*/*/*/*.parquet", "PAR1"},
		"replicate": {func(t *testing.T, dir, _ string) bool {
			return os.WriteFile(filepath.Join(dir, "in.log"), []byte("one\ntwo\n"), 0o600) == nil
		}, "out.log", "one\ntwo\n"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "a b")
			out, err := weir(t, t.TempDir(), "init", kind, dir).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "weir run "+kind+".hcl") {
				t.Fatalf("%v: %s", err, out)
			}
			config := filepath.Join(dir, kind+".hcl")
			if out, err := weir(t, dir, "check", config).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok: ") {
				t.Errorf("%v: %s", err, out)
			}
			written := read(t, config)
			if out, err := weir(t, dir, "init", kind, dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "not overwritten") || read(t, config) != written {
				t.Errorf("a second time: %v: %s", err, out)
			}
			address, admin := addresstest.Free(t), addresstest.Free(t)
			ported := strings.NewReplacer("127.0.0.1:8080", address, "127.0.0.1:8081", admin).Replace(written)
			if err := os.WriteFile(config, []byte(ported), 0o600); err != nil {
				t.Fatal(err)
			}
			p := launch(t, weir(t, dir, "run", kind+".hcl"))
			eventually(t, "an answer", func() bool { return row.send(t, dir, address) })
			eventually(t, fmt.Sprintf("%s with %s", row.out, row.text), func() bool {
				names, err := filepath.Glob(filepath.Join(dir, row.out))
				return err == nil && len(names) == 1 && strings.Contains(read(t, names[0]), row.text)
			})
			if kind == "machine" {
				eventually(t, "the order that is refused", func() bool {
					names, err := filepath.Glob(filepath.Join(dir, "error/*.json"))
					return err == nil && len(names) > 0 && strings.Contains(read(t, names[0]), "an order has an id")
				})
			}
			p.signal(os.Interrupt)
			p.exits(0)
			if text := read(t, filepath.Join(dir, "failed.jsonl")); text != "" {
				t.Errorf("failed: %s", text)
			}
		})
	}
	if out, err := weir(t, t.TempDir(), "init", "colect").CombinedOutput(); err == nil || !strings.Contains(string(out), `did you mean "collect"?`) {
		t.Errorf("%v: %s", err, out)
	}
	_, err := weir(t, t.TempDir(), "init").CombinedOutput()
	if failed, is := errors.AsType[*exec.ExitError](err); !is || failed.ExitCode() != 2 {
		t.Errorf("without a kind: %v", err)
	}
}
