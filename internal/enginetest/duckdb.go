package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// duckVersion is the version that [Engine.Install] installs.
const duckVersion = "2.0.0"

// duckDB is not a server: its address is a Python interpreter that has the module duckdb.
var duckDB = Engine{
	Name:     "DuckDB",
	Variable: "WEIR_TEST_DUCKDB",
	Get:      "install its Python module (python3 -m venv DIR && DIR/bin/pip install duckdb) and set WEIR_TEST_DUCKDB to DIR/bin/python, or let the test runner install it",
	Start:    startDuckDB,
	Install:  installDuckDB,
	Version:  duckDBVersion,
}

var duckOnDemand = sync.OnceValues(func() (*Running, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return startDuckDB(ctx)
})

// Duck runs queries in DuckDB, a reader of Parquet that nobody here wrote.
type Duck struct{ python string }

// DuckDB returns a DuckDB. Each query has a database of its own, in memory.
func DuckDB(t testing.TB) Duck {
	t.Helper()
	return Duck{address(t, duckDB, duckOnDemand)}
}

// Python is the interpreter that has the module.
func (d Duck) Python() string { return d.python }

// duckScript prints the rows of the query on its standard input as a JSON array of objects,
// as DuckDB itself writes them.
const duckScript = `
import os, sys, duckdb
c = duckdb.connect()
c.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
if os.environ["BEFORE"]: c.execute(os.environ["BEFORE"])
rows = c.execute("SELECT to_json(t) FROM (" + sys.stdin.read() + ") t").fetchall()
sys.stdout.write("[" + ",".join(r[0] for r in rows) + "]")
`

// Query runs one query and returns its rows, with numbers as json.Number.
func (d Duck) Query(t testing.TB, query string) []map[string]any {
	t.Helper()
	return d.Run(t, "", query)
}

// Run is Query after some statements, each of which ends with a semicolon.
func (d Duck) Run(t testing.TB, before, query string) []map[string]any {
	t.Helper()
	out, err := d.query(t.Context(), before, query)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.UseNumber()
	var rows []map[string]any
	if err := dec.Decode(&rows); err != nil {
		t.Fatalf("read the answer of DuckDB: %v: %s", err, out)
	}
	return rows
}

func (d Duck) query(ctx context.Context, before, query string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, d.python, "-c", duckScript)
	c.Env = append(os.Environ(), "BEFORE="+before)
	c.Stdin = strings.NewReader(query)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("ask DuckDB: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// startDuckDB finds an interpreter: the one that Install made, or python3 if it has the module.
func startDuckDB(ctx context.Context) (*Running, error) {
	own, err := duckPython()
	if err != nil {
		return nil, err
	}
	for _, python := range []string{own, "python3"} {
		if exec.CommandContext(ctx, python, "-c", "import duckdb").Run() == nil {
			return &Running{Address: python}, nil
		}
	}
	return nil, fmt.Errorf("DuckDB is %w: neither %s nor python3 has the module duckdb", ErrMissing, own)
}

// duckPython is where Install puts the interpreter.
func duckPython() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for DuckDB: %w", err)
	}
	dir := filepath.Join(cache, "weir-engines", "duckdb-"+duckVersion)
	if runtime.GOOS == "windows" {
		return filepath.Join(dir, "Scripts", "python.exe"), nil
	}
	return filepath.Join(dir, "bin", "python"), nil
}

func installDuckDB(ctx context.Context, log io.Writer) error {
	python, err := duckPython()
	if err != nil {
		return err
	}
	dir := filepath.Dir(filepath.Dir(python))
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{python, "-m", "pip", "install", "--quiet", "duckdb==" + duckVersion},
	} {
		c := exec.CommandContext(ctx, args[0], args[1:]...)
		c.Stdout, c.Stderr = log, log
		if err := c.Run(); err != nil {
			return errors.Join(fmt.Errorf("run %s: %w", strings.Join(args, " "), err), os.RemoveAll(dir))
		}
	}
	return nil
}

func duckDBVersion(ctx context.Context, python string) (string, error) {
	out, err := Duck{python}.query(ctx, "", "SELECT version() AS version")
	if err != nil {
		return "", err
	}
	var rows []struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(out, &rows); err != nil || len(rows) != 1 {
		return "", fmt.Errorf("ask DuckDB for its version: %q: %w", out, err)
	}
	return strings.TrimPrefix(rows[0].Version, "v"), nil
}
