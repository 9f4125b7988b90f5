package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// TestOverflow: whatever sizes messages and limits have, and whatever the failure target says of
// what it is given, each message is delivered, or whole in the failure target or in the overflow;
// without an overflow, whole, or counted as cut. Nothing is given back to the source, whether
// that is a queue of the same store or not.
func TestOverflow(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	for n := range 60 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(seed), uint64(n)))
				s := openStore(t, vfs.NewMem())
				with, between := r.IntN(4) > 0, r.IntN(2) > 0
				var payloads []string
				for i := range 1 + r.IntN(40) {
					payloads = append(payloads, fmt.Sprintf("%03d%s", i, strings.Repeat("x", r.IntN(400))))
				}
				b := newBench(step{payloads: payloads})
				if between {
					put(t, s, "a", payloads...)
					b.parts.Source = queueSource(t, s, "a", nil)
				}
				to := limits()
				to.MaxMessageBytes = 50 + r.IntN(300)
				b.parts.Target.Limits = to
				if r.IntN(2) > 0 {
					to.Size = func(m *event.Message) int { return 2*len(m.Data) + 10 }
				}
				to.MaxMessageBytes = 1 + r.IntN(300)
				b.parts.Failure.Limits, b.parts.Format = to, wholeFormat{}
				b.parts.Meter = meter.NewPipeline("test")
				if with {
					b.parts.Overflow = Sink{Target: queueTarget(t, s, "b"), Limits: limits()}
				}
				refuses := with && !between && r.IntN(2) > 0
				b.failure.before = func(_ context.Context, batch event.Batch) error {
					if !refuses {
						return nil
					}
					failed := map[int]error{}
					for i, m := range batch {
						if len(m.Data)%3 == 0 {
							failed[i] = fault.New(fault.Invalid, errors.New("413"))
						}
					}
					if len(failed) == 0 {
						return nil
					}
					return &connector.Partial{Failed: failed}
				}
				err := b.run(t.Context())
				whole := map[string]bool{}
				for _, p := range b.target.payloads() {
					whole[p] = true
				}
				for _, p := range b.failure.payloads() {
					if payload, ok := strings.CutSuffix(strings.TrimPrefix(p, "row:"), ":end"); ok {
						whole[payload] = true
					}
				}
				for p := range held(t, s, "b", 0) {
					if payload, ok := strings.CutSuffix(strings.TrimPrefix(p, "row:"), ":end"); ok {
						whole[payload] = true
					}
				}
				lost := 0
				for _, p := range payloads {
					if !whole[p] {
						lost++
					}
				}
				switch cut := int(b.parts.Meter.Cut.Load()); {
				case with && (err != nil || lost > 0 || cut > 0):
					t.Errorf("seed %d: %v; %d messages are whole nowhere, %d are counted as cut", seed, err, lost, cut)
				case !with && err == nil && lost != cut:
					t.Errorf("seed %d: %d messages are whole nowhere, and %d are counted as cut", seed, lost, cut)
				case !with && err != nil && !strings.Contains(err.Error(), "max_message_bytes"):
					t.Errorf("seed %d: %v", seed, err)
				}
				closeStore(t, s)
			})
		})
	}
}

// wholeFormat makes rows of which one can see whether they are whole; none has less than 10 bytes.
type wholeFormat struct{}

func (wholeFormat) Format(x Failure, limit int) ([]byte, error) {
	row := fmt.Sprintf("row:%s:end", x.Message.Raw())
	if limit > 0 && limit < 10 {
		return nil, errors.New("raise max_message_bytes")
	}
	if limit > 0 && len(row) > limit {
		row = row[:limit]
		row = strings.TrimSuffix(row, ":end")
	}
	return []byte(row), nil
}
