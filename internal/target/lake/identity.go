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
// made anew. Messages without a position have none, and nil is that no message has one. The
// lanes are the partitions they were read in.
func identities(b event.Batch) (ids []catalog.ID, lanes []catalog.Lane) {
	type key struct{ stream, partition string }
	var at map[key]int
	var lane *catalog.Lane
	var stream uint64 // the hash of lane's name
	end := 0          // of the last run of lane
	buf := make([]byte, 0, 128)
	for i, m := range b {
		o := m.Meta.Origin
		if o == nil || len(o.Position) == 0 {
			continue
		}
		if ids == nil {
			ids, at = make([]catalog.ID, len(b)), map[key]int{}
		}
		place := catalog.Place{Position: o.Position, Sub: o.Sub, Piece: m.Meta.Piece}
		if lane == nil || lane.Stream != o.Stream || lane.Partition != o.Partition {
			k, known := at[key{o.Stream, o.Partition}]
			if !known {
				k = len(lanes)
				at[key{o.Stream, o.Partition}] = k
				lanes = append(lanes, catalog.Lane{Stream: o.Stream, Partition: o.Partition, First: place, Rising: true})
			}
			lane, end = &lanes[k], -1
			buf = append(append(append(buf[:0], o.Stream...), 0), o.Partition...)
			stream = xxhash.Sum64(buf)
		}
		switch {
		case len(lane.Runs) == 0:
			lane.Last = place
		case place.Compare(lane.Last) > 0:
			lane.Last = place
		default:
			lane.Rising = false
		}
		if end != i {
			lane.Runs = append(lane.Runs, [2]int{i, i})
		}
		end = i + 1
		lane.Runs[len(lane.Runs)-1][1] = end
		ids[i] = identity(buf[:0], stream, m)
	}
	return ids, lanes
}

// identity is what m is recognised by, which was read in the stream and partition of the hash.
func identity(buf []byte, stream uint64, m *event.Message) (id catalog.ID) {
	o := m.Meta.Origin
	buf = binary.LittleEndian.AppendUint64(buf, stream)
	buf = binary.AppendUvarint(buf, o.Sub)
	buf = binary.AppendUvarint(buf, uint64(m.Meta.Piece))
	if !o.At.IsZero() {
		buf = binary.AppendVarint(buf, o.At.Unix())
	}
	buf = append(append(buf, '/'), o.Position...)
	binary.LittleEndian.PutUint64(id[:8], xxhash.Sum64(buf))
	binary.LittleEndian.PutUint64(id[8:], xxhash.Sum64(m.Raw()))
	return id
}
