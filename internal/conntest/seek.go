package conntest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// seek holds a source to rule 11.
func (s sourceSuite) seek(t *testing.T) {
	t.Run("seek", s.seeks)
	t.Run("seek payloads", s.seeksPayloads)
	t.Run("seek beside reads", s.seeksBesideReads)
	t.Run("seek moves nothing", s.seekMovesNothing)
	t.Run("seek after a restart", s.seeksAfterRestart)
	t.Run("seek what never was", s.seeksNowhere)
	t.Run("seek and close", s.seekAndClose)
	if s.Losing != nil {
		t.Run("seek what is gone", s.seeksGone)
	}
	if s.Features.Consumes {
		t.Run("seek what was acknowledged", s.seeksConsumed)
	}
}

// place is what has an order of its own.
type place struct{ stream, partition string }

// stretch is a part of a partition: messages that follow each other there.
type stretch struct {
	in       place
	messages event.Batch
}

func at(m *event.Message) connector.Position {
	return connector.Position{Bytes: m.Meta.Origin.Position, Sub: m.Meta.Origin.Sub}
}

func (x stretch) asked() connector.Range {
	return connector.Range{Stream: x.in.stream, Partition: x.in.partition, First: at(x.messages[0]), Last: at(x.messages[len(x.messages)-1])}
}

// partitions are the messages of reads in the order of each partition, each once.
func partitions(t *testing.T, gots []got) []stretch {
	t.Helper()
	all := map[place]event.Batch{}
	for _, g := range gots {
		for _, m := range g.batch {
			o := m.Meta.Origin
			if o == nil {
				t.Fatalf("rule 9: message %s does not say where it was read", show(m.Data))
			}
			in := place{o.Stream, o.Partition}
			all[in] = append(all[in], m)
		}
	}
	var out []stretch
	for in, b := range all {
		slices.SortStableFunc(b, func(x, y *event.Message) int { return x.Meta.Origin.Compare(y.Meta.Origin) })
		b = slices.CompactFunc(b, func(x, y *event.Message) bool { return x.Meta.Origin.Compare(y.Meta.Origin) == 0 })
		out = append(out, stretch{in, b})
	}
	slices.SortFunc(out, func(x, y stretch) int {
		return cmp.Or(cmp.Compare(x.in.stream, y.in.stream), cmp.Compare(x.in.partition, y.in.partition))
	})
	return out
}

// stretches are n parts of random lengths, after the whole of each partition, its first and its
// last message.
func stretches(rng *rand.Rand, all []stretch, n int) (out []stretch) {
	for _, x := range all {
		last := len(x.messages) - 1
		out = append(out, x, stretch{x.in, x.messages[:1]}, stretch{x.in, x.messages[last:]})
	}
	for range n {
		x := all[rng.IntN(len(all))]
		from := rng.IntN(len(x.messages))
		to := from + 1 + rng.IntN(len(x.messages)-from)
		out = append(out, stretch{x.in, x.messages[from:to]})
	}
	return out
}

// rooms are what a replay is read with.
var rooms = []connector.Room{{}, {Messages: 1}, {Messages: 7}, {Messages: 1000, Bytes: 50}, {Bytes: 1}}

func seeker(t *testing.T, src connector.Source) connector.Seeker {
	t.Helper()
	k, ok := src.(connector.Seeker)
	if !ok {
		t.Fatal("rule 11: the source is no connector.Seeker")
	}
	return k
}

// replay reads a range to its end, or until it fails.
func replay(ctx context.Context, t *testing.T, k connector.Seeker, r connector.Range, room connector.Room) (b event.Batch, err error) {
	t.Helper()
	within(t, patience, "Seek", func() {
		var p connector.Replay
		if p, err = k.Seek(ctx, r); err != nil {
			return
		}
		defer func() {
			for range 2 {
				if err := p.Close(); err != nil {
					t.Errorf("rule 11: Close of a replay: %v", err)
				}
			}
		}()
		for {
			var some event.Batch
			some, err = p.Read(ctx, room)
			fits(t, some, room)
			b = append(b, some...)
			if err == io.EOF {
				if again, twice := p.Read(ctx, room); twice != io.EOF || len(again) > 0 {
					t.Errorf("rule 11: after the end of a range Read returned %d messages and %v, want io.EOF", len(again), twice)
				}
				err = nil
				return
			}
			if err == nil && len(some) == 0 {
				t.Errorf("rule 11: a Read of a range returned neither messages nor an error")
				return
			}
			if err != nil {
				return
			}
		}
	})
	return b, err
}

// replays holds what a range has against what was read of it.
func replays(t *testing.T, k connector.Seeker, x stretch, room connector.Room) {
	t.Helper()
	b, err := replay(t.Context(), t, k, x.asked(), room)
	if err != nil {
		t.Errorf("rule 11: a range of %d messages of %v: %v", len(x.messages), x.in, err)
		return
	}
	for i := range max(len(b), len(x.messages)) {
		switch {
		case i >= len(b):
			t.Errorf("rule 11: a range has %d messages, want %d: the next one is %s", len(b), len(x.messages), show(x.messages[i].Data))
			return
		case i >= len(x.messages):
			t.Errorf("rule 11: a range has %d messages, want %d: %s is not of it", len(b), len(x.messages), show(b[i].Data))
			return
		}
		if !alike(t, b[i], x.messages[i]) {
			return
		}
	}
}

// alike reports whether a message that was read again is the one that was read.
func alike(t *testing.T, is, was *event.Message) bool {
	t.Helper()
	i, w := is.Meta.Origin, was.Meta.Origin
	switch {
	case i == nil || i.Stream != w.Stream || i.Partition != w.Partition || i.Compare(w) != 0:
		t.Errorf("rule 11: message %s was read at %+v, and in its range it is %s at %+v", show(was.Data), w, show(is.Data), i)
	case !bytes.Equal(is.Data, was.Data) || (is.Data == nil) != (was.Data == nil) || !bytes.Equal(is.Raw(), was.Raw()):
		t.Errorf("rule 11: message %s is %s in its range", show(was.Data), show(is.Data))
	case is.Key != was.Key || is.Meta.ID != was.Meta.ID:
		t.Errorf("rule 11: message %s has key %q and id %q, and %q and %q in its range", show(was.Data), was.Key, was.Meta.ID, is.Key, is.Meta.ID)
	case len(is.Meta.Headers)+len(was.Meta.Headers) > 0 && !reflect.DeepEqual(is.Meta.Headers, was.Meta.Headers):
		t.Errorf("rule 11: message %s has headers %v, and %v in its range", show(was.Data), was.Meta.Headers, is.Meta.Headers)
	default:
		return true
	}
	return false
}

func (s sourceSuite) seeks(t *testing.T) {
	noLeak(t)
	want := numbered(300)
	src := s.Setup(t, want)()
	opens(t, src)
	k := seeker(t, src)
	rng := rand.New(rand.NewPCG(1, 300))
	all := partitions(t, s.readIn(t, src, len(want), connector.Room{Messages: 17}))
	for i, x := range stretches(rng, all, 20) {
		for n := range 2 {
			replays(t, k, x, rooms[(i+n)%len(rooms)])
		}
	}
	closes(t, src)
}

func (s sourceSuite) seeksPayloads(t *testing.T) {
	noLeak(t)
	want := nasty(s.Features.Binary, s.Features.Empty)
	src := s.Setup(t, want)()
	opens(t, src)
	for _, x := range partitions(t, s.read(t, src, len(want))) {
		replays(t, seeker(t, src), x, connector.Room{})
		replays(t, seeker(t, src), x, connector.Room{Messages: 1})
	}
	closes(t, src)
}

// seeksBesideReads reads ranges while the source is read on: neither has what is the other's.
func (s sourceSuite) seeksBesideReads(t *testing.T) {
	noLeak(t)
	want := numbered(1200)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.readIn(t, src, 300, connector.Room{Messages: 50})
	some := stretches(rand.New(rand.NewPCG(2, 1200)), partitions(t, gots), 12)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := i; n < len(some) && !t.Failed(); n += 3 {
				replays(t, seeker(t, src), some[n], rooms[n%len(rooms)])
			}
		})
	}
	gots = append(gots, s.readIn(t, src, len(want)-len(payloadsOf(gots)), connector.Room{Messages: 50})...)
	within(t, patience, "Seek beside Read", wg.Wait)
	sameSet(t, "rule 11: read beside a Seek", payloadsOf(gots), want, s.Features.Ordered, s.Features.Repeats)
	closes(t, src)
}

// seekMovesNothing looks at what is read next, and at what is acknowledged, after a Seek.
func (s sourceSuite) seekMovesNothing(t *testing.T) {
	noLeak(t)
	want := numbered(200)
	restart := s.Setup(t, want)
	src := restart()
	opens(t, src)
	gots := s.readIn(t, src, 100, connector.Room{Messages: 20})
	for _, x := range partitions(t, gots) {
		replays(t, seeker(t, src), x, connector.Room{Messages: 3})
	}
	acked := gots[:len(gots)/2]
	for _, g := range acked {
		s.ack(t, g, nil)
	}
	if !s.Features.Consumes {
		for _, x := range partitions(t, acked) {
			replays(t, seeker(t, src), x, connector.Room{})
		}
	}
	rest := s.readIn(t, src, len(want)-len(payloadsOf(gots)), connector.Room{Messages: 20})
	sameSet(t, "rule 11: read after a Seek", payloadsOf(append(slices.Clone(gots), rest...)), want, s.Features.Ordered, s.Features.Repeats)
	closes(t, src)
	if !s.Features.Remembers {
		return
	}
	again := restart()
	opens(t, again)
	left := without(want, payloadsOf(acked))
	sameSet(t, "rule 11: read after a Seek and a restart", payloadsOf(s.read(t, again, len(left))), left, s.Features.Ordered, s.Features.Repeats)
	closes(t, again)
}

func (s sourceSuite) seeksAfterRestart(t *testing.T) {
	noLeak(t)
	want := numbered(200)
	restart := s.Setup(t, want)
	src := restart()
	opens(t, src)
	gots := s.readIn(t, src, len(want), connector.Room{Messages: 20})
	some := stretches(rand.New(rand.NewPCG(3, 200)), partitions(t, gots), 8)
	if !s.Features.Consumes {
		for _, g := range gots {
			s.ack(t, g, nil)
		}
	}
	closes(t, src)
	opensAgain(t, src)
	for i, x := range some {
		replays(t, seeker(t, src), x, rooms[i%len(rooms)])
	}
	closes(t, src)
	again := restart()
	opens(t, again)
	for i, x := range some {
		replays(t, seeker(t, again), x, rooms[i%len(rooms)])
	}
	closes(t, again)
}

// absent reads a range that is not there: it says so, and does not end like one that is.
func absent(t *testing.T, k connector.Seeker, r connector.Range, what string) {
	t.Helper()
	b, err := replay(t.Context(), t, k, r, connector.Room{Messages: 10})
	switch {
	case err == nil:
		t.Errorf("rule 11: a range %s has %d messages and an end, want an error", what, len(b))
	case fault.Of(err) != fault.Invalid:
		t.Errorf("rule 11: the error of a range %s is %s, want invalid: %v", what, fault.Of(err), err)
	}
}

func (s sourceSuite) seeksNowhere(t *testing.T) {
	noLeak(t)
	want := numbered(50)
	src := s.Setup(t, want)()
	opens(t, src)
	for _, x := range partitions(t, s.read(t, src, len(want))) {
		r := x.asked()
		r.Partition += "0nowhere"
		absent(t, seeker(t, src), r, "of a partition that never was")
		r = x.asked()
		r.Stream += "0nowhere"
		absent(t, seeker(t, src), r, "of a stream that never was")
		if len(x.messages) > 1 {
			r = x.asked()
			r.First, r.Last = r.Last, r.First
			absent(t, seeker(t, src), r, "that ends before it begins")
		}
	}
	closes(t, src)
}

// seekAndClose ends in every way.
func (s sourceSuite) seekAndClose(t *testing.T) {
	noLeak(t)
	want := numbered(50)
	src := s.Setup(t, want)()
	opens(t, src)
	k := seeker(t, src)
	all := partitions(t, s.read(t, src, len(want)))
	within(t, prompt, "a range with a cancelled context", func() {
		if p, err := k.Seek(cancelled(), all[0].asked()); err == nil {
			_, _ = p.Read(cancelled(), connector.Room{})
			_ = p.Close()
		}
	})
	p, err := k.Seek(t.Context(), all[0].asked())
	if err != nil {
		t.Fatalf("rule 11: Seek: %v", err)
	}
	if _, err := p.Read(t.Context(), connector.Room{Messages: 1}); err != nil && err != io.EOF {
		t.Errorf("rule 11: Read of a range: %v", err)
	}
	closes(t, src)
	within(t, patience, "Read of a range after the source's Close", func() { _, _ = p.Read(t.Context(), connector.Room{Messages: 1}) })
	within(t, patience, "Close of a range after the source's", func() {
		for range 2 {
			_ = p.Close()
		}
	})
}

// seeksGone reads ranges that the other side has lost since, from their beginning.
func (s sourceSuite) seeksGone(t *testing.T) {
	noLeak(t)
	want := numbered(100)
	restart, lose := s.Losing(t, want)
	src := restart()
	opens(t, src)
	all := partitions(t, s.read(t, src, len(want)))
	for _, x := range all {
		replays(t, seeker(t, src), x, connector.Room{})
	}
	lose()
	for _, x := range all {
		absent(t, seeker(t, src), x.asked(), "that is gone")
	}
	closes(t, src)
	again := restart()
	var err error
	within(t, patience, "Open", func() { err = again.Open(t.Context()) })
	if err == nil { // a source of which nothing is left need not open
		for _, x := range all {
			absent(t, seeker(t, again), x.asked(), "that is gone since the last run")
		}
	}
	closes(t, again)
}

// seeksConsumed reads ranges that begin with what was acknowledged.
func (s sourceSuite) seeksConsumed(t *testing.T) {
	noLeak(t)
	want := numbered(100)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.readIn(t, src, len(want), connector.Room{Messages: 10})
	taken := map[*event.Message]bool{}
	for i, g := range gots {
		if i%2 == 0 {
			s.ack(t, g, nil)
			for _, m := range g.batch {
				taken[m] = true
			}
		}
	}
	for _, x := range partitions(t, gots) {
		for from := range x.messages {
			x := stretch{x.in, x.messages[from:min(from+5, len(x.messages))]}
			if slices.ContainsFunc(x.messages, func(m *event.Message) bool { return taken[m] }) {
				absent(t, seeker(t, src), x.asked(), "of which something was acknowledged")
			} else {
				replays(t, seeker(t, src), x, connector.Room{})
			}
		}
	}
	closes(t, src)
}
