package enginetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// S3Key and S3Secret are the credentials of the store that S3 starts.
const (
	S3Key    = "weir"
	S3Secret = "weir-engine-secret"
)

// versitygw is an S3 on a folder, which knows all conditions. It ignores requester-pays, and
// encryption by a key of KMS.
var versitygw = &fetched{
	name: "versitygw", variable: "WEIR_TEST_S3", version: "1.8.0",
	needs: []string{"go"}, fetch: goInstall("github.com/versity/versitygw/cmd/versitygw@v1.8.0"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		for _, name := range []string{"buckets", "sidecar"} {
			if err := os.Mkdir(filepath.Join(w.dir, name), 0o777); err != nil {
				return nil, err
			}
			if err := os.Chmod(filepath.Join(w.dir, name), 0o777); err != nil { // the engine runs as another user
				return nil, err
			}
		}
		return []string{
			filepath.Join(dir, "versitygw"), "--port", "127.0.0.1:" + port, "--access", S3Key, "--secret", S3Secret, "--quiet", "--health", "/health",
			"posix", "--sidecar", filepath.Join(w.dir, "sidecar"), filepath.Join(w.dir, "buckets"),
		}, nil
	},
	address: httpURL, answers: answersTCP,
}

// fakeGCS is a Cloud Storage with its JSON API. It ignores ifGenerationMatch when it deletes.
var fakeGCS = &fetched{
	name: "fake-gcs-server", variable: "WEIR_TEST_GCS", version: "1.56.1",
	needs: []string{"go"}, fetch: goInstall("github.com/fsouza/fake-gcs-server@v1.56.1"),
	command: func(_ context.Context, _ *workspace, dir, port string) ([]string, error) {
		return []string{filepath.Join(dir, "fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory",
			"-external-url", "http://127.0.0.1:" + port, "-log-level", "error"}, nil
	},
	address: httpURL, answers: answersTCP,
}

// goInstall builds a command at a version, without a compiler of C.
func goInstall(command string) func(ctx context.Context, dir string, log io.Writer) error {
	return func(ctx context.Context, dir string, log io.Writer) error {
		c := exec.CommandContext(ctx, "go", "install", "-trimpath", command)
		c.Dir, c.Stdout, c.Stderr = dir, log, log
		c.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-trimpath")
		if err := c.Run(); err != nil {
			return fmt.Errorf("run go install %s: %w", command, err)
		}
		return nil
	}
}

// S3 is the endpoint of an S3 that knows conditional writes. Tests share it: each makes buckets
// of its own.
func S3(t testing.TB) string { t.Helper(); return versitygw.get(t) }

// GCS is the endpoint of a Cloud Storage. Tests share it: each makes buckets of its own.
func GCS(t testing.TB) string { t.Helper(); return fakeGCS.get(t) }
