package partition

import (
	"encoding/binary"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
)

// The encoding of a Change; all numbers are varints unless said otherwise.
//
//	change := n left* n side*
//	left   := lane seq count size n index*     n = 0 means every job; an index is the
//	                                           distance to the one before
//	side   := lane seq index state(1) due hash(8) attempt cause at size was(1) wasDue
//	          wasAttempt hasRecord(1) [record]
//
// A cause and a record are preceded by their size.

// Encode appends the encoding of c to dst.
func (c *Change) Encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.Left)))
	for i := range c.Left {
		l := &c.Left[i]
		dst = binary.AppendUvarint(dst, l.Lane)
		dst = binary.AppendUvarint(dst, l.Seq)
		dst = binary.AppendUvarint(dst, uint64(l.Count))
		dst = binary.AppendUvarint(dst, uint64(l.Size))
		dst = binary.AppendUvarint(dst, uint64(len(l.Index)))
		before := uint32(0)
		for _, ix := range l.Index {
			dst = binary.AppendVarint(dst, int64(ix)-int64(before))
			before = ix
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Side)))
	for i := range c.Side {
		dst = c.Side[i].encode(dst)
	}
	return dst
}

func (s *Side) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.ID.Lane)
	dst = binary.AppendUvarint(dst, s.ID.Seq)
	dst = binary.AppendUvarint(dst, uint64(s.ID.Index))
	dst = append(dst, byte(s.State))
	dst = binary.AppendVarint(dst, s.Due)
	dst = binary.BigEndian.AppendUint64(dst, s.Hash)
	dst = binary.AppendUvarint(dst, uint64(s.Attempt))
	dst = binary.AppendUvarint(dst, uint64(len(s.Cause)))
	dst = append(dst, s.Cause...)
	dst = binary.AppendVarint(dst, s.At)
	dst = binary.AppendUvarint(dst, uint64(s.Size))
	dst = append(dst, byte(s.Was))
	dst = binary.AppendVarint(dst, s.WasDue)
	dst = binary.AppendUvarint(dst, uint64(s.WasAttempt))
	if s.Record == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	dst = binary.AppendUvarint(dst, uint64(len(s.Record)))
	return append(dst, s.Record...)
}

// parser takes bytes apart; bad is set by the first thing that does not fit.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) fixed() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// DecodeChange reads a Change from the start of b and returns what follows it. Records
// share memory with b. It never panics, whatever b holds.
func DecodeChange(b []byte) (*Change, []byte, error) {
	p := parser{b: b}
	c := &Change{}
	for n := p.uvarint(); n > 0 && !p.bad; n-- {
		l := Left{Lane: p.uvarint(), Seq: p.uvarint(), Count: int(p.uvarint()), Size: int(p.uvarint())}
		before := int64(0)
		for k := p.uvarint(); k > 0 && !p.bad; k-- {
			before += p.varint()
			if before < 0 || before >= int64(l.Count) {
				p.bad = true
			}
			l.Index = append(l.Index, uint32(before))
		}
		if l.Count <= 0 || l.Count > 1<<20 || l.Size < 0 {
			p.bad = true
		}
		c.Left = append(c.Left, l)
	}
	for n := p.uvarint(); n > 0 && !p.bad; n-- {
		c.Side = append(c.Side, p.side())
	}
	if p.bad {
		return nil, nil, fmt.Errorf("read change of %d bytes: its fields do not fit: %w", len(b), queue.ErrCorrupt)
	}
	return c, p.b, nil
}

func (p *parser) side() Side {
	s := Side{ID: queue.ID{Lane: p.uvarint(), Seq: p.uvarint(), Index: uint32(p.uvarint())}}
	s.State = SideState(p.byte())
	s.Due = p.varint()
	s.Hash = p.fixed()
	s.Attempt = int(p.uvarint())
	s.Cause = string(p.take(p.uvarint()))
	s.At = p.varint()
	s.Size = int(p.uvarint())
	s.Was = SideState(p.byte())
	s.WasDue = p.varint()
	s.WasAttempt = int(p.uvarint())
	if p.byte() == 1 {
		s.Record = p.take(p.uvarint())
	}
	if s.State > Dead || s.Was > Dead || s.Record == nil && s.Was == Gone {
		p.bad = true
	}
	return s
}
