package cli_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/weirdata/weir/internal/cli"
	"github.com/weirdata/weir/internal/memorylimit"
)

// TestCommandsKeepToTheMemoryLimit: not only weir run does. What is set is for this whole process,
// and far above what it takes.
func TestCommandsKeepToTheMemoryLimit(t *testing.T) {
	const limit = 1 << 40
	dir := files(t, "p.hcl", "memory_limit_bytes = 1099511627776\nqueue \"q\" {}\n")
	before := memorylimit.Current()
	defer memorylimit.Set(before)
	for _, args := range [][]string{{"queue", "ls"}, {"queue", "export", "q"}} {
		memorylimit.Set(memorylimit.Limit{})
		var out bytes.Buffer
		_ = cli.Main(append(args, "--config", filepath.Join(dir, "p.hcl")), cli.Streams{Out: &out, Err: &out, Env: func(string) (string, bool) { return "", false }})
		if got := memorylimit.Current(); got.Bytes != limit {
			t.Errorf("weir %q keeps to %d bytes, of %d\n%s", args, got.Bytes, limit, &out)
		}
	}
}
