package executor_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestClockIsSet sets the clock of the machine while executions wait. A Wait with a time ends
// when the clock shows it; one with a number of seconds, and a retry, when these have passed,
// over restarts too.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for _, shift := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(shift, restart), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { clockIsSet(t, shift, restart) })
			})
		}
	}
}

func clockIsSet(t *testing.T, shift time.Duration, restart bool) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	var set time.Duration
	options := embedded.Options{FS: vfs.NewMem(),
		Now:    func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(set) },
		Steady: func() time.Duration { return time.Since(began) }}
	came := map[string]time.Duration{}
	note := does(func(_ context.Context, c executor.Call) error {
		mu.Lock()
		defer mu.Unlock()
		came[string(c.Input)] = time.Since(began)
		return nil
	})
	failed := false
	once := does(func(context.Context, executor.Call) error {
		if !failed {
			failed = true
			return &executor.TaskError{Name: "First"}
		}
		return nil
	})
	fs := map[string]executor.Function{"Note": note, "Once": once}
	at := began.Add(time.Hour)
	text := fmt.Sprintf(`{"StartAt":"C","States":{
		"C":{"Type":"Choice","Choices":[{"Variable":"$","StringEquals":"seconds","Next":"S"},{"Variable":"$","StringEquals":"time","Next":"T"}],"Default":"R"},
		"S":{"Type":"Wait","Seconds":3600,"Next":"N"},"T":{"Type":"Wait","Timestamp":%q,"Next":"N"},
		"R":{"Type":"Task","Resource":"Once","Retry":[{"ErrorEquals":["First"],"IntervalSeconds":3600}],"Next":"N"},
		"N":{"Type":"Task","Resource":"Note","End":true}}}`, at.UTC().Format(time.RFC3339))
	s, err := embedded.Open("store", options)
	if err != nil {
		t.Fatal(err)
	}
	m := run(t, s, text, fs)
	start(t, m.Machine, `"seconds"`, `"time"`, `"retry"`)
	time.Sleep(10 * time.Minute)
	if restart {
		m.ends(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = embedded.Open("store", options); err != nil {
			t.Fatal(err)
		}
		m = run(t, s, text, fs)
		time.Sleep(time.Minute)
	}
	mu.Lock()
	set = shift
	mu.Unlock()
	time.Sleep(4 * time.Hour)
	m.ends(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const slack = 2 * time.Minute // until a clock that was set is noticed
	named := time.Hour - shift
	if named < 10*time.Minute {
		named = 11 * time.Minute // as soon as the clock shows it
	}
	for name, want := range map[string]time.Duration{`"seconds"`: time.Hour, `"retry"`: time.Hour, `"time"`: named} {
		if got, ok := came[name]; !ok || (got-want).Abs() > slack {
			t.Errorf("%s came after %s, want %s", name, got, want)
		}
	}
}
