package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lines"
	"github.com/weirdata/weir/internal/meter"
)

// cut is where the messages of one read lie in their content.
type cut struct {
	st     *state
	at     []extent
	base   int64  // of raw, in the content
	behind []byte // what is before raw, as far as a digest goes
	raw    []byte
	broken int64 // how large the compressed file is that ends with the message, as it is damaged; 0: it is not
}

// extent is from where a line begins to where the next one does.
type extent struct{ from, to int64 }

// tail is the digest of the content before an offset.
func (c *cut) tail(offset int64) digest {
	n := offset - c.base
	if n < 0 || n > int64(len(c.raw)) {
		return digest{} // of a line that was too long to be kept
	}
	return digestOf(last(c.behind, c.raw[:n]))
}

// ack is the ack of a read: what became of each line is noted, whatever became of the others.
func (s *Source) ack(c *cut) connector.Ack {
	session := s.session
	return func(ctx context.Context, o event.Outcomes) error {
		return session.settle(ctx, func() {
			for i := 0; i < len(c.at); i++ {
				if o != nil && o[i] != nil {
					continue // it is never settled: the next run reads it again
				}
				from, to := c.at[i].from, c.at[i].to
				for i+1 < len(c.at) && (o == nil || o[i+1] == nil) && c.at[i+1].from == to {
					i++
					to = c.at[i].to
				}
				c.st.settle(from, to, c.tail(to))
				c.st.Broken = max(c.st.Broken, c.broken)
			}
		})
	}
}

// batch reads what t has now: no message is nothing for now, or never again when t.done is set.
func (s *Source) batch(t *tail, room connector.Room) (event.Batch, *cut) {
	if !t.rest.IsZero() && time.Now().Before(t.rest) {
		return nil, nil
	}
	for {
		b, c, err := s.try(t, room)
		switch {
		case errors.Is(err, errReplaced):
			s.renew(t)
			continue
		case err == nil && c != nil && len(b) == 0:
			continue // all of it was settled before
		case err == nil:
			if c != nil {
				t.errors, t.rest = 0, time.Time{}
			}
			return b, c
		}
		if cannot, ok := errors.AsType[*broken](err); ok {
			return s.breaks(t, cannot)
		}
		s.fails(t.path, err)
		if !s.config.Follow {
			t.done = true
			return nil, nil
		}
		t.errors++
		t.rest = time.Now().Add(min(s.poll<<min(t.errors, 8), 30*time.Second))
		return nil, nil
	}
}

// try reads lines of t. A cut without messages is of lines that were settled before.
func (s *Source) try(t *tail, room connector.Room) (event.Batch, *cut, error) {
	if t.st == nil {
		if known, err := s.recognise(t); !known || err != nil {
			return nil, nil, err
		}
	}
	most, size := s.within(room)
	got, err := t.next(s.scratch[:0], most, size)
	s.scratch = got
	if t.hole > 0 {
		s.log.Warn("the file begins with a hole, as a writer leaves that does not append to a file that was truncated; it is passed over",
			meter.KeyFile, t.path, "bytes", t.hole)
		s.book.change(func() { t.st.settle(0, t.hole, digest{}) })
		t.hole = 0
	}
	if errors.Is(err, lines.ErrTooLong) {
		return s.tooLong(t)
	}
	if err != nil || len(got) == 0 {
		return nil, nil, err
	}
	b, c := t.messages(got)
	event.Origins(b, s.config.Path, t.st.Partition, func(i int) uint64 { return uint64(c.at[i].from) })
	clear(got)
	b = s.unsettled(b, c)
	s.advance(t)
	return b, c, nil
}

// byteOrderMark is what some write before the text of a file, of which it is no part.
var byteOrderMark = []byte("\xef\xbb\xbf")

// messages makes messages of the lines that next returned.
func (t *tail) messages(got [][]byte) (event.Batch, *cut) {
	begins, end := t.reader.Begins(), t.offset()
	c := &cut{st: t.st, at: make([]extent, len(got)), base: t.base + begins[0], behind: t.behind, raw: t.reader.Raw()}
	for i := range got {
		c.at[i] = extent{t.base + begins[i], end}
		if i > 0 {
			c.at[i-1].to = c.at[i].from
		}
	}
	if c.at[0].from == 0 {
		got[0] = bytes.TrimPrefix(got[0], byteOrderMark)
	}
	t.behind = last(t.behind, c.raw)
	return event.NewBatch(time.Now().UTC(), got), c
}

// unsettled is the messages of b that were not settled before.
func (s *Source) unsettled(b event.Batch, c *cut) event.Batch {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if c.at[0].from >= c.st.Offset && len(c.st.Done) == 0 {
		return b
	}
	n := 0
	for i := range b {
		if !c.st.settled(c.at[i].from) {
			b[n], c.at[n] = b[i], c.at[i]
			n++
		}
	}
	c.at = c.at[:n]
	return b[:n]
}

// advance notes how far t was read.
func (s *Source) advance(t *tail) {
	s.book.readTo(t.st, t.offset(), t.behind)
	s.prefix(t)
	s.note(t)
}

// prefix keeps the digest of the first bytes while there are few.
func (s *Source) prefix(t *tail) {
	n := digestBytes
	if t.format == plain {
		n = int(min(t.raw.offset, digestBytes)) // what is behind may not be written yet
	}
	if t.st.Prefix.Bytes >= n || t.raw.replaced {
		return
	}
	if head, err := headOf(t.f, n); err == nil {
		s.book.change(func() { t.st.Prefix, t.st.head = digestOf(head), head })
	}
}

// tooLong passes over a line that is too long: its beginning is a message that is refused.
func (s *Source) tooLong(t *tail) (event.Batch, *cut, error) {
	from := t.offset()
	head, size, err := t.reader.Skip()
	if err != nil {
		return nil, nil, t.stopped(err)
	}
	t.behind = nil
	why := fmt.Errorf("read %s: the line at byte %d has %d bytes, more than max_line_bytes (%d); raise max_line_bytes of the file source", t.path, from, size, t.most)
	b, c := s.refused(t, head, from, from+size, fault.Detail{Type: "source", Code: "LineTooLong", Safe: "the line is longer than max_line_bytes"}, why)
	s.advance(t)
	return b, c, nil
}

// refused is a message that is none, of what lies between two offsets.
func (s *Source) refused(t *tail, data []byte, from, to int64, d fault.Detail, why error) (event.Batch, *cut) {
	c := &cut{st: t.st, at: []extent{{from, to}}, base: to + 1}
	b := event.NewBatch(time.Now().UTC(), [][]byte{data})
	event.Origins(b, s.config.Path, t.st.Partition, func(int) uint64 { return uint64(from) })
	b[0].Refuse(fault.Describe(fault.Invalid, why, d))
	return s.unsettled(b, c), c
}

// breaks is the end of a compressed file that cannot be restored on. What there is of the line
// that was cut is refused.
func (s *Source) breaks(t *tail, cannot *broken) (event.Batch, *cut) {
	s.fails(t.path, cannot)
	if len(cannot.rest) == 0 || t.st == nil || s.book.at(t.st).Broken == t.size {
		return nil, nil // there is nothing to refuse, or it was
	}
	b, c := s.refused(t, bytes.Clone(cannot.rest), cannot.at, cannot.at+int64(len(cannot.rest)),
		fault.Detail{Type: "source", Code: "Damaged", Safe: "the compressed file is damaged"}, cannot)
	c.broken = t.size
	c.at[0].to = c.at[0].from // its place is read again when the file is repaired
	return b, c
}

// renew begins with another content of the same file.
func (s *Source) renew(t *tail) {
	if t.st == nil {
		return
	}
	s.log.Info("the content of the file was replaced; reading it from the beginning", meter.KeyFile, t.path)
	s.book.retire(t.st)
	st := &state{Path: t.st.Path, fileID: t.id, Birth: t.birth, Packed: t.st.Packed}
	s.book.add(st)
	t.restart(st)
	s.saveSoon()
}
