package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// PostgresProgram is where a client program of PostgreSQL is, such as pg_dump: beside the server that
// tests start, or in PATH. Engines of one's own come without; where it is missing the test fails, or is
// skipped as for any engine.
func PostgresProgram(t testing.TB, name string) string {
	t.Helper()
	if bin, err := findPostgres(os.Getenv("PATH"), postgresDirs); err == nil {
		path := filepath.Join(bin, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case InCI():
		t.Fatalf("%s is missing: %s", name, postgres.Get)
	default:
		t.Skipf("%s is missing: %s", name, postgres.Get)
	}
	return ""
}
