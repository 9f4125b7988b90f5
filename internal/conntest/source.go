package conntest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// SourceCase is a source under test.
type SourceCase struct {
	// Setup puts payloads where a source finds them and returns how to make one: each
	// call is a new instance, not opened, as after a restart of the process.
	Setup    func(t *testing.T, payloads [][]byte) (restart func() connector.Source)
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
	// Binary: a payload may hold line ends and any other bytes. Otherwise it is a line.
	Binary bool
	// Empty: a payload may be empty.
	Empty bool
	// Repeats: payloads may be read more than once even without a failure.
	Repeats bool
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
	t.Run("memory is not used again", s.keepsMemory)
	t.Run("end", s.end)
	t.Run("read with a cancelled context", s.readCancelled)
	t.Run("cancel during a read", s.cancelDuringRead)
	t.Run("close while messages are open", s.closeWhileOpen)
	t.Run("acknowledge", s.acknowledge)
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
	for count := 0; count < n; {
		var g got
		var err error
		within(t, patience, "Read", func() { g.batch, g.ack, err = src.Read(t.Context()) })
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
			if b, _, err := src.Read(t.Context()); err != io.EOF || len(b) != 0 {
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
		g.batch, g.ack, err = src.Read(cancelled())
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
		b, _, err := src.Read(soon(t))
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
		within(t, prompt, "Read", func() { b, _, err = src.Read(soon(t)) })
		for _, m := range b {
			ps = append(ps, m.Data)
		}
		if err != nil {
			return ps
		}
	}
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
	sameSet(t, "read after a failure", s.rest(t, again), failed, false, true)
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
	sameSet(t, "read after a gap", s.rest(t, again), first, false, true)
	closes(t, again)
}
