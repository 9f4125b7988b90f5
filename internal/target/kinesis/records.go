package kinesistarget

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
)

// randomKeyLength is that of a UUID in text.
const randomKeyLength = 36

// record is one of a request: a message, or several in an aggregate.
type record struct {
	key, hash string // hash is empty without an explicit one
	data      []byte
	index     int   // of the message in the batch
	more      []int // of the further ones of an aggregate
}

func (r *record) size() int { return len(r.data) + len(r.key) }

// part is where the record goes.
func (r *record) part() part {
	if r.hash != "" {
		if h, ok := aggregate.ParseHash(r.hash); ok {
			return partOf(h)
		}
	}
	return partOf(aggregate.HashOf(r.key))
}

// record is what becomes of a message.
func (t *Target) record(s *stream, m *event.Message, index int) (record, error) {
	r := record{data: m.Data, index: index}
	if r.data == nil {
		r.data = []byte{} // a record has data, which may be empty
	}
	if t.c.PartitionKey == random {
		r.key = (&event.Message{}).PartitionKey()
	} else {
		r.key = m.PartitionKey()
	}
	if !utf8.ValidString(r.key) {
		return r, invalid("PartitionKey", errors.New("its partition key is not valid UTF-8, and Kinesis takes text only"))
	}
	if n := utf8.RuneCountInString(r.key); n > mostKey {
		return r, invalid("PartitionKey", fmt.Errorf("its partition key has %d characters, more than the %d that Kinesis takes", n, mostKey))
	}
	if t.c.ExplicitHashKeyHeader != "" {
		if h := m.Meta.Headers.Fold(t.c.ExplicitHashKeyHeader); h != nil {
			r.hash = string(h.Value)
			if _, ok := aggregate.ParseHash(r.hash); !ok {
				return r, invalid("ExplicitHashKey", fmt.Errorf("its header %s is no explicit hash key, a number from 0 to 2^128-1", t.c.ExplicitHashKeyHeader))
			}
		}
	}
	if most := int(s.most.Load()); r.size() > most {
		return r, invalid("RecordSize", fmt.Errorf("it has %d bytes with its partition key, more than the %d that stream %s takes", r.size(), most, s.name))
	}
	return r, nil
}

// invalid is the error of a message that Kinesis would never take.
func invalid(code string, err error) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "api", Code: code, Safe: err.Error()})
}

// identity is what the records of an aggregate have in common.
type identity struct{ key, hash string }

// packer is an aggregate that is filling.
type packer struct {
	builder aggregate.Builder
	r       record
}

// pack puts records with one identity together, in their order, as long as they fit.
func (t *Target) pack(s *stream, rs []record) []record {
	most := min(t.c.AggregateMaxBytes, int(s.most.Load()))
	open := map[identity]*packer{}
	var order []*packer
	out := rs[:0:0]
	finish := func(p *packer) {
		p.r.data = p.builder.Finish()
		out = append(out, p.r)
	}
	for _, r := range rs {
		id := identity{r.key, r.hash}
		user := aggregate.Record{Key: r.key, ExplicitHash: r.hash, Data: r.data}
		p := open[id]
		if p != nil && p.builder.Len() > 0 && p.builder.SizeWith(user)+len(r.key) > most {
			finish(p)
		}
		if p == nil {
			p = &packer{}
			open[id] = p
			order = append(order, p)
		}
		if p.builder.Len() == 0 {
			p.r = r
		} else {
			p.r.more = append(p.r.more, r.index)
		}
		p.builder.Add(user)
	}
	for _, p := range order {
		if p.builder.Len() > 0 {
			finish(p)
		}
	}
	return out
}

// firsts divides records into the first of each key and the others.
func firsts(rs []record) (first, others []record) {
	seen := make(map[string]bool, len(rs))
	for _, r := range rs {
		if seen[r.key] {
			others = append(others, r)
			continue
		}
		seen[r.key] = true
		first = append(first, r)
	}
	return first, others
}
