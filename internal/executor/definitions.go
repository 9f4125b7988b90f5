package executor

import (
	"context"
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

// definition finds a definition of this or an earlier run.
func (m *Machine) definition(ctx context.Context, revision string) (*machine.Definition, error) {
	if def := m.definitions.get(revision); def != nil {
		return def, nil
	}
	var text []byte
	err := m.o.Store().View(ctx, func(r queue.Reader) error {
		v, err := r.Get(m.definitionKey(revision))
		text = slices.Clone(v)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read revision %s of the definition: %w", revision, err)
	case text == nil:
		return nil, fault.New(fault.Fatal, fmt.Errorf("read revision %s of the definition: it is not in the store", revision))
	}
	def, err := machine.Parse(text, machine.Limits{Payload: m.o.MaxPayload})
	if err != nil {
		return nil, fault.New(fault.Fatal, fmt.Errorf("parse revision %s of the definition: %w", revision, err))
	}
	m.definitions.set(def)
	return def, nil
}

// recordDefinition keeps the definition for the executions that are started with it.
func (m *Machine) recordDefinition(ctx context.Context) error {
	def := m.o.Definition
	err := m.o.Store().Update(ctx, func(tx queue.Tx) error {
		key := m.definitionKey(def.Revision())
		if v, err := tx.Get(key); err != nil || v != nil {
			return err
		}
		return tx.Put(key, []byte(def.Text()))
	})
	if err != nil {
		return fmt.Errorf("machine %q: record its definition: %w", m.o.Name, err)
	}
	return nil
}
