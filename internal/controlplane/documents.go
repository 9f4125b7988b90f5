package controlplane

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

// documents is what the plane has said of all workspaces.
type documents struct {
	parts   map[string]*part // by workspace; of a lone one by ""
	updated time.Time        // the latest updatedAt of them
	odd     error            // why some of them stay as they were
}

// part is one workspace.
type part struct {
	sum     [sha256.Size]byte
	text    []byte
	updated time.Time
	of      *workspace.Workspace
}

// errForgotten is an answer that takes for known what is not.
var errForgotten = errors.New("the control plane says that a workspace has not changed that is not known here")

// read makes documents of an answer. With since, null stands for what is known.
func (p *Poller) read(body []byte, since bool, now time.Time) (*documents, error) {
	next := &documents{parts: map[string]*part{}}
	if p.o.Namespace == "" {
		one, err := p.part("", body, now)
		if err != nil {
			return nil, fault.New(fault.Transient, err)
		}
		next.parts[""] = one
	} else if err := p.readAll(next, body, since, now); err != nil {
		return nil, err
	}
	if next.odd != nil {
		next.odd = fault.New(fault.Invalid, next.odd)
	}
	sources := 0
	for _, one := range next.parts {
		sources += len(one.of.Sources)
		if one.updated.After(next.updated) {
			next.updated = one.updated
		}
	}
	if sources == 0 {
		return nil, fault.New(fault.Transient, errors.New("the control plane answers with a configuration without any source, by which every client would be refused: add a source there, or look whether the token and the namespace are those of this data plane"))
	}
	return next, nil
}

func (p *Poller) readAll(next *documents, body []byte, since bool, now time.Time) error {
	var texts map[string]json.RawMessage
	if err := json.Unmarshal(body, &texts); err != nil {
		return fault.New(fault.Transient, fmt.Errorf("the control plane's answer is no object of workspaces: %w", err))
	}
	for _, id := range slices.Sorted(maps.Keys(texts)) {
		old := p.known.parts[id]
		switch {
		case string(texts[id]) != "null":
			one, err := p.part(id, texts[id], now)
			if err == nil {
				next.parts[id] = one
				continue
			}
			next.odd = errors.Join(next.odd, fmt.Errorf("workspace %q: %w", id, err))
			if old != nil {
				next.parts[id] = old
			}
		case old != nil && since:
			next.parts[id] = old
		case since:
			return errForgotten
		default:
			next.odd = errors.Join(next.odd, fmt.Errorf("workspace %q is null in an answer that has to be whole", id))
			if old != nil {
				next.parts[id] = old
			}
		}
	}
	if len(next.parts) == 0 {
		return fault.New(fault.Transient, errors.Join(errors.New("the control plane answers without any workspace that can be read: look whether the namespace is that of this data plane"), next.odd))
	}
	return nil
}

// part reads one workspace; what has not changed is not read again.
func (p *Poller) part(id string, text []byte, now time.Time) (*part, error) {
	sum := sha256.Sum256(text)
	old := p.known.parts[id]
	if old != nil && old.sum == sum {
		return old, nil
	}
	var before *workspace.Workspace
	if old != nil {
		before = old.of
	}
	w, err := workspace.ParseAfter(before, "of the control plane", text, now)
	if err != nil {
		return nil, err
	}
	one := &part{sum: sum, text: bytes.Clone(text), of: w}
	if t, err := time.Parse(time.RFC3339Nano, w.UpdatedAt); err == nil {
		one.updated = t
	}
	return one, nil
}

// same reports whether nothing differs from other.
func (d *documents) same(other *documents) bool {
	return maps.EqualFunc(d.parts, other.parts, func(a, b *part) bool { return a.sum == b.sum })
}

// updatedAfter is since when the plane is asked for changes; empty for everything.
func (d *documents) updatedAfter() string {
	if d.updated.IsZero() {
		return ""
	}
	return d.updated.UTC().Format("2006-01-02T15:04:05.000Z")
}

// state is the documents as one workspace.
func (d *documents) state(now time.Time) *workspace.Workspace {
	if one := d.parts[""]; one != nil && len(d.parts) == 1 {
		return one.of
	}
	all := make([]*workspace.Workspace, 0, len(d.parts))
	for _, id := range slices.Sorted(maps.Keys(d.parts)) {
		all = append(all, d.parts[id].of)
	}
	return workspace.Join(all, now)
}
