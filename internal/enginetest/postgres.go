package enginetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var postgres = Engine{
	Name:     "PostgreSQL",
	Variable: "WEIR_TEST_POSTGRES",
	Get:      "install PostgreSQL 14 or later (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql)",
	Start:    startPostgres,
	Install:  installPostgres,
	Version:  postgresVersion,
}

// onDemand starts PostgreSQL for this process, at most once.
var onDemand = sync.OnceValues(func() (*Running, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return startPostgres(ctx)
})

// Postgres returns the DSN of a fresh, empty database on a real PostgreSQL. The database
// is dropped when the test ends, connections and all.
func Postgres(t testing.TB) string {
	t.Helper()
	server := address(t, postgres, onDemand)
	name := "test_" + strings.ToLower(rand.Text()[:16])
	if err := execute(server, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	dsn, err := withDatabase(server, name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// withDatabase is dsn, in either of its two forms, with the database replaced.
func withDatabase(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname=" + name, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("parse %s: %w", postgres.Variable, err)
	}
	u.Path = "/" + name
	return u.String(), nil
}

func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, statement)
	return errors.Join(err, c.Close(ctx))
}

func postgresVersion(ctx context.Context, dsn string) (string, error) {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	var version string
	err = c.QueryRow(ctx, "SHOW server_version").Scan(&version)
	if err = errors.Join(err, c.Close(ctx)); err != nil {
		return "", fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	return version, nil
}

// startPostgres makes a cluster in a temporary directory and starts it on a free loopback
// port. fsync stays on: tests of durability mean it.
func startPostgres(ctx context.Context) (*Running, error) {
	bin, err := findPostgres(os.Getenv("PATH"), postgresDirs)
	if err != nil {
		return nil, err
	}
	// Somebody else may take the port between the choice and the start: choose again.
	for range 5 {
		var r *Running
		if r, err = startPostgresFrom(ctx, bin); !errors.Is(err, errPortTaken) {
			return r, err
		}
	}
	return nil, err
}

var errPortTaken = errors.New("the port chosen for PostgreSQL was taken by somebody else")

func startPostgresFrom(ctx context.Context, bin string) (*Running, error) {
	w, err := newWorkspace("weir-postgres-")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(w.dir, "data")
	err = w.run(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	r, err := w.start("QUIT", // immediate shutdown: what is on disk is thrown away
		filepath.Join(bin, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300")
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	r.Address = fmt.Sprintf("postgres://weir@127.0.0.1:%s/postgres?sslmode=disable", port)
	if err := awaitPostgres(ctx, r); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return r, nil
}

// awaitPostgres waits until the server that was just started answers.
func awaitPostgres(ctx context.Context, r *Running) error {
	for {
		c, err := pgx.Connect(ctx, r.Address)
		if err == nil {
			return c.Close(ctx)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for PostgreSQL to answer: %w: %w", context.Cause(ctx), err)
		}
		if !r.endedWithin(50 * time.Millisecond) {
			continue
		}
		said := r.said()
		if strings.Contains(said, "could not bind") {
			return errPortTaken
		}
		return fmt.Errorf("PostgreSQL ended while it started: %s", said)
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// postgresDirs are where systems put the server's programs when not in PATH.
var postgresDirs = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

// findPostgres is the directory that holds postgres and initdb: the first of path that
// has both, otherwise the last match (the newest version) of the first pattern that has.
func findPostgres(path string, patterns []string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && hasPrograms(filepath.Dir(real)) {
			return filepath.Dir(real), nil
		}
	}
	for _, pattern := range patterns {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for PostgreSQL in %s: %w", pattern, err)
		}
		slices.SortFunc(dirs, byVersion)
		for _, dir := range slices.Backward(dirs) {
			if hasPrograms(dir) {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("PostgreSQL is %w: no postgres and initdb in PATH or %s", ErrMissing, strings.Join(patterns, ", "))
}

var versionDir = regexp.MustCompile(`(\d+)(?:\.\d+)?/bin$`)

// byVersion orders directories by the version in their names: 9 comes before 14.
func byVersion(a, b string) int {
	version := func(dir string) int {
		m := versionDir.FindStringSubmatch(dir)
		if m == nil {
			return 0 // a name without a version comes first
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0
		}
		return n
	}
	return cmp.Or(cmp.Compare(version(a), version(b)), cmp.Compare(a, b))
}

func hasPrograms(dir string) bool {
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}
