package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue/embedded"
)

func scriptOf(t testing.TB, source string, o executor.ScriptOptions) *executor.Script {
	t.Helper()
	f, err := executor.NewScript(source, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestScriptOutput: the output is what JSON.stringify makes of what main returns, as in
// Node.js, and null where that makes nothing.
func TestScriptOutput(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		`undefined`: `null`, `() => 1`: `null`, `null`: `null`, `NaN`: `null`, `-Infinity`: `null`, `"x"`: `"x"`,
		`{a: undefined, b: () => 1, c: Symbol("s"), d: 1}`:     `{"d":1}`,
		`[undefined, () => 1, NaN]`:                            `[null,null,null]`,
		`{at: new Date(0)}`:                                    `{"at":"1970-01-01T00:00:00.000Z"}`,
		`{at: new Date(NaN)}`:                                  `{"at":null}`,
		`{toJSON() { return {x: 1} }, y: 2}`:                   `{"x":1}`,
		`{a: {toJSON(key) { return "as " + key }}}`:            `{"a":"as a"}`,
		`new Map([[1, 2]])`:                                    `{}`,
		`[new Number(1), new String("s"), new Boolean(false)]`: `[1,"s",false]`,
		`Promise.resolve({a: undefined, b: 2})`:                `{"b":2}`,
		`Object.assign({}, input, {id: undefined})`:            `{"n":1.5}`,
	} {
		f := scriptOf(t, "function main(input) { return (() => { const r = "+result+"; return r })() }", executor.ScriptOptions{})
		got, err := f.Invoke(t.Context(), executor.Call{Input: []byte(`{"id":7,"n":1.5}`)})
		if err != nil || string(got.Output) != want {
			t.Errorf("%s is %s, %v, want %s", result, got.Output, err, want)
		}
	}
}

// TestScriptIsCut: a script whose task nobody waits for any more is interrupted, wherever it
// is, and the runtime that it had serves the next.
func TestScriptIsCut(t *testing.T) {
	t.Parallel()
	f := scriptOf(t, `function main(input) { if (input.hang) for (;;); return input }`, executor.ScriptOptions{Runtimes: 1, Timeout: time.Hour})
	why := errors.New("the task is over")
	for range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(20 * time.Millisecond); cancel(why) }()
		if _, err := f.Invoke(ctx, executor.Call{Input: []byte(`{"hang":true}`)}); !errors.Is(err, why) {
			t.Errorf("it ended with %v", err)
		}
		if got, err := f.Invoke(t.Context(), executor.Call{Input: []byte(`{"ok":1}`)}); err != nil || string(got.Output) != `{"ok":1}` {
			t.Errorf("%s, %v", got.Output, err)
		}
	}
}

// TestHangingScripts: scripts that hang are ended by their task's TimeoutSeconds, and take the
// places of no others, though there is only one place.
func TestHangingScripts(t *testing.T) {
	t.Parallel()
	s, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	const task = `{"Type":"Task","Resource":"F","TimeoutSeconds":%d,"Catch":[{"ErrorEquals":["States.Timeout"],"Next":"Late"}],"End":true}`
	text := `{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Variable":"$.hang","IsPresent":true,"Next":"Hangs"}],"Default":"Works"},
		"Hangs":` + fmt.Sprintf(task, 1) + `,"Works":` + fmt.Sprintf(task, 600) + `,"Late":{"Type":"Fail","Error":"Late"}}}`
	f := scriptOf(t, `function main(input) { if (input.hang) for (;;); return input }`, executor.ScriptOptions{Runtimes: 1, Timeout: time.Hour})
	r := run(t, s, text, map[string]executor.Function{"F": f})
	var all sync.WaitGroup
	for i := range 30 {
		input, want := fmt.Sprintf(`{"n":%d}`, i), ""
		if i%5 == 0 {
			input, want = `{"hang":true}`, "Late"
		}
		all.Go(func() {
			err := r.Execute(t.Context(), event.Batch{event.New([]byte(input))})
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v", input, err)
			}
		})
	}
	all.Wait()
	r.ends(t)
}

// TestTimeOfATaskThatWaits: the limits of a task count from when it works.
func TestTimeOfATaskThatWaits(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		slow := does(func(ctx context.Context, c executor.Call) error {
			c.Waiting()
			time.Sleep(time.Minute)
			c.Working()
			select {
			case <-time.After(20 * time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		r := run(t, s, `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"F","TimeoutSeconds":30,"End":true}}}`, map[string]executor.Function{"F": slow})
		began := time.Now()
		if err := r.Execute(t.Context(), event.Batch{event.New(nil)}); err != nil || time.Since(began).Round(time.Second) != 80*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		r.ends(t)
	})
}
