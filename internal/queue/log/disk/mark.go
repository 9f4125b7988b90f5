package disk

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// The file MARK has two slots of 64 bytes that are written in turn, so that a torn write
// leaves the one before:
//
//	slot := "WEIRMARK" turn(8) commit(8) segment(8) offset(8) state(8) crc(4) 0(12)
//
// commit is the last acknowledged entry and segment and offset where its frame ends; state
// is the entry through which everything was durable elsewhere, as Trim was told last.
const (
	markMagic = "WEIRMARK"
	markSlot  = 64
)

type mark struct {
	turn   uint64
	commit uint64
	end    log.Position
	state  uint64
}

func (m *mark) encode() []byte {
	b := make([]byte, 0, markSlot)
	b = append(b, markMagic...)
	for _, v := range [...]uint64{m.turn, m.commit, m.end.Segment, uint64(m.end.Offset), m.state} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	return b[:markSlot]
}

func decodeMark(b []byte) (mark, bool) {
	if len(b) < markSlot || string(b[:8]) != markMagic || checksum(b[:48]) != binary.BigEndian.Uint32(b[48:]) {
		return mark{}, false
	}
	u := func(i int) uint64 { return binary.BigEndian.Uint64(b[8+8*i:]) }
	return mark{turn: u(0), commit: u(1), end: log.Position{Segment: u(2), Offset: int64(u(3))}, state: u(4)}, true
}

// readMark reads the newer of the slots that are whole. A store that never
// acknowledged anything has none; damaged says that a slot is neither whole nor empty.
func readMark(fs vfs.FS, path string) (m mark, damaged bool, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return m, false, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, 2*markSlot)
	n, err := f.ReadAt(b, 0)
	if n == 0 && err != nil {
		return m, false, fmt.Errorf("read %s: it is empty: %w", path, queue.ErrCorrupt)
	}
	found := false
	for i := range 2 {
		s, ok := decodeMark(b[i*markSlot : (i+1)*markSlot])
		if !ok {
			damaged = true
			continue
		}
		if !found || s.turn > m.turn {
			m, found = s, true
		}
	}
	if !found {
		return m, true, fmt.Errorf("read %s: both slots are damaged, so it is not known how far the log must reach: %w", path, queue.ErrCorrupt)
	}
	return m, damaged, nil
}

// writeMark puts m into the slot whose turn it is.
func writeMark(f vfs.File, m *mark) error {
	m.turn++
	if _, err := f.WriteAt(m.encode(), int64(m.turn%2)*markSlot); err != nil {
		return fmt.Errorf("write the high-water mark: %w", err)
	}
	return nil
}
