package enginetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// promFiles is the command of Prometheus that checks rules and runs their tests, built from the
// module of Prometheus into the machine's cache.
var promFiles = &fetched{
	name: "promtool", variable: "WEIR_TEST_PROMTOOL", version: "0.316.0",
	needs: []string{"go"},
	fetch: func(ctx context.Context, dir string, log io.Writer) error {
		c := exec.CommandContext(ctx, "go", "install", "github.com/prometheus/prometheus/cmd/promtool@v0.316.0")
		c.Dir, c.Stdout, c.Stderr = dir, log, log // in no module
		c.Env = append(os.Environ(), "GOBIN="+filepath.Join(dir, "bin"), "CGO_ENABLED=0")
		if err := c.Run(); err != nil {
			return fmt.Errorf("go install: %w", err)
		}
		return nil
	},
}

// promtool is not a server: its address is the path of the command.
var promtool = Engine{
	Name: promFiles.name, Variable: promFiles.variable, Get: promFiles.engine().Get,
	Start:   startPromtool,
	Install: promFiles.install,
	Version: promtoolVersion,
}

func startPromtool(context.Context) (*Running, error) {
	dir, err := promFiles.dir()
	if err == nil {
		err = promFiles.installed(dir)
	}
	if err != nil {
		return nil, err
	}
	return &Running{Address: filepath.Join(dir, "bin", "promtool")}, nil
}

func promtoolVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "version", "-m", path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask promtool for its version: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "mod" {
			return strings.TrimPrefix(f[2], "v"), nil
		}
	}
	return "", fmt.Errorf("ask promtool for its version: %s", out)
}

var promtoolOnDemand = sync.OnceValues(func() (*Running, error) { return startPromtool(context.Background()) })

// Promtool is the path of the command promtool.
func Promtool(t testing.TB) string {
	t.Helper()
	return address(t, promtool, promtoolOnDemand)
}
