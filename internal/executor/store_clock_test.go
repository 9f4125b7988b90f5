package executor_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestWaitsGoByTheStore: where the clock of the store is hours away from that of the machine,
// as with a database elsewhere, waits take as long as they say, and what they wrote down is by
// the clock of the store.
func TestWaitsGoByTheStore(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem(), Now: func() time.Time { return time.Now().Add(ahead) }})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}()
				seen := make(chan string, 1)
				f := &task{do: func(_ context.Context, c executor.Call) (executor.Answer, error) {
					seen <- string(c.Input)
					return executor.Answer{Output: c.Input}, nil
				}}
				const text = `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":25,"Next":"T"},
					"T":{"Type":"Task","Resource":"F","Parameters":{"at.$":"$$.State.EnteredTime"},"TimeoutSeconds":60,"End":true}}}`
				r := run(t, s, text, map[string]executor.Function{"F": f})
				began := time.Now()
				start(t, r.Machine, `{}`)
				at := <-seen
				if took := time.Since(began); took < 25*time.Second || took > 26*time.Second {
					t.Errorf("a wait of 25 s took %s", took)
				}
				if want := time.Now().Add(ahead).UTC().Format("2006-01-02T15:04:05"); !strings.Contains(at, want) {
					t.Errorf("the state says %s, the store %s", at, want)
				}
				r.ends(t)
			})
		})
	}
}
