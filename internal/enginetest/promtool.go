package enginetest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// promtool is the command of Prometheus that checks rules and runs their tests, built from the
// module of Prometheus into the machine's cache.
var promtool = &fetched{
	name: "promtool", variable: "WEIR_TEST_PROMTOOL", version: "0.316.0", files: "promtool", says: promtoolVersion,
	needs: []string{"go"}, fetch: goInstall("github.com/prometheus/prometheus/cmd/promtool@v0.316.0"),
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

// Promtool is the path of the command promtool.
func Promtool(t testing.TB) string {
	t.Helper()
	return promtool.get(t)
}
