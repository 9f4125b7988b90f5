package lake

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/event"
)

// identities is what each message of b is recognised by when its source delivers it again,
// whatever the transforms make of it then: where it was read, which of the messages it is
// that it became there, and the payload as it was read. The last, and the time at which it
// came into the stream, tell it from another message at the same place of a stream that was
// made anew. Messages without a position have none, and nil is that no message has one.
func identities(b event.Batch) []catalog.ID {
	var ids []catalog.ID
	var last *event.Origin
	stream := uint64(0)
	buf := make([]byte, 0, 128)
	for i, m := range b {
		o := m.Meta.Origin
		if o == nil || len(o.Position) == 0 {
			continue
		}
		if ids == nil {
			ids = make([]catalog.ID, len(b))
		}
		if last == nil || last.Stream != o.Stream || last.Partition != o.Partition {
			buf = append(append(append(buf[:0], o.Stream...), 0), o.Partition...)
			stream, last = xxhash.Sum64(buf), o
		}
		buf = binary.LittleEndian.AppendUint64(buf[:0], stream)
		buf = binary.AppendUvarint(buf, o.Sub)
		buf = binary.AppendUvarint(buf, uint64(m.Meta.Piece))
		if !o.At.IsZero() {
			buf = binary.AppendVarint(buf, o.At.Unix())
		}
		buf = append(append(buf, '/'), o.Position...)
		binary.LittleEndian.PutUint64(ids[i][:8], xxhash.Sum64(buf))
		binary.LittleEndian.PutUint64(ids[i][8:], xxhash.Sum64(m.Raw()))
	}
	return ids
}
