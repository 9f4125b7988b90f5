package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// TestTransformThatWaits: a message that a transform cannot work on yet goes back into the queue, and
// holds up no other; however often, it is no attempt, and no failure.
func TestTransformThatWaits(t *testing.T) {
	t.Parallel()
	for name, alone := range map[string]bool{"one by one": true, "together": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, vfs.NewMem())
				put(t, s, "a", "waits", "fine")
				b := newBench()
				b.parts.Source = queueSource(t, s, "a", nil)
				begin := time.Now()
				tries := 0
				wait := transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
					if string(m.Data) == "waits" {
						if tries++; tries <= 20 {
							return nil, fault.Pace(errors.New("not there yet"), time.Minute)
						}
						if m.Meta.Delivery.Attempt != 0 {
							t.Errorf("%d attempts are counted", m.Meta.Delivery.Attempt)
						}
					}
					return append(out, m), nil
				})
				if alone {
					b.through(1, wait)
				} else {
					b.through(1, wait, crowd{one, eachFate})
				}
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantPayloads(t, "target", b.target, "fine", "waits")
				wantPayloads(t, "failure", b.failure)
				if b.target.got[0].at.Sub(begin) > time.Second || time.Since(begin) < 20*time.Minute {
					t.Errorf("the other message waited %s, and all took %s", b.target.got[0].at.Sub(begin), time.Since(begin))
				}
				if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Dead+st.Waiting+st.Retrying+st.Leased != 0 {
					t.Errorf("left in the queue: %+v, %v", st, err)
				}
				closeStore(t, s)
			})
		})
	}
}
