package conntest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TargetCase is a target under test.
type TargetCase struct {
	// Setup prepares an empty other side. open makes a target on it, not opened, at each
	// call; written says what the other side has; nil when nobody can know.
	Setup func(t *testing.T) (open func() connector.Target, written func() [][]byte)
	// Refused is payloads that the target never accepts. Each must be reported as
	// invalid, alone, and with the rest of its batch written.
	Refused [][]byte
	// Broken, if set, makes a target, not opened, whose other side does not work. Want is
	// what its errors mean.
	Broken func(t *testing.T) connector.Target
	Want   fault.Kind
	// Stuck, if set, makes a target, not opened, whose other side never answers a write.
	Stuck    func(t *testing.T) connector.Target
	Features TargetFeatures
}

// TargetFeatures says what a target can do.
type TargetFeatures struct {
	// Binary: a payload may hold line ends and any other bytes. Otherwise it is a line.
	Binary bool
	// Empty: a payload may be empty.
	Empty bool
	// Tombstone: a message may have no payload. Otherwise it is like an empty one.
	Tombstone bool
	// Ordered: a batch is written in its order.
	Ordered bool
}

// Target runs the suite.
func Target(t *testing.T, c TargetCase) {
	t.Helper()
	s := targetSuite{c}
	lifeCycle(t, func(t *testing.T) openClose { open, _ := c.Setup(t); return open() })
	t.Run("limits", s.limits)
	t.Run("writes a batch", s.writes)
	t.Run("payloads", s.payloads)
	t.Run("empty batch", s.emptyBatch)
	t.Run("oversized", s.largest)
	t.Run("many writers", s.manyWriters)
	t.Run("write with a cancelled context", s.writeCancelled)
	t.Run("write after close", s.writeAfterClose)
	t.Run("open again after close", s.reopens)
	if len(c.Refused) > 0 {
		t.Run("partial failure", s.partialFailure)
	}
	if c.Broken != nil {
		t.Run("broken", s.broken)
	}
	if c.Stuck != nil {
		t.Run("cancel during a write", s.cancelDuringWrite)
	}
}

type targetSuite struct{ TargetCase }

func (s targetSuite) setup(t *testing.T) (connector.Target, func() [][]byte) {
	noLeak(t)
	open, written := s.Setup(t)
	target := open()
	opens(t, target)
	return target, written
}

func batchOf(ps [][]byte) event.Batch {
	b := make(event.Batch, len(ps))
	for i, p := range ps {
		b[i] = event.New(p)
		b[i].Key = fmt.Sprintf("key %d", i%7)
	}
	return b
}

// write writes b and checks what holds of every write.
func (s targetSuite) write(t *testing.T, target connector.Target, b event.Batch) (err error) {
	t.Helper()
	g := guard(b)
	same := append(event.Batch(nil), b...)
	within(t, patience, "Write", func() { err = target.Write(t.Context(), b) })
	g.check(t)
	for i := range b {
		if b[i] != same[i] {
			t.Errorf("Write put another message at index %d of the batch", i)
		}
	}
	if p, ok := errors.AsType[*connector.Partial](err); ok {
		if len(p.Failed) == 0 {
			t.Error("a *connector.Partial names no message")
		}
		for i, e := range p.Failed {
			if i < 0 || i >= len(b) || e == nil {
				t.Errorf("a *connector.Partial holds %v at index %d of %d", e, i, len(b))
			}
		}
	}
	return err
}

func (s targetSuite) succeeds(t *testing.T, target connector.Target, b event.Batch) {
	t.Helper()
	if err := s.write(t, target, b); err != nil {
		t.Errorf("Write: %v", err)
	}
}

func (s targetSuite) limits(t *testing.T) {
	target, _ := s.setup(t)
	l, ok := target.(connector.Limiter)
	if !ok {
		return
	}
	x := l.Limits()
	if x.MaxBatchMessages < 1 || x.MaxBatchBytes < 1 || x.MaxMessageBytes < 1 || x.MaxConcurrentBatches < 1 || x.FlushPeriod <= 0 {
		t.Errorf("limits that can never work: %+v", x)
	}
	if x.MaxMessageBytes > x.MaxBatchBytes {
		t.Errorf("a message may have %d bytes, a batch only %d", x.MaxMessageBytes, x.MaxBatchBytes)
	}
}

func (s targetSuite) maxMessage(target connector.Target, otherwise int) int {
	if l, ok := target.(connector.Limiter); ok {
		return min(l.Limits().MaxMessageBytes, otherwise)
	}
	return otherwise
}

func (s targetSuite) writes(t *testing.T) {
	target, written := s.setup(t)
	want := numbered(300)
	for i := 0; i < len(want); i += 100 {
		s.succeeds(t, target, batchOf(want[i:i+100]))
		if written != nil { // rule 5: durable on return, not at Close
			sameSet(t, "rule 5: written when Write returned", written(), want[:i+100], s.Features.Ordered, false)
		}
	}
	closes(t, target)
}

func (s targetSuite) payloads(t *testing.T) {
	target, written := s.setup(t)
	var want [][]byte
	for _, p := range nasty(s.Features.Binary, s.Features.Empty) {
		if len(p) <= s.maxMessage(target, 1<<20) {
			want = append(want, p)
		}
	}
	s.succeeds(t, target, batchOf(want))
	if s.Features.Tombstone {
		s.succeeds(t, target, event.Batch{{}})
		want = append(want, nil)
	}
	if written != nil {
		sameSet(t, "written", written(), want, s.Features.Ordered, false)
	}
	closes(t, target)
}

func (s targetSuite) emptyBatch(t *testing.T) {
	target, written := s.setup(t)
	s.succeeds(t, target, nil)
	s.succeeds(t, target, event.Batch{})
	if written != nil && len(written()) != 0 {
		t.Errorf("an empty batch wrote %d messages", len(written()))
	}
	closes(t, target)
}

// largest writes a message of the size that the target says it takes (8 MiB if it says more),
// as it counts.
func (s targetSuite) largest(t *testing.T) {
	target, written := s.setup(t)
	large := make([]byte, s.maxMessage(target, 8<<20))
	for i := range large {
		large[i] = 'a' + byte(i%26)
	}
	m := event.New(large)
	if l, ok := target.(connector.Limiter); ok && l.Limits().Size != nil {
		large = large[:max(len(large)-(l.Limits().Size(m)-len(large)), 0)]
		m.Replace(large)
	}
	s.succeeds(t, target, event.Batch{m})
	if written != nil {
		sameSet(t, "written", written(), [][]byte{large}, false, false)
	}
	closes(t, target)
}

func (s targetSuite) manyWriters(t *testing.T) {
	target, written := s.setup(t)
	writers := 4
	if l, ok := target.(connector.Limiter); ok {
		writers = min(l.Limits().MaxConcurrentBatches, 16)
	}
	want := numbered(20 * writers * 10)
	var wg sync.WaitGroup
	for w := range writers {
		mine := want[w*200 : (w+1)*200]
		wg.Go(func() {
			for i := 0; i < len(mine); i += 10 {
				if err := target.Write(t.Context(), batchOf(mine[i:i+10])); err != nil {
					t.Errorf("Write: %v", err)
				}
			}
		})
	}
	within(t, patience, "many writers", wg.Wait)
	if written != nil {
		sameSet(t, "written", written(), want, false, false)
	}
	closes(t, target)
}

func (s targetSuite) writeCancelled(t *testing.T) {
	target, written := s.setup(t)
	want := numbered(3)
	var err error
	within(t, prompt, "Write with a cancelled context", func() { err = target.Write(cancelled(), batchOf(want)) })
	if err == nil && written != nil { // a write that says it succeeded did
		sameSet(t, "written", written(), want, false, false)
	}
	closes(t, target)
}

func (s targetSuite) writeAfterClose(t *testing.T) {
	target, written := s.setup(t)
	closes(t, target)
	var err error
	within(t, patience, "Write after Close", func() { err = target.Write(t.Context(), batchOf(numbered(1))) })
	if err == nil && written != nil {
		sameSet(t, "written after Close, without an error", written(), numbered(1), false, false)
	}
}

// reopens opens a target again and again, as the engine does with what failed.
func (s targetSuite) reopens(t *testing.T) {
	target, written := s.setup(t)
	want := numbered(150)
	for i := 0; ; i += 50 {
		s.succeeds(t, target, batchOf(want[i:i+50]))
		if written != nil {
			sameSet(t, fmt.Sprintf("rule 10: written after %d openings", i/50+1), written(), want[:i+50], s.Features.Ordered, false)
		}
		closes(t, target)
		if i+50 == len(want) {
			return
		}
		opensAgain(t, target)
	}
}

func (s targetSuite) partialFailure(t *testing.T) {
	for _, bad := range s.Refused {
		target, written := s.setup(t)
		good := numbered(4)
		b := batchOf([][]byte{good[0], good[1], bad, good[2], bad, good[3]})
		err := s.write(t, target, b)
		var p *connector.Partial
		if !errors.As(err, &p) {
			t.Fatalf("Write of a batch with %s twice returned %v, want a *connector.Partial", show(bad), err)
		}
		for i := range b {
			refused := i == 2 || i == 4
			if (p.Failed[i] != nil) != refused {
				t.Errorf("message %d, %s: error %v", i, show(b[i].Data), p.Failed[i])
			}
			if refused && fault.Of(p.Failed[i]) != fault.Invalid {
				t.Errorf("message %d, %s: the error is %s, want invalid: %v", i, show(b[i].Data), fault.Of(p.Failed[i]), p.Failed[i])
			}
		}
		err = s.write(t, target, batchOf([][]byte{bad}))
		if errors.As(err, &p) {
			err = p.Failed[0]
		}
		if err == nil || fault.Of(err) != fault.Invalid {
			t.Errorf("Write of %s alone returned %v, want an invalid error", show(bad), err)
		}
		if written != nil {
			sameSet(t, "written", written(), good, s.Features.Ordered, false)
		}
		closes(t, target)
	}
}

func (s targetSuite) broken(t *testing.T) {
	noLeak(t)
	target := s.Broken(t)
	var err error
	within(t, patience, "Open of a broken target", func() { err = target.Open(t.Context()) })
	if err == nil {
		b := batchOf(numbered(3))
		err = s.write(t, target, b)
		if p, ok := errors.AsType[*connector.Partial](err); ok {
			if len(p.Failed) != len(b) {
				t.Errorf("a broken target has written %d messages", len(b)-len(p.Failed))
			}
			err = p.Failed[0]
		}
	}
	if err == nil {
		t.Error("a broken target reports no error")
	} else if fault.Of(err) != s.Want {
		t.Errorf("the error is %s, want %s: %v", fault.Of(err), s.Want, err)
	}
	closes(t, target)
}

func (s targetSuite) cancelDuringWrite(t *testing.T) {
	noLeak(t)
	target := s.Stuck(t)
	opens(t, target)
	within(t, prompt, "Write whose context is cancelled", func() {
		if err := target.Write(soon(t), batchOf(numbered(3))); err == nil {
			t.Error("rule 5: a cancelled write of a target that is stuck returned nil")
		}
	})
	closes(t, target)
}
