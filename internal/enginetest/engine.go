// Package enginetest gives tests the systems they need: [Postgres] is the address of a fresh
// database on a running PostgreSQL, [Kafka] that of a broker. Where the system itself cannot
// run on a test machine, what others wrote to stand in for it does.
//
// Where the engine comes from, in this order:
//
//  1. the environment variable of the engine (WEIR_TEST_POSTGRES), which the test
//     runner (internal/testrun) sets, or a developer with an engine of his own;
//  2. one that is started on demand from the programs installed on the machine, once
//     per test process, and stopped when the process ends, however it ends;
//  3. none. With CI=true the test then fails. Otherwise it is skipped, and the test
//     runner lists it at the end of the run as not run.
//
// # Life of a started engine
//
// An engine does not run as root: a root process starts it as the user postgres or nobody (but
// for one in Python, whose interpreter may be in root's home). What
// a package manager fetches is kept in the machine's cache, whole or not at all.
// A guardian shell owns the engine and its directory. It stops the engine and removes the
// directory as soon as its standard input ends, and the write end of that pipe is held
// only by the process that asked for the engine: closing it, exiting, or being killed
// with SIGKILL all have the same effect.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Engine is one real system that tests use.
type Engine struct {
	Name     string // as people write it: "PostgreSQL"
	Variable string // environment variable that holds its address
	Get      string // how a developer gets it, one line
	// Start starts one, or returns an error that wraps ErrMissing when the programs are
	// not installed.
	Start func(ctx context.Context) (*Running, error)
	// Install puts the programs on the machine; its error says what stands in the way.
	Install func(ctx context.Context, log io.Writer) error
	// Version asks the engine at address what it is.
	Version func(ctx context.Context, address string) (string, error)
}

// Engines lists every engine, in the order the test runner starts them.
func Engines() []Engine {
	engines := []Engine{postgres, duckDB, chromium}
	for _, f := range []*fetched{kinesisClientLibrary, awsCLI, pyIceberg, lambdaRuntime, browserSDKs, axe, promtool, apacheKafka, kinesisLocal, kinesalite, dynalite, fauxqs, nodeJS, moto, azurite, versitygw, fakeGCS, icebergCatalog, eventHubs} {
		engines = append(engines, f.engine())
	}
	return engines
}

// ErrMissing says that an engine's programs are not installed.
var ErrMissing = errors.New("not installed")

// NotRunVariable names the environment variable that holds the path of the file to which
// tests append what they could not run; see [AppendNotRun].
const NotRunVariable = "WEIR_TEST_NOT_RUN"

// startTimeout bounds the start of an engine, from creating its files to its first answer.
const startTimeout = 3 * time.Minute

// InCI reports whether the run is one that must not skip anything: CI is set to true.
func InCI() bool { return os.Getenv("CI") == "true" }

// NotRun is a test that was skipped because its engine is missing.
type NotRun struct {
	Engine string // name of the engine
	Dir    string // directory of the test's package
	Test   string
}

// AppendNotRun adds one line to the file at path. Several processes may do so at once.
func AppendNotRun(path string, n NotRun) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("open the list of tests not run: %w", err)
	}
	_, err = f.WriteString(n.Engine + "\t" + n.Dir + "\t" + n.Test + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("add to the list of tests not run: %w", err)
	}
	return nil
}

// ReadNotRun reads what [AppendNotRun] wrote; a file that does not exist lists nothing.
func ReadNotRun(path string) ([]NotRun, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of tests not run: %w", err)
	}
	var list []NotRun
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("read the list of tests not run: line %q has %d fields, not 3", line, len(fields))
		}
		list = append(list, NotRun{Engine: fields[0], Dir: fields[1], Test: fields[2]})
	}
	return list, nil
}

// workDir is the directory the test process started in: its package's. Kept because a
// test may change directory.
var workDir, _ = os.Getwd()

// address is where the engine e runs, starting it with start when the environment names
// none. A test without its engine ends here: failed with CI=true, skipped otherwise.
func address(t testing.TB, e Engine, start func() (*Running, error)) string {
	t.Helper()
	if a := os.Getenv(e.Variable); a != "" {
		return a
	}
	r, err := start()
	if err == nil {
		return r.Address
	}
	if !errors.Is(err, ErrMissing) || InCI() {
		t.Fatalf("start %s for the test: %v; %s, or set %s to the address of a running one", e.Name, err, e.Get, e.Variable)
	}
	if path := os.Getenv(NotRunVariable); path != "" {
		if err := AppendNotRun(path, NotRun{Engine: e.Name, Dir: filepath.Clean(workDir), Test: t.Name()}); err != nil {
			t.Fatal(err)
		}
	}
	t.Skipf("not run: it needs %s; %s", e.Name, e.Get)
	return ""
}
