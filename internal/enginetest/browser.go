package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// chromium is not a server: its address is the path of the program.
var chromium = Engine{
	Name:     "Chromium",
	Variable: "WEIR_TEST_CHROMIUM",
	Get:      "install it (apt-get install chromium) or set WEIR_TEST_CHROMIUM to the path of a Chrome, or let the test runner install it",
	Start:    startChromium,
	Install: func(ctx context.Context, log io.Writer) error {
		if err := aptUsable(); err != nil {
			return err
		}
		return aptInstall(ctx, log, "chromium")
	},
	Version: func(ctx context.Context, path string) (string, error) {
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			return "", fmt.Errorf("ask Chromium for its version: %w", err)
		}
		return strings.TrimPrefix(strings.Join(strings.Fields(string(out)), " "), "Chromium "), nil
	},
}

func startChromium(context.Context) (*Running, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Running{Address: path}, nil
		}
	}
	return nil, fmt.Errorf("chromium: %w", ErrMissing)
}

var chromiumOnDemand = sync.OnceValues(func() (*Running, error) { return startChromium(context.Background()) })

// Browse shows a page in Chromium, without a window, until the test ends. What the browser says is
// in the test's log when it fails.
func Browse(t testing.TB, url string) {
	t.Helper()
	path := address(t, chromium, chromiumOnDemand)
	dir, err := os.MkdirTemp("", "weir-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	// It is killed when the pipe ends, however this process ends.
	c := exec.Command("sh", "-c", `"$0" "$@" </dev/null & cat >/dev/null; kill -9 $!; wait`, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+dir, url)
	c.Stdout, c.Stderr = &said, &said
	c.Env = append(os.Environ(), "HOME="+dir)
	c.WaitDelay = stopTimeout
	hold, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = c.Wait() // it was killed
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("Chromium said:\n%s", said.Bytes())
		}
	})
}

// browserSDKs are the SDKs that pages use to send events, as their makers publish them.
var browserSDKs = &fetched{
	name: "browser SDKs", variable: "WEIR_TEST_BROWSER_SDKS", version: "segment-1.84.3-rudderstack-3.34.1", files: "node_modules",
	needs: []string{"npm"},
	fetch: npm("@segment/analytics-next@1.84.3", "@rudderstack/analytics-js@3.34.1"),
}

// BrowserSDKs serves the packages @segment/analytics-next and @rudderstack/analytics-js.
func BrowserSDKs(t testing.TB) http.Handler {
	t.Helper()
	return http.FileServer(http.Dir(browserSDKs.get(t)))
}
