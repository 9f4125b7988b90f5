package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

var kinds = []fault.Kind{fault.Transient, fault.Throttled, fault.Setup, fault.Invalid, fault.Fatal}

func TestKindSurvivesWrapping(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		err := fault.New(k, io.ErrUnexpectedEOF)
		for range 5 {
			err = fmt.Errorf("around: %w", err)
			if fault.Of(err) != k {
				t.Errorf("%v became %v", k, fault.Of(err))
			}
		}
		if joined := errors.Join(errors.New("other"), err); fault.Of(joined) != k {
			t.Errorf("%v became %v when joined", k, fault.Of(joined))
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error("the cause is hidden")
		}
		if err.Error() != "around: around: around: around: around: unexpected EOF" {
			t.Errorf("message is %q", err)
		}
	}
}

func TestOutermostKindCounts(t *testing.T) {
	t.Parallel()
	err := fault.New(fault.Setup, fmt.Errorf("around: %w", fault.Throttle(io.EOF, time.Second)))
	if fault.Of(err) != fault.Setup || fault.After(err) != 0 {
		t.Errorf("kind %v after %v, want setup and no wait: the outer error decides", fault.Of(err), fault.After(err))
	}
}

func TestWithoutKind(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, io.EOF, &fault.Error{Kind: 99, Err: io.EOF}} {
		if fault.Of(err) != fault.Transient || fault.After(err) != 0 || fault.DetailOf(err) != (fault.Detail{}) {
			t.Errorf("%v is %v", err, fault.Of(err))
		}
	}
	if fault.New(fault.Fatal, nil) != nil || fault.Describe(fault.Fatal, nil, fault.Detail{}) != nil || fault.Throttle(nil, 1) != nil {
		t.Error("no error became one")
	}
}

func TestDetailAndWait(t *testing.T) {
	t.Parallel()
	d := fault.Detail{Type: "api", Code: "429 Too Many Requests", Safe: "slow down"}
	if got := fault.DetailOf(fmt.Errorf("x: %w", fault.Describe(fault.Invalid, io.EOF, d))); got != d {
		t.Errorf("detail %+v", got)
	}
	if got := fault.After(fmt.Errorf("x: %w", fault.Throttle(io.EOF, 3*time.Second))); got != 3*time.Second {
		t.Errorf("wait %s", got)
	}
	paced := fmt.Errorf("x: %w", fault.Pace(io.EOF, time.Second))
	if !fault.Paced(paced) || fault.After(paced) != time.Second || fault.Of(paced) != fault.Throttled || !errors.Is(paced, io.EOF) {
		t.Errorf("paced: %v", paced)
	}
	if fault.Paced(fault.New(fault.Setup, paced)) || fault.Paced(io.EOF) || fault.Paced(nil) || fault.Pace(nil, 1) != nil {
		t.Error("what is not paced is")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	want := []string{"transient", "throttled", "setup", "invalid", "fatal"}
	for i, k := range kinds {
		if k.String() != want[i] {
			t.Errorf("%d is called %s", i, k)
		}
	}
	if fault.Kind(99).String() != "unknown" {
		t.Error("a kind that is none has a name")
	}
}
