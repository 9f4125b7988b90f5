package executor_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

const (
	hour    = `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":3600,"Next":"P"},"P":{"Type":"Pass","End":true}}}`
	another = `{"StartAt":"Q","States":{"Q":{"Type":"Pass","End":true}}}`
	endless = `{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":60,"Next":"B"},"B":{"Type":"Wait","Seconds":60,"Next":"A"}}}`
)

func replace(t *testing.T, s queue.Store, key string, value []byte) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		if value == nil {
			return tx.Delete([]byte(key))
		}
		return tx.Put([]byte(key), value)
	}); err != nil {
		t.Fatal(err)
	}
}

// limited gives a definition limits.
func limited(t *testing.T, text string, limits machine.Limits) func(*executor.Options) {
	return func(o *executor.Options) {
		def, err := machine.Parse([]byte(text), limits)
		if err != nil {
			t.Fatal(err)
		}
		o.Definition = def
	}
}

// TestRefusedByNow: an execution goes on with a definition that a later version refuses.
func TestRefusedByNow(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		m := run(t, s, hour, nil)
		start(t, m.Machine, `{}`)
		time.Sleep(time.Minute)
		m.ends(t)
		replace(t, s, "machine/m/d/"+parse(t, hour).Revision(), []byte(strings.Replace(hour, `"Type":"Wait"`, `"Type":"Wait","Resource":"x","Comment":7`, 1)))
		m = run(t, s, another, nil)
		settle(t, s)
		m.ends(t)
		if n := m.Meter().Target.Written.Load(); n != 1 || executions(t, s) != 0 || len(dead(t, s)) != 0 {
			t.Errorf("%d succeeded, %d are left, %d are dead", n, executions(t, s), len(dead(t, s)))
		}
	})
}

// TestLimitsStay: an execution keeps the limits it was started with, whatever becomes of the
// definition and of its limits.
func TestLimitsStay(t *testing.T) {
	for name, then := range map[string]func(*testing.T) func(*executor.Options){
		"another text":    func(t *testing.T) func(*executor.Options) { return limited(t, another, machine.Limits{}) },
		"the same text":   func(t *testing.T) func(*executor.Options) { return limited(t, endless, machine.Limits{}) },
		"the same limits": func(t *testing.T) func(*executor.Options) { return limited(t, endless, machine.Limits{Events: 40}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *embedded.Store) {
				m := run(t, s, endless, nil, limited(t, endless, machine.Limits{Events: 40}))
				start(t, m.Machine, `{}`)
				time.Sleep(2 * time.Minute)
				m.ends(t)
				m = run(t, s, endless, nil, then(t))
				time.Sleep(2 * time.Hour)
				m.ends(t)
				jobs := dead(t, s)
				if len(jobs) != 1 || !strings.Contains(jobs[0].Cause, "maximum number of history events (40)") {
					t.Errorf("after two hours %d are dead: %v", len(jobs), jobs)
				}
			})
		})
	}
}

// TestRecordedWithoutLimits: an execution from before limits were recorded has those of the
// config, and goes on.
func TestRecordedWithoutLimits(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		m := run(t, s, endless, nil)
		start(t, m.Machine, `{}`)
		time.Sleep(2 * time.Minute)
		m.ends(t)
		replace(t, s, "machine/m/l/"+parse(t, endless).Revision(), nil)
		m = run(t, s, endless, nil, limited(t, endless, machine.Limits{Events: 40}))
		time.Sleep(2 * time.Hour)
		m.ends(t)
		if jobs := dead(t, s); len(jobs) != 1 || !strings.Contains(jobs[0].Cause, "(40)") {
			t.Errorf("dead: %v", jobs)
		}
	})
}

// TestGoesOnElsewhere: an execution that this version cannot read is not given up. It goes on as
// soon as it can be read.
func TestGoesOnElsewhere(t *testing.T) {
	revision := parse(t, hour).Revision()
	definition := "machine/m/d/" + revision
	for name, keys := range map[string][2]string{ // what is replaced, and by what
		"definition gone":       {definition, ""},
		"definition unreadable": {definition, "<machine/>"},
		"limits unreadable":     {"machine/m/l/" + revision, "<limits/>"},
		"later version":         {"machine/m/x/", "later"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *embedded.Store) {
				m := run(t, s, hour, nil)
				start(t, m.Machine, `{}`)
				time.Sleep(time.Minute)
				m.ends(t)
				was := records(t, s, keys[0])
				if len(was) != 1 {
					t.Fatalf("%d records %s", len(was), keys[0])
				}
				var now []byte
				switch keys[1] {
				case "":
				case "later":
					now = bytes.Clone(was[0].Value)
					now[len(revision)] = 99
				default:
					now = []byte(keys[1])
				}
				replace(t, s, string(was[0].Key), now)
				m = run(t, s, another, nil)
				time.Sleep(70 * time.Minute)
				m.ends(t)
				if open(t, s) != 1 || len(records(t, s, "machine/m/x/")) != 1 {
					t.Fatalf("%d jobs are open, %d executions are there", open(t, s), len(records(t, s, "machine/m/x/")))
				}
				replace(t, s, string(was[0].Key), was[0].Value)
				m = run(t, s, another, nil)
				settle(t, s)
				m.ends(t)
				if n := m.Meter().Target.Written.Load(); n != 1 || executions(t, s) != 0 {
					t.Errorf("%d succeeded, %d are left", n, executions(t, s))
				}
			})
		})
	}
}
