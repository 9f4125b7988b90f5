package executor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
)

// An execution at rest is the revision of its definition and its head, in one record, and its
// parts, in a record each. Parts are written and deleted in the transaction that writes the head
// they belong to, and never changed.

// partKey is the key of a part: what comes before, the number and the place, in order of both.
func (m *Machine) partKey(execution string, number uint64, place int) []byte {
	key := []byte("machine/" + m.o.Name + "/p/" + execution + "/")
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(key, number), uint32(place))
}

// whole is an execution that has ended as a record.
func whole(def *machine.Definition, x *machine.Execution) []byte {
	return x.Append([]byte(def.Revision()))
}

// rests makes u write x, as what is left of an execution that was loaded or is new.
func (m *Machine) rests(u *unit, def *machine.Definition, x *machine.Execution) {
	rest := def.Rest(x)
	u.after = append([]byte(def.Revision()), rest.Head...)
	for _, p := range rest.Put {
		u.parts = append(u.parts, queue.Record{Key: m.partKey(u.w.execution, p.Number, p.Place), Value: p.Data})
	}
	for _, p := range rest.Drop {
		u.drops = append(u.drops, m.partKey(u.w.execution, p.Number, p.Place))
	}
}

// decode reads the record of an execution, with the definition it was started with.
func (m *Machine) decode(ctx context.Context, execution string, b []byte) (*machine.Definition, machine.Execution, error) {
	if len(b) < revisionSize {
		return nil, machine.Execution{}, fault.New(fault.Fatal, errors.New("decode execution: the record is too short"))
	}
	def, err := m.definition(ctx, string(b[:revisionSize]))
	if err != nil {
		return nil, machine.Execution{}, err
	}
	x, err := def.Load(b[revisionSize:], func(number uint64, first, n int) ([][]byte, error) {
		found, err := m.readParts(ctx, execution, number, first, n)
		if err != nil {
			return nil, fmt.Errorf("read execution %q: %w", execution, err)
		}
		return found, nil
	}, m.recent)
	return def, x, err
}

// readParts implements machine.Parts.
func (m *Machine) readParts(ctx context.Context, execution string, number uint64, first, n int) ([][]byte, error) {
	found := make([][]byte, n)
	err := m.o.Store().View(ctx, func(r queue.Reader) error {
		clear(found)
		if n == 1 {
			v, err := r.Get(m.partKey(execution, number, first))
			found[0] = slices.Clone(v)
			return err
		}
		whole := m.partKey(execution, number, 0)
		var after []byte
		if first > 0 {
			after = m.partKey(execution, number, first-1)
		}
		for rec, err := range r.Scan(whole[:len(whole)-4], after) {
			if err != nil {
				return err
			}
			place := int(binary.BigEndian.Uint32(rec.Key[len(rec.Key)-4:])) - first
			if place >= n {
				break
			}
			found[place] = rec.Value
		}
		return nil
	})
	return found, err
}

// changed reports whether the record that u began with is another by now: then its parts may
// be gone, and what u made of it means nothing.
func (m *Machine) changed(ctx context.Context, u *unit) (changed bool, err error) {
	err = m.o.Store().View(ctx, func(r queue.Reader) error {
		now, err := r.Get(u.key)
		changed = !slices.Equal(now, u.before)
		return err
	})
	return changed, err
}
