package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fetched is an engine whose programs a package manager fetches into a folder of the machine's
// cache, under the version that tests are written for. A server is started on a free loopback port
// and keeps what it has in memory or in its workspace. Of files that are none the path is what the
// tests get for an address.
type fetched struct {
	name, variable, version string
	// files is where the files are in the folder, of what is no server, and says what version they
	// are, where that can be asked.
	files string
	says  func(ctx context.Context, path string) (string, error)
	// fetch puts the programs into the empty folder dir, and needs says what has to be there.
	fetch func(ctx context.Context, dir string, log io.Writer) error
	needs []string
	// command is the command line of the server in work, after what has to be prepared there.
	command func(ctx context.Context, w *workspace, dir, port string) ([]string, error)
	// address is what the tests get for a port; answers waits until the server does.
	address func(port string) string
	answers func(ctx context.Context, address string) error
	signal  string // that ends it; KILL when empty

	once sync.Once
	own  *Running
	err  error
}

func (f *fetched) engine() Engine {
	says := f.says
	if says == nil {
		says = func(ctx context.Context, address string) (string, error) {
			if f.answers == nil {
				return f.version, nil
			}
			return f.version, f.answers(ctx, address)
		}
	}
	return Engine{
		Name: f.name, Variable: f.variable,
		Get:     "let the test runner install it (go run ./internal/testrun), which needs " + strings.Join(f.needs, " and "),
		Start:   f.start,
		Install: f.install,
		Version: says,
	}
}

// get is the address of the engine that the tests share.
func (f *fetched) get(t testing.TB) string {
	t.Helper()
	return address(t, f.engine(), func() (*Running, error) {
		f.once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
			defer cancel()
			f.own, f.err = f.start(ctx)
		})
		return f.own, f.err
	})
}

// alone starts one that no other test knows, and stops it at the end of the test: for faults
// that others would notice.
func (f *fetched) alone(t testing.TB) *Running {
	t.Helper()
	e := f.engine()
	e.Variable = "WEIR_TEST_NO_SHARED_ENGINE" // one that somebody else runs is of no use here
	var r *Running
	address(t, e, func() (*Running, error) {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		var err error
		r, err = f.start(ctx)
		return r, err
	})
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("stop %s: %v", f.name, err)
		}
	})
	return r
}

// dir is where the programs are. The user that engines run as has to be able to read it, which
// a root's home is not.
func (f *fetched) dir() (string, error) {
	cache := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("find a place for %s: %w", f.name, err)
		}
	}
	name := strings.ReplaceAll(strings.ToLower(f.name), " ", "-")
	return filepath.Join(cache, "weir-engines", name+"-"+f.version), nil
}

func (f *fetched) install(ctx context.Context, log io.Writer) error {
	dir, err := f.dir()
	if err != nil {
		return err
	}
	for _, program := range f.needs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("install %s: %w", f.name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("install %s: %w", f.name, err)
	}
	// Whoever finds dir finds it whole: it gets its name at the end.
	made, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return fmt.Errorf("install %s: %w", f.name, err)
	}
	err = errors.Join(os.Chmod(made, 0o755), f.fetch(ctx, made, log))
	if err == nil {
		if err = os.Rename(made, dir); err == nil || f.installed(dir) == nil {
			return errors.Join(nil, os.RemoveAll(made))
		}
	}
	return errors.Join(fmt.Errorf("install %s: %w", f.name, err), os.RemoveAll(made))
}

func (f *fetched) installed(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%s is %w: %w", f.name, ErrMissing, err)
	}
	for _, program := range f.needs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is %w: %w", f.name, ErrMissing, err)
		}
	}
	return nil
}

func (f *fetched) start(ctx context.Context) (*Running, error) {
	dir, err := f.dir()
	if err == nil {
		err = f.installed(dir)
	}
	if err != nil {
		return nil, err
	}
	if f.files != "" {
		return &Running{Address: filepath.Join(dir, f.files)}, nil
	}
	// Somebody else may take the port between the choice and the start: choose again.
	for range 5 {
		var r *Running
		if r, err = f.startFrom(ctx, dir); err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (f *fetched) startFrom(ctx context.Context, dir string) (*Running, error) {
	w, err := newWorkspace("weir-engine-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	line, err := f.command(ctx, w, dir, port)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", f.name, err), w.remove())
	}
	r, err := w.start(cmp.Or(f.signal, "KILL"), line[0], line[1:]...)
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	r.Address = f.address(port)
	for {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f.answers(asking, r.Address)
		cancel()
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for %s to answer: %w: %w", f.name, context.Cause(ctx), err), r.Stop())
		}
		if r.endedWithin(50 * time.Millisecond) {
			return nil, errors.Join(fmt.Errorf("%s ended while it started: %s", f.name, r.said()), r.Stop())
		}
	}
}

// npm fetches packages, and nothing of theirs is run at the installation.
func npm(packages ...string) func(ctx context.Context, dir string, log io.Writer) error {
	return func(ctx context.Context, dir string, log io.Writer) error {
		args := append([]string{"install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error"}, packages...)
		return fetchWith(ctx, dir, log, "npm", args...)
	}
}

// pip fetches packages into an environment of their own.
func pip(packages ...string) func(ctx context.Context, dir string, log io.Writer) error {
	return func(ctx context.Context, dir string, log io.Writer) error {
		args := append([]string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", filepath.Join(dir, "lib")}, packages...)
		return fetchWith(ctx, dir, log, "python3", args...)
	}
}

// maven fetches libraries, group:name:version, with what they need into lib.
func maven(libraries ...string) func(ctx context.Context, dir string, log io.Writer) error {
	return func(ctx context.Context, dir string, log io.Writer) error {
		var deps strings.Builder
		for _, l := range libraries {
			p := strings.Split(l, ":")
			classifier := ""
			if len(p) == 4 {
				classifier = "<classifier>" + p[3] + "</classifier>"
			} else if len(p) != 3 {
				return fmt.Errorf("%q is not group:name:version, nor group:name:version:classifier", l)
			}
			fmt.Fprintf(&deps, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version>%s</dependency>", p[0], p[1], p[2], classifier)
		}
		pom := `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>` +
			`<groupId>test</groupId><artifactId>engine</artifactId><version>1</version><dependencies>` + deps.String() + `</dependencies></project>`
		file := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(file, []byte(pom), 0o644); err != nil {
			return err
		}
		return fetchWith(ctx, dir, log, "mvn", "-q", "-B", "-f", file, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib"))
	}
}

func fetchWith(ctx context.Context, dir string, log io.Writer, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	c.Dir, c.Stdout, c.Stderr = dir, log, log
	if err := c.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w", program, strings.Join(args, " "), err)
	}
	// Package managers keep to the umask of whoever calls them; engines run as somebody else.
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		mode := os.FileMode(0o644)
		if info, err := d.Info(); err != nil {
			return err
		} else if d.IsDir() || info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
}

// give writes a file for an engine, which may run as somebody else, whatever the umask of the test.
func give(path string, text []byte) error {
	return errors.Join(os.WriteFile(path, text, 0o644), os.Chmod(path, 0o644))
}

// answersTCP is content with a connection.
func answersTCP(ctx context.Context, hostport string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(strings.TrimPrefix(hostport, "https://"), "http://"))
	if err != nil {
		return err
	}
	return c.Close()
}

func plain(port string) string   { return "127.0.0.1:" + port }
func httpURL(port string) string { return "http://127.0.0.1:" + port }
