package enginetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func query[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	var v T
	if err := c.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPostgresGivesEachTestAFreshDatabase(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	names := []string{query[string](t, Postgres(t), "SELECT current_database()")}
	t.Run("databases", func(t *testing.T) {
		for range 3 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				dsn := Postgres(t)
				if err := execute(dsn, "CREATE TABLE same_name (id bigint)"); err != nil {
					t.Errorf("the database is not empty: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				names = append(names, query[string](t, dsn, "SELECT current_database()"))
			})
		}
	})
	slices.Sort(names)
	if got := len(slices.Compact(names)); got != 4 {
		t.Errorf("%d different databases for 4 tests: %v", got, names)
	}
}

func TestPostgresIsDurable(t *testing.T) {
	t.Parallel()
	dsn := Postgres(t)
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if got := query[string](t, dsn, "SHOW "+setting); got != "on" {
			t.Errorf("%s is %s: tests of durability would prove nothing", setting, got)
		}
	}
}

func TestPostgresDropsTheDatabaseWithItsConnections(t *testing.T) {
	t.Parallel()
	var dsn, name string
	t.Run("use", func(t *testing.T) {
		dsn = Postgres(t)
		name = query[string](t, dsn, "SELECT current_database()")
		if _, err := pgx.Connect(t.Context(), dsn); err != nil { // left open
			t.Fatal(err)
		}
	})
	other := Postgres(t)
	if query[bool](t, other, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = '"+name+"')") {
		t.Errorf("database %s is still there", name)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ dsn, want string }{
		{"postgres://u@127.0.0.1:5432/postgres?sslmode=disable", "postgres://u@127.0.0.1:5432/fresh?sslmode=disable"},
		{"host=127.0.0.1 dbname=postgres", "host=127.0.0.1 dbname=postgres dbname=fresh"},
	} {
		got, err := withDatabase(row.dsn, "fresh")
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgx.ParseConfig(got)
		if err != nil {
			t.Fatal(err)
		}
		if got != row.want || c.Database != "fresh" || c.Host != "127.0.0.1" {
			t.Errorf("withDatabase(%q) = %q (database %s), want %q", row.dsn, got, c.Database, row.want)
		}
	}
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	install := func(version string, programs ...string) string {
		bin := filepath.Join(dir, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			if err := os.WriteFile(filepath.Join(bin, p), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return bin
	}
	pattern := []string{filepath.Join(dir, "*", "bin")}

	clientOnly := install("18", "psql")
	if _, err := findPostgres(clientOnly, pattern); !errors.Is(err, ErrMissing) {
		t.Errorf("with a client only: %v, want ErrMissing", err)
	}
	old, recent := install("9", "postgres", "initdb"), install("16", "postgres", "initdb")
	if got, err := findPostgres(clientOnly, pattern); err != nil || got != recent {
		t.Errorf("without one in PATH: %q, %v, want the newest, %q", got, err, recent)
	}
	linked := filepath.Join(dir, "linked")
	if err := os.Mkdir(linked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(old, "postgres"), filepath.Join(linked, "postgres")); err != nil {
		t.Fatal(err)
	}
	if got, err := findPostgres(linked, pattern); err != nil || got != old {
		t.Errorf("with a link in PATH: %q, %v, want where it leads, %q", got, err, old)
	}
}

func TestNotRunList(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	if got, err := ReadNotRun(path); err != nil || got != nil {
		t.Errorf("before anything was added: %v, %v", got, err)
	}
	want := []NotRun{{"PostgreSQL", "/a/b", "TestOne/row 1"}, {"PostgreSQL", "/a/c", "TestTwo"}}
	for _, n := range want {
		if err := AppendNotRun(path, n); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadNotRun(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(path, []byte("half a line\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadNotRun(path); err == nil {
		t.Error("a damaged list was read without an error")
	}
}
