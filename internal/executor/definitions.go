package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
)

// definitions are the definitions of executions, by revision.
type definitions struct {
	mu sync.Mutex
	by map[string]*machine.Definition
}

func (d *definitions) set(def *machine.Definition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]*machine.Definition{}
	}
	d.by[def.Revision()] = def
}

func (d *definitions) get(revision string) *machine.Definition {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[revision]
}

// revisionSize is the length of a revision, which stands before an execution's bytes.
const revisionSize = 16

// errElsewhere says that an execution goes on only with another version of the program, or when
// its definition is there again: its job stays open until then.
var errElsewhere = errors.New("it goes on when a version of the program runs that can read it")

// definition finds a definition of this or an earlier run, by what was valid then.
func (m *Machine) definition(ctx context.Context, revision string) (*machine.Definition, error) {
	if def := m.definitions.get(revision); def != nil {
		return def, nil
	}
	var text, limits []byte
	err := m.o.Store().View(ctx, func(r queue.Reader) error {
		v, err := r.Get(m.definitionKey(revision))
		if text = slices.Clone(v); err != nil {
			return err
		}
		v, err = r.Get(m.limitsKey(revision))
		limits = slices.Clone(v)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read revision %s of the definition: %w", revision, err)
	case text == nil:
		return nil, fault.New(fault.Fatal, fmt.Errorf("revision %s of the definition is not in the store: %w", revision, errElsewhere))
	}
	l := m.o.Definition.Limits() // those of a revision that was recorded without
	if limits != nil {
		l = machine.Limits{}
		if err := json.Unmarshal(limits, &l); err != nil {
			return nil, fault.New(fault.Fatal, fmt.Errorf("read the limits of revision %s of the definition: %w: %w", revision, err, errElsewhere))
		}
	}
	def, err := machine.Restore(revision, text, l)
	if err != nil {
		return nil, fault.New(fault.Fatal, fmt.Errorf("read revision %s of the definition: %w: %w", revision, err, errElsewhere))
	}
	m.definitions.set(def)
	return def, nil
}

// recordDefinition keeps the definition, and its limits, for the executions that are started
// with it.
func (m *Machine) recordDefinition(ctx context.Context) error {
	def := m.o.Definition
	limits, err := json.Marshal(def.Limits())
	if err != nil {
		return fmt.Errorf("machine %q: write the limits of its definition: %w", m.o.Name, err)
	}
	err = m.o.Store().Update(ctx, func(tx queue.Tx) error {
		for _, rec := range [...]queue.Record{
			{Key: m.definitionKey(def.Revision()), Value: []byte(def.Text())}, {Key: m.limitsKey(def.Revision()), Value: limits},
		} {
			if v, err := tx.Get(rec.Key); err != nil {
				return err
			} else if v != nil {
				continue
			}
			if err := tx.Put(rec.Key, rec.Value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("machine %q: record its definition: %w", m.o.Name, err)
	}
	return nil
}
