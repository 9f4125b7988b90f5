package pipeline

import (
	"context"
	"errors"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// deleting is a source whose messages "-" have no payload.
type deleting struct{ *fakeSource }

func (s deleting) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b, ack, err := s.fakeSource.Read(ctx, room)
	for _, m := range b {
		if string(m.Data) == "-" {
			m.Data = nil
			m.SetRaw(nil)
		}
	}
	return b, ack, err
}

// TestWithoutAPayload: a message that says that something is deleted passes every transform as
// it is, in its place, alone or together with others.
func TestWithoutAPayload(t *testing.T) {
	t.Parallel()
	marks := transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		if m.Data == nil {
			return out, errors.New("there is nothing to transform")
		}
		m.Replace(append([]byte("m"), m.Data...))
		return append(out, m), nil
	})
	together := crowd{marks, func(b event.Batch) []connector.Outcome {
		o := make([]connector.Outcome, len(b))
		for i, m := range b {
			o[i].Out, o[i].Err = marks.Apply(t.Context(), nil, m)
		}
		return o
	}}
	for name, w := range map[string]connector.Worker{"one by one": marks, "together": together} {
		b := newBench(step{payloads: []string{"a", "-", "b", "-"}}, step{payloads: []string{"-"}}).through(1, w, w)
		b.parts.Source = deleting{b.source}
		nils := 0
		b.target.before = func(_ context.Context, batch event.Batch) error {
			for _, m := range batch {
				if m.Data == nil {
					nils++
				}
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantPayloads(t, name, b.target, "mma", "", "mmb", "", "")
		if nils != 3 || len(b.failure.payloads()) > 0 {
			t.Errorf("%s: %d messages have no payload, want 3; failures %q", name, nils, b.failure.payloads())
		}
	}
}
