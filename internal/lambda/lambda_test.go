package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lambda"
)

// bootstrap builds the handler of testdata, a module of its own with the official runtime
// library, once.
var bootstrap = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-lambda-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bootstrap")
	c := exec.Command("go", "build", "-o", path, ".")
	c.Dir = filepath.Join("testdata", "handler")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the handler: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if program := os.Getenv("WEIR_LAMBDA_PROGRAM"); program != "" {
		if err := parent(program); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		// The server lingers half a second on a connection whose request was too large.
		if err := goleak.Find(goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	if path, err := bootstrap(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 2 * time.Minute

const parentVariable = "WEIR_LAMBDA_PARENT"

// parent is a process that invokes a handler which takes long, and says which process that is.
func parent(program string) error {
	f := lambda.New(lambda.Options{Name: "Legacy", Command: []string{program}, Concurrency: 1, Timeout: time.Hour, Init: patience,
		Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err := f.Open(context.Background()); err != nil {
		return err
	}
	mode := os.Getenv(parentVariable)
	input := `{}`
	switch mode {
	case "CHILD", "APART":
		input = fmt.Sprintf(`{"country_code":%q}`, mode)
	case "guardian":
		input = `{"country_code":"CHILD"}`
	}
	out, err := f.Invoke(context.Background(), []byte(input))
	if err != nil {
		return err
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "pid %d\n", a.PID)
	if a.ID != "" {
		fmt.Fprintf(os.Stdout, "child %s\n", a.ID)
	}
	if mode == "guardian" {
		if err := endGuardian(); err != nil {
			return err
		}
		if err := os.Setenv(parentVariable, "CHILD"); err != nil {
			return err
		}
		return parent(program)
	}
	if mode != "busy" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return nil
	}
	_, err = f.Invoke(context.Background(), []byte(`{"id":"long","country_code":"SLOW"}`))
	return err
}

// said is a log that is written and read at once. What a process prints comes into it when
// the pipe has been read, so perhaps after the answer to the invocation that printed it.
type said struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed and replaced by each write
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.b.Write(p)
}

func (s *said) now() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String(), s.more
}

// until waits until the log has want.
func (s *said) until(t *testing.T, want string) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text, more := s.now()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-more:
		case <-late.C:
			t.Fatalf("the log does not have %q:\n%s", want, text)
		}
	}
}

func open(t *testing.T, change func(*lambda.Options)) (*lambda.Function, *said) {
	t.Helper()
	path, err := bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	log := &said{more: make(chan struct{})}
	o := lambda.Options{Name: "Legacy", Command: []string{path}, Dir: t.TempDir(), Env: map[string]string{"STAGE": "test"}, Concurrency: 1,
		Timeout: time.Hour, Init: patience, Log: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&o)
	}
	f := lambda.New(o)
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := f.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return f, log
}

type answer struct {
	ID         string   `json:"id"`
	RequestID  string   `json:"request_id"`
	ARN        string   `json:"arn"`
	Function   string   `json:"function"`
	DeadlineIn int64    `json:"deadline_in_ms"`
	PID        int      `json:"pid"`
	Env        []string `json:"env"`
}

func invoke(t *testing.T, f *lambda.Function, payload string) answer {
	t.Helper()
	out, err := f.Invoke(t.Context(), []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return a
}

// TestHandler runs a handler built with the official library, unchanged.
func TestHandler(t *testing.T) {
	t.Setenv("WEIR_TEST_SECRET", "of the parent")
	f, log := open(t, nil)
	first, second := invoke(t, f, `{"id":"1","country_code":"GB"}`), invoke(t, f, `{"id":"2","country_code":"GB"}`)
	if first.ID != "1" || second.ID != "2" || first.PID != second.PID || first.RequestID == second.RequestID || first.RequestID == "" {
		t.Errorf("%+v and %+v", first, second)
	}
	if !strings.HasSuffix(first.ARN, ":function:Legacy") || first.Function != "Legacy" || first.DeadlineIn < 3_000_000 || first.DeadlineIn > 3_600_000 {
		t.Errorf("the context is %+v", first)
	}
	if !slices.Contains(first.Env, "STAGE=test") || slices.ContainsFunc(first.Env, func(e string) bool { return strings.HasPrefix(e, "WEIR_") || strings.HasPrefix(e, "HOME=") }) {
		t.Errorf("the environment is %q", first.Env)
	}
	for _, want := range []string{"order 1", "stream=stdout", "country GB", "stream=stderr", "function=Legacy"} {
		log.until(t, want)
	}
}

// TestErrors: what fails has the name and payload of the handler's runtime, and the next
// invocation works again.
func TestErrors(t *testing.T) {
	t.Parallel()
	usual, _ := open(t, nil)
	hasty, _ := open(t, func(o *lambda.Options) { o.Timeout = 2 * time.Second })
	for _, row := range []struct{ code, name, payload string }{
		{"FR", "ErrInvalidCountryCode", "invalid country code: FR"},
		{"PLAIN", "errorString", "a plain error"},
		{"PANIC", "string", "a panic of the handler"},
		{"EXIT", lambda.ErrorExited, "exit status 3"},
		{"SLOW", lambda.ErrorTimedOut, "Task timed out after 2.00 seconds"},
		{"LARGE", lambda.ErrorTooLarge, "6291456"},
	} {
		f := usual
		if row.code == "SLOW" {
			f = hasty
		}
		_, err := f.Invoke(t.Context(), []byte(`{"country_code":"`+row.code+`"}`))
		var failed *lambda.Error
		if !errors.As(err, &failed) || failed.Type != row.name || !strings.Contains(string(failed.Payload), row.payload) || !json.Valid(failed.Payload) {
			t.Errorf("%s: %v", row.code, err)
		}
		if f == hasty {
			again(t, f)
		} else if a := invoke(t, f, `{"id":"after"}`); a.ID != "after" {
			t.Errorf("after %s: %+v", row.code, a)
		}
	}
}

// again invokes a function whose time is short until it answers: on a busy machine an
// invocation that has nothing to do may take too long as well.
func again(t *testing.T, f *lambda.Function) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		out, err := f.Invoke(ctx, []byte(`{"id":"after"}`))
		var failed *lambda.Error
		switch {
		case err == nil && strings.Contains(string(out), `"id":"after"`):
			return
		case !errors.As(err, &failed) || failed.Type != lambda.ErrorTimedOut:
			t.Fatalf("after an invocation that took too long: %s, %v", out, err)
		}
	}
}

// TestAgain: a function works again after Close and Open, with new processes; in between it
// starts none.
func TestAgain(t *testing.T) {
	t.Parallel()
	f, _ := open(t, nil)
	first := invoke(t, f, `{"id":"1"}`)
	if err := f.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	var failed *lambda.Error
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.As(err, &failed) || failed.Type != lambda.ErrorExited {
		t.Errorf("while it is closed: %v", err)
	}
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second := invoke(t, f, `{"id":"2"}`); second.ID != "2" || second.PID == first.PID {
		t.Errorf("%+v after %+v", second, first)
	}
}

// TestConcurrency: as many processes as may be, and no more.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	f, _ := open(t, func(o *lambda.Options) { o.Concurrency = 2 })
	var mu sync.Mutex
	pids := map[int]int{}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			out, err := f.Invoke(t.Context(), fmt.Appendf(nil, `{"id":"%d"}`, i))
			var a answer
			if err != nil || json.Unmarshal(out, &a) != nil || a.ID != fmt.Sprint(i) {
				t.Errorf("%d: %s, %v", i, out, err)
			}
			mu.Lock()
			defer mu.Unlock()
			pids[a.PID]++
		})
	}
	wg.Wait()
	if len(pids) != 2 {
		t.Errorf("the invocations ran in %v, want two processes", pids)
	}
}

// TestCannotBegin: a process that never asks for an invocation, and a program that is not there.
func TestCannotBegin(t *testing.T) {
	t.Parallel()
	f, _ := open(t, func(o *lambda.Options) { o.Env = map[string]string{"INIT": "fail"} })
	var failed *lambda.Error
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.As(err, &failed) || failed.Type != lambda.ErrorExited {
		t.Errorf("a process that exits: %v", err)
	}
	f, _ = open(t, func(o *lambda.Options) { o.Command, o.Init = []string{"sleep", "600"}, 200*time.Millisecond })
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.As(err, &failed) || failed.Type != lambda.ErrorTimedOut {
		t.Errorf("a process that does not ask: %v", err)
	}
	missing := lambda.New(lambda.Options{Name: "x", Command: []string{"./not-there"}, Dir: t.TempDir(), Timeout: time.Second})
	if err := missing.Open(t.Context()); fault.Of(err) != fault.Setup {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestCancelled: an invocation that nobody waits for any more ends with its process.
func TestCancelled(t *testing.T) {
	t.Parallel()
	f, _ := open(t, nil)
	invoke(t, f, `{}`)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// The handler would take its ten minutes and then answer.
	if _, err := f.Invoke(ctx, []byte(`{"country_code":"SLOW"}`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	invoke(t, f, `{}`)
}
