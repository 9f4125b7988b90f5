package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// refusing is a source that refuses some of what it reads.
type refusing struct{ *fakeSource }

func (r refusing) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b, ack, err := r.fakeSource.Read(ctx, room)
	for _, m := range b {
		if m.Data[0] == '!' {
			m.Refuse(fault.New(fault.Invalid, errors.New("no message")))
		}
	}
	return b, ack, err
}

// TestRefused: what the source can make no message of goes to the failure target with its
// reason, and passes neither transforms nor target; the messages beside it do, and the read is
// acknowledged as a whole.
func TestRefused(t *testing.T) {
	t.Parallel()
	for workers := range 3 {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(step{payloads: []string{"a", "!b", "c", "!d"}}, step{payloads: []string{"!e"}}, step{payloads: []string{"f"}})
				b.parts.Source = refusing{b.source}
				if workers > 0 {
					b.through(workers, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
						if m.Data[0] == '!' {
							t.Errorf("a transform was given %s", m.Data)
						}
						return append(out, m), nil
					}))
				}
				if err := b.run(t.Context()); err != nil {
					t.Error(err)
				}
				wantPayloads(t, "the target", b.target, "a", "c", "f")
				wantPayloads(t, "the failure target", b.failure, "!b|no message", "!d|no message", "!e|no message")
				for n := range 3 {
					if err := b.source.outcome(n, 0); err != nil {
						t.Errorf("read %d: %v", n, err)
					}
				}
			})
		})
	}
}
