package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
)

func TestWithPackages(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ args, want string }{
		{"", "./..."},
		{"-race", "./... -race"},
		{"-run TestOne", "./... -run TestOne"},
		{"-race ./internal/event", "-race ./internal/event"},
		{". -run X", ". -run X"},
		{"github.com/weirdata/weir/internal/event", "github.com/weirdata/weir/internal/event"},
	} {
		got := strings.Join(withPackages(strings.Fields(row.args)), " ")
		if got != row.want {
			t.Errorf("withPackages(%q) = %q, want %q", row.args, got, row.want)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	const out = "ok  \tweir/a\t0.1s\n" +
		"?   \tweir/none\t[no test files]\n" +
		"--- FAIL: TestOne (0.00s)\n    --- FAIL: TestOne/row (0.00s)\n        x_test.go:3: no\nFAIL\nFAIL\tweir/b\t0.2s\n" +
		"ok  \tweir/c\t(cached)\n" +
		"FAIL\tweir/d [build failed]\nFAIL"
	var passed bytes.Buffer
	ta := &tally{to: &passed}
	for _, b := range []byte(out) { // in the worst of pieces
		if _, err := ta.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	ta.flush()
	if diff := cmp.Diff(out, passed.String()); diff != "" {
		t.Errorf("what go test printed was changed: %s", diff)
	}
	want := "FAIL weir/b 0.2s\n     TestOne\n     TestOne/row\nFAIL weir/d [build failed]\n" +
		"FAIL: go test ./...: packages: 2 passed, 2 failed"
	if diff := cmp.Diff(want, ta.closing([]string{"./..."}, 1, nil)); diff != "" {
		t.Error(diff)
	}
}

// module writes a Go module with one test file and changes into it.
func module(t *testing.T, test string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.org/one\n\ngo 1.26\n",
		"one_test.go": "package one\n\nimport (\n\t\"os\"\n\t\"testing\"\n\t\"time\"\n)\n\nvar _ = time.Second\nvar _ = os.Args\n\n" + test,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	t.Setenv("WEIR_TEST_FAKE", "")
}

// engine is an entry of the table that needs no programs: its address is all there is.
func engine(start func(context.Context) (*enginetest.Running, error)) enginetest.Engine {
	return enginetest.Engine{
		Name: "Fake", Variable: "WEIR_TEST_FAKE", Get: "write one",
		Start:   start,
		Install: func(context.Context, io.Writer) error { return errors.New("there is nothing to install") },
		Version: func(_ context.Context, a string) (string, error) { return "1.0 at " + a, nil },
	}
}

func absent(context.Context) (*enginetest.Running, error) { return nil, enginetest.ErrMissing }

func TestRunHandsOverAddressesAndTheExitStatus(t *testing.T) {
	module(t, `func TestOne(t *testing.T) {
	if os.Getenv("WEIR_TEST_FAKE") != "somewhere" {
		t.Error("no address")
	}
}`)
	var out, log bytes.Buffer
	if code := run(t.Context(), nil, []enginetest.Engine{engine(absent)}, &out, &log); code != 1 {
		t.Errorf("exit status %d of a failed test, want 1: %s%s", code, out.String(), log.String())
	}
	for _, want := range []string{"missing  Fake: not installed; install it: there is nothing to install\n         write one\n",
		"FAIL example.org/one", "     TestOne\n", "FAIL: go test ./...: packages: 0 passed, 1 failed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}

	t.Setenv("WEIR_TEST_FAKE", "somewhere")
	out.Reset()
	if code := run(t.Context(), nil, []enginetest.Engine{engine(absent)}, &out, &log); code != 0 {
		t.Errorf("exit status %d of a passed test, want 0: %s%s", code, out.String(), log.String())
	}
	want := "engine   Fake 1.0 at somewhere (named by WEIR_TEST_FAKE)\nok: go test ./...: packages: 1 passed, 0 failed\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("output does not end with %q:\n%s", want, out.String())
	}
}

func TestRunListsWhatWasNotRun(t *testing.T) {
	module(t, `func TestOne(t *testing.T) {
	f, err := os.OpenFile(os.Getenv("WEIR_TEST_NOT_RUN"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	wd, _ := os.Getwd()
	if _, err := f.WriteString("Fake\t" + wd + "\tTestOne\n"); err != nil {
		t.Fatal(err)
	}
	t.Skip()
}`)
	var out, log bytes.Buffer
	if code := run(t.Context(), []string{"-count=1"}, []enginetest.Engine{engine(absent)}, &out, &log); code != 0 {
		t.Errorf("exit status %d: %s%s", code, out.String(), log.String())
	}
	if want := "not run  . TestOne (needs Fake)\n"; !strings.Contains(out.String(), want) {
		t.Errorf("output lacks %q:\n%s", want, out.String())
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	module(t, `func TestOne(t *testing.T) {
	if err := os.WriteFile("started", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
}`)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var out, log bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, nil, nil, &out, &log) }()
	for {
		if _, err := os.Stat("started"); err == nil {
			break
		}
		select {
		case code := <-ended:
			t.Fatalf("the run ended before its test began, with %d: %s%s", code, out.String(), log.String())
		case <-time.After(20 * time.Millisecond): // the go command is waited for: its clock is the real one
		}
	}
	cancel(errors.New("enough"))
	if code := <-ended; code != 130 {
		t.Errorf("exit status %d of an interrupted run, want 130", code)
	}
	if !strings.Contains(out.String(), "interrupted: enough") {
		t.Errorf("the closing line does not say why: %s", out.String())
	}
}
