package enginetest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a test that an engine function ends; it records how.
type recorder struct {
	testing.TB
	fatal, skipped bool
}

func (r *recorder) Helper()               { /* the recorder reports no lines */ }
func (r *recorder) Name() string          { return "TestOfAnEngine" }
func (r *recorder) Fatalf(string, ...any) { r.fatal = true; panic(r) }
func (r *recorder) Skipf(string, ...any)  { r.skipped = true; panic(r) }
func (r *recorder) Skipped() bool         { return r.skipped }

// ask calls address as a test would, and reports how the test ended.
func ask(e Engine, start func() (*Running, error)) (a string, r *recorder) {
	r = &recorder{}
	defer func() {
		if p := recover(); p != nil && p != any(r) {
			panic(p)
		}
	}()
	return address(r, e, start), r
}

func TestAddress(t *testing.T) {
	e := Engine{Name: "Engine", Variable: "WEIR_TEST_OF_ENGINETEST", Get: "build one"}
	missing := func() (*Running, error) { return nil, errors.Join(ErrMissing, errors.New("no program")) }
	broken := func() (*Running, error) { return nil, errors.New("it does not start") }
	list := filepath.Join(t.TempDir(), "list")
	t.Setenv(NotRunVariable, list)

	t.Setenv("CI", "")
	if _, r := ask(e, missing); !r.skipped {
		t.Error("without the engine, outside CI, the test was not skipped")
	}
	got, err := ReadNotRun(list)
	if err != nil || len(got) != 1 || got[0].Engine != "Engine" || got[0].Test != "TestOfAnEngine" || !strings.HasSuffix(got[0].Dir, "enginetest") {
		t.Errorf("list of tests not run: %+v, %v", got, err)
	}
	if _, r := ask(e, broken); !r.fatal {
		t.Error("an engine that is there and does not start did not fail the test")
	}
	t.Setenv("CI", "true")
	if _, r := ask(e, missing); !r.fatal {
		t.Error("without the engine, in CI, the test did not fail")
	}
	t.Setenv(e.Variable, "somewhere:1")
	if a, _ := ask(e, missing); a != "somewhere:1" {
		t.Errorf("the address in the environment was not used: %q", a)
	}
}
