package kafkasource

import (
	"strconv"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/event"
)

// messages are the n messages of records. They share memory with the records, which nobody
// writes to, and with each other: what several of them need is made in one piece.
func (s *Source) messages(runs []run, n int) event.Batch {
	now := time.Now().UTC()
	payloads := make([][]byte, 0, n)
	headers, names := 0, 0
	for _, r := range runs {
		for _, rec := range r.records {
			payloads = append(payloads, rec.Value)
			headers += len(rec.Headers)
		}
		names += len(r.records) * (len(r.topic) + len(r.name) + 22)
	}
	b := event.NewBatch(now, payloads)
	origins := make([]event.Origin, n)
	positions := make([]byte, 0, 8*n)
	slab := make(event.Headers, 0, headers)
	ids := make([]byte, 0, names)
	i := 0
	for _, r := range runs {
		for _, rec := range r.records {
			m := b[i]
			from := len(ids)
			ids = append(append(append(append(ids, r.topic...), '/'), r.name...), '/')
			ids = strconv.AppendInt(ids, rec.Offset, 10)
			m.Meta.ID = unsafe.String(&ids[from], len(ids)-from)
			positions = event.PutNumber(positions, uint64(rec.Offset))
			o := &origins[i]
			*o = event.Origin{Stream: r.topic, Partition: r.name, Position: positions[8*i : 8*i+8 : 8*i+8]}
			if at := rec.Timestamp; at.UnixMilli() >= 0 {
				o.At = at.UTC()
				m.Times.Created = o.At
			}
			m.Meta.Origin = o
			if s.config.PartitionKey == sourceKey {
				m.Key, m.Keyed = key(rec)
			}
			if len(rec.Headers) > 0 {
				first := len(slab)
				for _, h := range rec.Headers {
					slab = append(slab, event.Header{Name: h.Key, Value: h.Value})
				}
				m.Meta.Headers = slab[first:len(slab):len(slab)]
			}
			i++
		}
	}
	return b
}

// key is the key of a record, which shares its memory.
func key(rec *kgo.Record) (string, event.Keyed) {
	switch {
	case rec.Key == nil:
		return "", event.KeyNone
	case len(rec.Key) == 0:
		return "", event.KeyEmpty
	}
	return unsafe.String(&rec.Key[0], len(rec.Key)), event.KeyOpen
}
