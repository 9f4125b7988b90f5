package conntest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// SourceCase is a source under test.
type SourceCase struct {
	// Setup puts payloads where a source finds them and returns how to make one: each
	// call is a new instance, not opened, as after a restart of the process.
	Setup func(t *testing.T, payloads [][]byte) (restart func() connector.Source)
	// Losing, if set, is Setup with an other side that can lose what it has: lose makes it have
	// the first message of no partition any more. Sources that seek have it.
	Losing   func(t *testing.T, payloads [][]byte) (restart func() connector.Source, lose func())
	Features SourceFeatures
}

// SourceFeatures says what a source can do.
type SourceFeatures struct {
	// Ends: Read returns io.EOF when everything was read. Otherwise it blocks.
	Ends bool
	// Ordered: payloads are read in the order in which they were put.
	Ordered bool
	// Acknowledges: every Read that returns messages returns an ack.
	Acknowledges bool
	// Remembers: what was acknowledged is not read again after a restart, and what was
	// not, is.
	Remembers bool
	// Resumes: the same is so of one source that is closed and opened again, and always where
	// it remembers.
	Resumes bool
	// Binary: a payload may hold line ends and any other bytes. Otherwise it is a line.
	Binary bool
	// Empty: a payload may be empty.
	Empty bool
	// Repeats: payloads may be read more than once even without a failure.
	Repeats bool
	// Requests: messages come in requests, and a request is read as a whole.
	Requests bool
	// Positions: every message says where it was read.
	Positions bool
	// Seeks: a range of what was read can be read again. The source is a [connector.Seeker].
	Seeks bool
	// Consumes: what was acknowledged has left the stream, and no range holds it any more.
	Consumes bool
	// Slow is how long it may take until a source that was opened begins to read; zero for one
	// that does at once. It is waited for where nothing more may come.
	Slow time.Duration
}

// got is what one Read returned.
type got struct {
	batch event.Batch
	ack   connector.Ack
}

// Source runs the suite.
func Source(t *testing.T, c SourceCase) {
	t.Helper()
	s := sourceSuite{c}
	lifeCycle(t, func(t *testing.T) openClose { return c.Setup(t, numbered(3))() })
	t.Run("reads everything", s.readsEverything)
	t.Run("payloads", s.payloads)
	t.Run("room", s.room)
	if c.Features.Positions {
		t.Run("positions", s.positions)
	}
	if c.Features.Seeks {
		s.seek(t)
	}
	t.Run("memory is not used again", s.keepsMemory)
	t.Run("end", s.end)
	t.Run("read with a cancelled context", s.readCancelled)
	t.Run("cancel during a read", s.cancelDuringRead)
	t.Run("close while messages are open", s.closeWhileOpen)
	t.Run("acknowledge", s.acknowledge)
	t.Run("open again after close", s.reopens)
	if c.Features.Remembers {
		t.Run("what was acknowledged stays read", s.remembers)
		t.Run("what was not acknowledged is read again", s.readsAgain)
		t.Run("what failed is read again", s.readsFailedAgain)
		t.Run("a gap holds back what follows", s.gap)
	}
}

type sourceSuite struct{ SourceCase }

// read calls Read until n messages were read or the source has ended.
func (s sourceSuite) read(t *testing.T, src connector.Source, n int) (gots []got) {
	t.Helper()
	return s.readIn(t, src, n, connector.Room{})
}

// readIn is read with as much room for each Read.
func (s sourceSuite) readIn(t *testing.T, src connector.Source, n int, room connector.Room) (gots []got) {
	t.Helper()
	for count := 0; count < n; {
		var g got
		var err error
		within(t, patience, "Read", func() { g.batch, g.ack, err = src.Read(t.Context(), room) })
		for i, m := range g.batch {
			if m == nil {
				t.Fatalf("message %d of a read is nil", i)
			}
			if m.Times.Read.IsZero() {
				t.Errorf("message %d does not say when it was read", i)
			}
			if !bytes.Equal(m.Raw(), m.Data) {
				t.Errorf("message %d: Raw is %s, Data is %s", i, show(m.Raw()), show(m.Data))
			}
		}
		if !s.Features.Requests {
			fits(t, g.batch, room)
		}
		if len(g.batch) > 0 {
			if s.Features.Acknowledges && g.ack == nil {
				t.Error("a read with messages has no ack")
			}
			gots, count = append(gots, g), count+len(g.batch)
		}
		if err == io.EOF {
			if !s.Features.Ends {
				t.Errorf("the source ended after %d messages", count)
			}
			return gots
		}
		if err != nil {
			t.Fatalf("Read after %d messages of %d: %v", count, n, err)
		}
	}
	return gots
}

// fits holds a batch against the room there was for it.
func fits(t *testing.T, b event.Batch, room connector.Room) {
	t.Helper()
	if room.Messages > 0 && len(b) > room.Messages {
		t.Errorf("rule 8: a Read returned %d messages, there was room for %d", len(b), room.Messages)
	}
	if n := b.Bytes(); room.Bytes > 0 && n > room.Bytes && len(b) > 1 {
		t.Errorf("rule 8: a Read returned %d messages of %d bytes, there was room for %d", len(b), n, room.Bytes)
	}
}

// room reads with little room: everything comes nevertheless.
func (s sourceSuite) room(t *testing.T) {
	noLeak(t)
	want := numbered(60)
	for _, room := range []connector.Room{{Messages: 1, Bytes: 1}, {Messages: 7, Bytes: 1 << 20}, {Messages: 1000, Bytes: 3*len(want[0]) + 1}, {Messages: 3}, {Bytes: 40}} {
		src := s.Setup(t, want)()
		opens(t, src)
		gots := s.readIn(t, src, len(want), room)
		sameSet(t, fmt.Sprintf("read with room for %+v", room), payloadsOf(gots), want, s.Features.Ordered, s.Features.Repeats)
		for _, g := range gots {
			s.ack(t, g, nil)
		}
		closes(t, src)
	}
}

// positions looks at where messages say they were read: they are in the order of their
// positions where the source keeps an order, no two are at one place, and what is read again
// is where it was.
func (s sourceSuite) positions(t *testing.T) {
	noLeak(t)
	want := numbered(300)
	restart := s.Setup(t, want)
	src := restart()
	opens(t, src)
	last := map[place]*event.Origin{}
	at := map[string]*event.Origin{}
	taken := map[string]bool{}
	gots := s.readIn(t, src, len(want), connector.Room{Messages: 13})
	for _, g := range gots {
		for _, m := range g.batch {
			o := m.Meta.Origin
			if o == nil || o.Stream == "" || len(o.Position) == 0 {
				t.Fatalf("rule 9: message %s does not say where it was read: %+v", show(m.Data), o)
			}
			in := place{o.Stream, o.Partition}
			if before := last[in]; before != nil && s.Features.Ordered && before.Compare(o) >= 0 {
				t.Errorf("rule 9: message %s is at % x.%d, and the one before it at % x.%d", show(m.Data), o.Position, o.Sub, before.Position, before.Sub)
			}
			key := fmt.Sprintf("%q %q %q %d", o.Stream, o.Partition, o.Position, o.Sub)
			if taken[key] && !s.Features.Repeats {
				t.Errorf("rule 9: two messages are at %s", key)
			}
			taken[key] = true
			last[in], at[string(m.Data)] = o, o
		}
	}
	closes(t, src)
	if !s.Features.Remembers {
		return
	}
	again := restart()
	opens(t, again)
	for _, g := range s.read(t, again, len(want)) {
		for _, m := range g.batch {
			was, is := at[string(m.Data)], m.Meta.Origin
			if was == nil || is == nil || was.Stream != is.Stream || was.Partition != is.Partition || was.Compare(is) != 0 {
				t.Errorf("rule 9: message %s was at %+v and is at %+v when it is read again", show(m.Data), was, is)
			}
		}
	}
	closes(t, again)
}

func payloadsOf(gots []got) (ps [][]byte) {
	for _, g := range gots {
		for _, m := range g.batch {
			ps = append(ps, m.Data)
		}
	}
	return ps
}

func (s sourceSuite) ack(t *testing.T, g got, o event.Outcomes) {
	t.Helper()
	if g.ack == nil {
		return
	}
	within(t, patience, "the ack", func() {
		if err := g.ack(t.Context(), o); err != nil {
			t.Errorf("ack: %v", err)
		}
	})
}

func (s sourceSuite) readsEverything(t *testing.T) {
	noLeak(t)
	want := numbered(2500)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.read(t, src, len(want))
	sameSet(t, "read", payloadsOf(gots), want, s.Features.Ordered, s.Features.Repeats)
	for i := range gots {
		s.ack(t, gots[len(gots)-1-i], nil) // in any order
	}
	closes(t, src)
}

func (s sourceSuite) payloads(t *testing.T) {
	noLeak(t)
	want := nasty(s.Features.Binary, s.Features.Empty)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.read(t, src, len(want))
	sameSet(t, "read", payloadsOf(gots), want, s.Features.Ordered, s.Features.Repeats)
	for _, g := range gots {
		s.ack(t, g, make(event.Outcomes, len(g.batch))) // all nil is handled too
	}
	closes(t, src)
}

func (s sourceSuite) keepsMemory(t *testing.T) {
	noLeak(t)
	want := numbered(3000)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.read(t, src, 1)
	kept := guard(gots[0].batch)
	if rest := len(want) - len(gots[0].batch); rest > 0 {
		more := s.read(t, src, rest)
		gots = append(gots, more...)
	}
	kept.check(t)
	for i, m := range gots[0].batch {
		if cap(m.Data) > len(m.Data) && i+1 < len(gots[0].batch) {
			_ = append(m.Data, "overwrites"...)
		}
	}
	kept.check(t)
	for _, g := range gots {
		s.ack(t, g, nil)
	}
	closes(t, src)
}

func (s sourceSuite) end(t *testing.T) {
	noLeak(t)
	src := s.Setup(t, nil)()
	opens(t, src)
	if !s.Features.Ends {
		closes(t, src)
		return
	}
	for range 3 {
		within(t, patience, "Read at the end", func() {
			if b, _, err := src.Read(t.Context(), connector.Room{}); err != io.EOF || len(b) != 0 {
				t.Errorf("Read at the end returned %d messages and %v, want io.EOF itself", len(b), err)
			}
		})
	}
	closes(t, src)
}

func (s sourceSuite) readCancelled(t *testing.T) {
	noLeak(t)
	src := s.Setup(t, numbered(3))()
	opens(t, src)
	var g got
	within(t, prompt, "Read with a cancelled context", func() {
		var err error
		g.batch, g.ack, err = src.Read(cancelled(), connector.Room{})
		if err == nil && len(g.batch) == 0 {
			t.Error("rule 3: Read with a cancelled context returned neither messages nor an error")
		}
	})
	closes(t, src)
}

func (s sourceSuite) cancelDuringRead(t *testing.T) {
	noLeak(t)
	src := s.Setup(t, numbered(3))()
	opens(t, src)
	gots := s.read(t, src, 3)
	within(t, prompt, "Read whose context is cancelled", func() {
		b, _, err := src.Read(soon(t), connector.Room{})
		if s.Features.Ends && err == io.EOF {
			return
		}
		if err == nil && len(b) == 0 {
			t.Error("rule 3: a cancelled Read returned neither messages nor an error")
		}
		if errors.Is(err, io.EOF) {
			t.Error("a cancelled Read says that the source has ended")
		}
	})
	for _, g := range gots {
		s.ack(t, g, nil)
	}
	closes(t, src)
}

func (s sourceSuite) closeWhileOpen(t *testing.T) {
	noLeak(t)
	src := s.Setup(t, numbered(3))()
	opens(t, src)
	gots := s.read(t, src, 3)
	closes(t, src)
	for _, g := range gots { // may fail, may not hang or panic
		if g.ack != nil {
			within(t, patience, "an ack after Close", func() { _ = g.ack(t.Context(), nil) })
		}
	}
	closes(t, src)
}

func (s sourceSuite) acknowledge(t *testing.T) {
	noLeak(t)
	src := s.Setup(t, numbered(100))()
	opens(t, src)
	for _, g := range s.read(t, src, 100) {
		s.ack(t, g, nil)
		if g.ack != nil {
			within(t, patience, "an ack called twice", func() { _ = g.ack(t.Context(), nil) })
			within(t, prompt, "an ack with a cancelled context", func() { _ = g.ack(cancelled(), nil) })
		}
	}
	closes(t, src)
}

// rest reads what is left after a restart: until the end, or until the source blocks.
func (s sourceSuite) rest(t *testing.T, src connector.Source) (ps [][]byte) {
	t.Helper()
	for {
		var b event.Batch
		var err error
		within(t, prompt+s.Features.Slow, "Read", func() { b, _, err = src.Read(soonAfter(t, s.Features.Slow), connector.Room{}) })
		for _, m := range b {
			ps = append(ps, m.Data)
		}
		if err != nil {
			return ps
		}
	}
}

// restWith reads what is left when want is a part of it, which is waited for.
func (s sourceSuite) restWith(t *testing.T, src connector.Source, want [][]byte) (ps [][]byte) {
	t.Helper()
	missing := map[string]bool{}
	for _, p := range want {
		missing[string(p)] = true
	}
	for len(missing) > 0 {
		var b event.Batch
		var err error
		within(t, patience, "Read", func() { b, _, err = src.Read(t.Context(), connector.Room{}) })
		for _, m := range b {
			ps = append(ps, m.Data)
			delete(missing, string(m.Data))
		}
		if err != nil {
			return ps
		}
	}
	return append(ps, s.rest(t, src)...)
}

func (s sourceSuite) remembers(t *testing.T) {
	noLeak(t)
	restart := s.Setup(t, numbered(100))
	src := restart()
	opens(t, src)
	for _, g := range s.read(t, src, 100) {
		s.ack(t, g, nil)
	}
	closes(t, src)
	again := restart()
	opens(t, again)
	sameSet(t, "read after a restart", s.rest(t, again), nil, false, s.Features.Repeats)
	closes(t, again)
}

func (s sourceSuite) readsAgain(t *testing.T) {
	noLeak(t)
	want := numbered(100)
	restart := s.Setup(t, want)
	src := restart()
	opens(t, src)
	s.read(t, src, 100)
	closes(t, src)
	again := restart()
	opens(t, again)
	sameSet(t, "read after a restart without acks", payloadsOf(s.read(t, again, 100)), want, s.Features.Ordered, s.Features.Repeats)
	closes(t, again)
}

func (s sourceSuite) readsFailedAgain(t *testing.T) {
	noLeak(t)
	restart := s.Setup(t, numbered(100))
	src := restart()
	opens(t, src)
	var failed [][]byte
	for _, g := range s.read(t, src, 100) {
		o := make(event.Outcomes, len(g.batch))
		last := len(o) - 1
		o[last] = event.ErrUnsettled
		failed = append(failed, g.batch[last].Data)
		if g.ack != nil {
			within(t, patience, "the ack of a failure", func() { _ = g.ack(t.Context(), o) })
		}
	}
	closes(t, src)
	again := restart()
	opens(t, again)
	sameSet(t, "read after a failure", s.restWith(t, again, failed), failed, false, true)
	closes(t, again)
}

// gap acknowledges everything but the first read; its messages must come again, whatever
// else does.
func (s sourceSuite) gap(t *testing.T) {
	noLeak(t)
	restart := s.Setup(t, numbered(3000))
	src := restart()
	opens(t, src)
	gots := s.read(t, src, 3000)
	for _, g := range gots[1:] {
		s.ack(t, g, nil)
	}
	closes(t, src)
	again := restart()
	opens(t, again)
	var first [][]byte
	for _, m := range gots[0].batch {
		first = append(first, m.Data)
	}
	sameSet(t, "read after a gap", s.restWith(t, again, first), first, false, true)
	closes(t, again)
}

// reopens opens a source again after Close, as the engine does with what failed. What was not
// settled comes once more where the source remembers, or where those who sent it send it
// again; anything else has at least what was not read.
func (s sourceSuite) reopens(t *testing.T) {
	noLeak(t)
	want := numbered(200)
	src := s.Setup(t, want)()
	opens(t, src)
	gots := s.readIn(t, src, len(want)/2, connector.Room{Messages: 20})
	for _, g := range gots[:len(gots)/2] {
		s.ack(t, g, nil)
	}
	closes(t, src)
	resumes := s.Features.Resumes || s.Features.Remembers
	rest := want
	switch {
	case resumes:
		rest = without(want, payloadsOf(gots[:len(gots)/2]))
	case !s.Features.Requests:
		rest = want[len(payloadsOf(gots)):]
	}
	for _, when := range []string{"rule 10: read after Close and Open", "rule 10: read after an ack from before Close"} {
		opensAgain(t, src)
		again := s.readIn(t, src, len(rest), connector.Room{Messages: 7})
		sameSet(t, when, payloadsOf(again), rest, s.Features.Ordered, s.Features.Repeats)
		for _, g := range gots[len(gots)/2:] { // it may fail, and does nothing to what was read since
			if g.ack != nil {
				within(t, patience, "an ack from before Close", func() { _ = g.ack(t.Context(), nil) })
			}
		}
		closes(t, src)
		if !resumes && !s.Features.Requests {
			return
		}
	}
}

// without is the payloads of all that are not in some, in their order.
func without(all, some [][]byte) (left [][]byte) {
	taken := map[string]bool{}
	for _, p := range some {
		taken[string(p)] = true
	}
	for _, p := range all {
		if !taken[string(p)] {
			left = append(left, p)
		}
	}
	return left
}
