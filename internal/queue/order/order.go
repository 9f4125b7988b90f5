// Package order carries out what an operator decides about the open jobs of a queue: to drop
// them, to give them up, or to move them elsewhere.
//
// An order is a record of the store. It is written before anything is done and deleted when
// nothing is left to do, so that a crash in the middle of one only delays it: whoever has the
// store open next goes on. Each step is one transaction that settles some jobs and appends what
// they become, so that a job is here or there, never both and never neither.
//
// # Who works
//
// Jobs are leased, as by who works on them, whether they are paused or due or not. In a store
// that processes share, each carries an order out for what is its own of the queue; when nobody
// leases from the queue, the one that works on the order does so for as long as it takes. Jobs
// that a pipeline has in hand are waited for: what it has done is done.
//
// # What is chosen
//
// An order is about jobs that were appended before it. A job that an earlier one of its key
// withholds is reached when that one is gone.
package order

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// Kind is what becomes of jobs.
type Kind string

// The kinds.
const (
	Drop  Kind = "drop"  // they are removed for good
	Drain Kind = "drain" // they are dead, with the cause that somebody decided so
	Move  Kind = "move"  // they are appended elsewhere, as new jobs
)

// An Order is a decision about open jobs.
type Order struct {
	ID   string
	Kind Kind
	// Search is which jobs; State is Open. Before is at the latest when the order was given.
	Search queue.Search
	// To is the queue that jobs are moved to; ToBy and ToValue, where ToBy is set, are the part
	// of the scope that they get there.
	To      string
	ToBy    queue.Axis
	ToValue string
	Who     string
	At      time.Time
}

// Prefix is what the keys of orders begin with. Nothing else keeps records there.
const Prefix = "operation/order/"

// record is an order at rest. Names are bytes, as they need not be UTF-8.
type record struct {
	Kind    Kind       `json:"kind"`
	Queue   []byte     `json:"queue"`
	By      queue.Axis `json:"by,omitempty"`
	Value   []byte     `json:"value,omitempty"`
	Cause   []byte     `json:"cause,omitempty"`
	Before  time.Time  `json:"before"`
	IDs     []string   `json:"ids,omitempty"`
	To      []byte     `json:"to,omitempty"`
	ToBy    queue.Axis `json:"to_by,omitempty"`
	ToValue []byte     `json:"to_value,omitempty"`
	Who     string     `json:"who,omitempty"`
	At      time.Time  `json:"at"`
}

func (o *Order) key() []byte { return []byte(Prefix + o.ID) }

func (o *Order) encode() ([]byte, error) {
	s := &o.Search
	r := record{Kind: o.Kind, Queue: []byte(s.Queue), By: s.By, Value: []byte(s.Value), Cause: []byte(s.Cause), Before: s.Before,
		To: []byte(o.To), ToBy: o.ToBy, ToValue: []byte(o.ToValue), Who: o.Who, At: o.At}
	for _, id := range s.IDs {
		r.IDs = append(r.IDs, id.String())
	}
	return json.Marshal(r)
}

func parse(rec queue.Record) (*Order, error) {
	id := strings.TrimPrefix(string(rec.Key), Prefix)
	var r record
	if err := json.Unmarshal(rec.Value, &r); err != nil {
		return nil, fmt.Errorf("read order %s: %w: %w", id, err, queue.ErrCorrupt)
	}
	o := &Order{ID: id, Kind: r.Kind, To: string(r.To), ToBy: r.ToBy, ToValue: string(r.ToValue), Who: r.Who, At: r.At}
	o.Search = queue.Search{Filter: queue.Filter{Queue: string(r.Queue), By: r.By, Value: string(r.Value)}, Cause: string(r.Cause), Before: r.Before}
	for _, text := range r.IDs {
		one, err := queue.ParseID(text)
		if err != nil {
			return nil, fmt.Errorf("read order %s: %w", id, err)
		}
		o.Search.IDs = append(o.Search.IDs, one)
	}
	err := o.check()
	return o, err
}

func (o *Order) check() error {
	switch {
	case o.Search.Queue == "" || o.Search.State != queue.Open:
		return errors.New("an order is about open jobs of one queue")
	case o.Kind != Drop && o.Kind != Drain && o.Kind != Move:
		return fmt.Errorf("there is no order %q", o.Kind)
	case o.Kind == Move && (o.To == "" || len(o.To) > queue.MaxName || len(o.ToValue) > queue.MaxName):
		return errors.New("jobs are moved to a queue, and names have at most 1024 bytes")
	case o.Kind == Move && o.To == o.Search.Queue && (o.ToBy == "" || o.ToBy == queue.None || o.Search.By == o.ToBy && o.Search.Value == o.ToValue):
		return fmt.Errorf("jobs cannot be moved from queue %q to where they are", o.To)
	}
	return nil
}

// maxRecord is the most bytes of an order: few enough for a record, beside others.
const maxRecord = 8 << 20

// Give makes an order durable. Its ID and time are those of now.
func Give(ctx context.Context, s queue.Store, o Order) (*Order, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	o.At = s.Now().UTC()
	o.ID = o.At.Format("20060102T150405.000000000") + "-" + hex.EncodeToString(id[:])
	if end := o.At.Add(1); o.Search.Before.IsZero() || o.Search.Before.After(end) {
		o.Search.Before = end // what was appended at this moment is there
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	v, err := o.encode()
	if err != nil {
		return nil, fmt.Errorf("write the order: %w", err)
	}
	if len(v) > maxRecord {
		return nil, fmt.Errorf("the order names %d jobs, which is too many at once: give it in parts, or a filter", len(o.Search.IDs))
	}
	return &o, s.Update(ctx, func(tx queue.Tx) error { return tx.Put(o.key(), v) })
}

// Open lists the orders that are not carried out yet, the earliest first.
func Open(ctx context.Context, s queue.Store) (all []*Order, err error) {
	err = s.View(ctx, func(r queue.Reader) error {
		all = nil
		for rec, err := range r.Scan([]byte(Prefix), nil) {
			if err != nil {
				return err
			}
			o, err := parse(rec)
			if err != nil {
				return err
			}
			all = append(all, o)
		}
		return nil
	})
	return all, err
}

// pick chooses jobs as the search of o does.
func (o *Order) pick() func(id queue.ID, at time.Time, cause string) bool {
	var ids map[queue.ID]bool
	if len(o.Search.IDs) > 0 {
		ids = make(map[queue.ID]bool, len(o.Search.IDs))
		for _, id := range o.Search.IDs {
			ids[id] = true
		}
	}
	return func(id queue.ID, at time.Time, cause string) bool {
		return (ids == nil || ids[id]) && at.Before(o.Search.Before) && strings.Contains(cause, o.Search.Cause)
	}
}

// Left reports whether jobs are left that o chooses.
func (o *Order) Left(ctx context.Context, a queue.Admin) (bool, error) {
	p, err := a.List(ctx, o.Search, queue.ID{}, 1)
	return len(p.Jobs) > 0, err
}

// moved is the job that j becomes.
func (o *Order) moved(j *queue.Job, now time.Time) queue.Job {
	out := queue.Job{Queue: o.To, Scope: j.Scope, Msg: j.Msg, Ordered: j.Ordered}
	switch o.ToBy {
	case queue.ByWorkspace:
		out.Scope.Workspace = o.ToValue
	case queue.BySource:
		out.Scope.Source = o.ToValue
	case queue.ByDestination:
		out.Scope.Destination = o.ToValue
	}
	if j.NotBefore.After(now) {
		out.NotBefore = j.NotBefore
	}
	return out
}

// cause is that of jobs that were given up.
func (o *Order) cause() string {
	return fmt.Sprintf("drained: given up by an operator (%s, %s)", o.Who, o.At.Format(time.RFC3339))
}

// settle settles jobs, and appends what they become.
func (o *Order) settle(tx queue.Tx, jobs []queue.Job, remains [][]byte, now time.Time) error {
	rs := make([]queue.Result, len(jobs))
	var appends []queue.Job
	for i := range jobs {
		switch j := &jobs[i]; o.Kind {
		case Drain:
			rs[i] = j.Dead(o.cause())
		case Move:
			rs[i], appends = j.Done(), append(appends, o.moved(j, now))
		default:
			rs[i] = j.Done()
		}
	}
	for _, key := range remains {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	if err := tx.Settle(rs...); err != nil || len(appends) == 0 {
		return err
	}
	return tx.Append(appends...)
}
