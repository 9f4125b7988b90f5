//go:build unix

package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// PostgresServer is a PostgreSQL server of one test, which may be crashed, started again, and
// followed by a standby.
type PostgresServer struct {
	t    testing.TB
	bin  string
	dir  string
	port int
	cred *syscall.Credential
}

// NewPostgresServer starts a server with an empty data directory.
func NewPostgresServer(t testing.TB) *PostgresServer {
	t.Helper()
	Postgres(t) // what happens without PostgreSQL is decided there
	sv := PostgresPrograms(t)
	sv.dir = filepath.Join(t.TempDir(), "data")
	if os.Geteuid() == 0 {
		cred, err := unprivileged()
		if err != nil {
			t.Fatal(err)
		}
		sv.cred = cred
		dir, err := os.MkdirTemp("", "weir-postgres-server-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
		sv.dir = filepath.Join(dir, "data")
	}
	sv.Run("initdb", "-D", sv.dir, "-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	sv.port = addresstest.Port(t)
	sv.Start()
	t.Cleanup(sv.Crash)
	return sv
}

// PostgresPrograms is no server, but runs the programs of one.
func PostgresPrograms(t testing.TB) *PostgresServer {
	t.Helper()
	return &PostgresServer{t: t, bin: filepath.Dir(serverProgram(t))}
}

// serverProgram is where pg_ctl is; the others are beside it.
func serverProgram(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin, err := findPostgres(os.Getenv("PATH"), postgresDirs)
	if err != nil {
		t.Fatalf("this test crashes a PostgreSQL server of its own, and needs its programs: %v", err)
	}
	return filepath.Join(bin, "pg_ctl")
}

// Standby makes a standby of the server, which follows it.
func (sv *PostgresServer) Standby() *PostgresServer {
	sv.t.Helper()
	sb := &PostgresServer{t: sv.t, bin: sv.bin, dir: sv.dir + "-standby-" + strconv.Itoa(sv.port), cred: sv.cred, port: addresstest.Port(sv.t)}
	sv.Run("pg_basebackup", "-D", sb.dir, "-R", "-X", "stream", "-c", "fast", "-d", sv.DSN())
	sb.Start()
	sb.t.Cleanup(sb.Crash)
	return sb
}

// Promote ends a standby's following.
func (sv *PostgresServer) Promote() {
	sv.t.Helper()
	sv.Run("pg_ctl", "-D", sv.dir, "-w", "promote")
}

// Start starts the server on its port, with the data it has.
func (sv *PostgresServer) Start() {
	sv.t.Helper()
	sv.Run("pg_ctl", "-D", sv.dir, "-w", "-l", sv.dir+".log", "-o",
		fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=100", sv.port), "start")
}

// Crash ends the server without a checkpoint; one that has ended is left alone.
func (sv *PostgresServer) Crash() {
	sv.t.Helper()
	if _, err := os.Stat(filepath.Join(sv.dir, "postmaster.pid")); os.IsNotExist(err) {
		return
	}
	sv.Run("pg_ctl", "-D", sv.dir, "-m", "immediate", "-w", "stop")
}

// Address is host and port of the server.
func (sv *PostgresServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", sv.port) }

// DSN leads to the database postgres of the server.
func (sv *PostgresServer) DSN() string {
	return fmt.Sprintf("postgres://weir@%s/postgres?sslmode=disable", sv.Address())
}

// Run runs a program of the server to its end.
func (sv *PostgresServer) Run(name string, args ...string) {
	sv.t.Helper()
	if out, err := sv.Command(name, args...).CombinedOutput(); err != nil {
		sv.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Command is a program of the server, run as its user.
func (sv *PostgresServer) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(sv.bin, name), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: sv.cred}
	return cmd
}
