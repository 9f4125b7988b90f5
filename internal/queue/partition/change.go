package partition

import (
	"encoding/binary"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/wire"
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

// DecodeChange reads a Change from the start of b and returns what follows it. Records
// share memory with b. It never panics, whatever b holds.
func DecodeChange(b []byte) (*Change, []byte, error) {
	p := wire.Reader{Rest: b}
	c := &Change{}
	for n := p.Uvarint(); n > 0 && !p.Bad; n-- {
		l := Left{Lane: p.Uvarint(), Seq: p.Uvarint(), Count: int(p.Uvarint()), Size: int(p.Uvarint())}
		before := int64(0)
		for k := p.Uvarint(); k > 0 && !p.Bad; k-- {
			before += p.Varint()
			if before < 0 || before >= int64(l.Count) {
				p.Bad = true
			}
			l.Index = append(l.Index, uint32(before))
		}
		if l.Count <= 0 || l.Count > 1<<20 || l.Size < 0 {
			p.Bad = true
		}
		c.Left = append(c.Left, l)
	}
	for n := p.Uvarint(); n > 0 && !p.Bad; n-- {
		c.Side = append(c.Side, readSide(&p))
	}
	if p.Bad {
		return nil, nil, fmt.Errorf("read change of %d bytes: its fields do not fit: %w", len(b), queue.ErrCorrupt)
	}
	return c, p.Rest, nil
}

func readSide(p *wire.Reader) Side {
	s := Side{ID: queue.ID{Lane: p.Uvarint(), Seq: p.Uvarint(), Index: uint32(p.Uvarint())}}
	s.State = SideState(p.Byte())
	s.Due = p.Varint()
	s.Hash = p.Fixed64()
	s.Attempt = int(p.Uvarint())
	s.Cause = string(p.Take(p.Uvarint()))
	s.At = p.Varint()
	s.Size = int(p.Uvarint())
	s.Was = SideState(p.Byte())
	s.WasDue = p.Varint()
	s.WasAttempt = int(p.Uvarint())
	if p.Byte() == 1 {
		s.Record = p.Take(p.Uvarint())
	}
	if s.State > Dead || s.Was > Dead || s.Record == nil && s.Was == Gone {
		p.Bad = true
	}
	return s
}
