package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Pause keeps the open jobs of a filter from being handed out. It is a record of the store:
// it holds in every process that shares the store, and over restarts, until it is resumed. Jobs
// that are leased already are settled as ever, and new ones are taken.
type Pause struct {
	Filter
	Since time.Time
	Who   string // has paused it
	Why   string
}

// PausePrefix is what the keys of pauses begin with. Nothing else keeps records there.
const PausePrefix = "operation/pause/"

// key is the key of a pause: names may be longer than keys are.
func (f Filter) key() []byte {
	f = f.normal()
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", f.Queue, f.By, f.Value))
	return []byte(PausePrefix + hex.EncodeToString(sum[:]))
}

func (f Filter) normal() Filter {
	if f.By == "" || f.By == None {
		f.By, f.Value = None, ""
	}
	return f
}

// pauseRecord is a pause at rest. Names are bytes, as they need not be UTF-8.
type pauseRecord struct {
	Queue []byte    `json:"queue"`
	By    string    `json:"by"`
	Value []byte    `json:"value,omitempty"`
	Since time.Time `json:"since"`
	Who   string    `json:"who,omitempty"`
	Why   string    `json:"why,omitempty"`
}

// ParsePause reads the value of a record of a pause.
func ParsePause(value []byte) (Pause, error) {
	var r pauseRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return Pause{}, fmt.Errorf("read a pause: %w: %w", err, ErrCorrupt)
	}
	p := Pause{Filter: Filter{Queue: string(r.Queue), By: Axis(r.By), Value: string(r.Value)}.normal(), Since: r.Since, Who: r.Who, Why: r.Why}
	if p.Queue == "" || !slices.Contains(Axes[:], p.By) {
		return Pause{}, fmt.Errorf("read a pause: it names no queue, or divides it by %q: %w", p.By, ErrCorrupt)
	}
	return p, nil
}

// SetPause makes a pause durable, in place of one of the same filter.
func SetPause(ctx context.Context, s Store, p Pause) error {
	p.Filter = p.normal()
	v, err := json.Marshal(pauseRecord{Queue: []byte(p.Queue), By: string(p.By), Value: []byte(p.Value), Since: p.Since, Who: p.Who, Why: p.Why})
	if err != nil {
		return fmt.Errorf("pause queue %q: %w", p.Queue, err)
	}
	return s.Update(ctx, func(tx Tx) error { return tx.Put(p.key(), v) })
}

// EndPause ends the pause of a filter, and reports whether there was one.
func EndPause(ctx context.Context, s Store, f Filter) (was bool, err error) {
	err = s.Update(ctx, func(tx Tx) error {
		v, err := tx.Get(f.key())
		if was = v != nil; err != nil || !was {
			return err
		}
		return tx.Delete(f.key())
	})
	return was && err == nil, err
}

// PausesOf lists the pauses of a store, by queue, axis and value.
func PausesOf(ctx context.Context, s Store) (all []Pause, err error) {
	err = s.View(ctx, func(r Reader) error {
		all = nil
		for rec, err := range r.Scan([]byte(PausePrefix), nil) {
			if err != nil {
				return err
			}
			p, err := ParsePause(rec.Value)
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Pause) int {
		return cmp.Or(strings.Compare(a.Queue, b.Queue), strings.Compare(string(a.By), string(b.By)), strings.Compare(a.Value, b.Value))
	})
	return all, err
}

// Pauses are filters that may not be worked on, for a look at each lane. Nil has none.
type Pauses struct{ held map[Filter]bool }

// NewPauses makes them of a list.
func NewPauses(all []Pause) *Pauses {
	p := &Pauses{held: make(map[Filter]bool, len(all))}
	for i := range all {
		p.held[all[i].normal()] = true
	}
	return p
}

// Hold reports whether the jobs of a queue and a scope are paused.
func (p *Pauses) Hold(q string, s Scope) bool {
	if p == nil || len(p.held) == 0 {
		return false
	}
	for _, a := range Axes {
		if p.held[Filter{Queue: q, By: a, Value: a.Of(s)}] {
			return true
		}
	}
	return false
}

// Equal reports whether both hold the same.
func (p *Pauses) Equal(o *Pauses) bool {
	if p == nil || o == nil {
		return p == o
	}
	if len(p.held) != len(o.held) {
		return false
	}
	for f := range p.held {
		if !o.held[f] {
			return false
		}
	}
	return true
}
