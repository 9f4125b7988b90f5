package rows

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

const (
	groupBytes    = 8 << 20 // a group of commits is written when it has reached this
	groupRequests = 512
)

// request is one transaction on its way into the log.
type request struct {
	appends []appendEntry // without lane and seq
	writes  []writeEntry
	reads   []partition.Read
	since   uint64   // the commit at which the state stood before anything was read
	read    []uint64 // marks of the keys of reads
	wrote   []uint64 // the same of writes
	change  *partition.Change
	moves   bool // values are put elsewhere: committed alone
	more    bool // it has jobs or records that are more than notes of results
	done    chan error
}

// newRequest prepares a transaction as far as it can be done aside of the committer. t
// may be nil.
func newRequest(t *partition.Transaction, c *partition.Change) *request {
	r := &request{change: c, done: make(chan error, 1)}
	if t == nil {
		return r
	}
	r.reads, r.more = t.Reads, t.Grows()
	r.read = make([]uint64, len(t.Reads))
	for i := range t.Reads {
		r.read[i] = mark(t.Reads[i].Key)
	}
	r.appends = make([]appendEntry, len(t.Appends))
	for i := range t.Appends {
		a := &t.Appends[i]
		r.appends[i] = appendEntry{
			lane: partition.Lane{Queue: a.Queue, Scope: a.Scope}, count: a.Count, value: a.Value, crc: checksum(a.Value),
		}
	}
	r.writes, r.wrote = make([]writeEntry, len(t.Writes)), make([]uint64, len(t.Writes))
	for i, w := range t.Writes {
		r.wrote[i] = mark(w.Key)
		r.writes[i] = writeEntry{key: w.Key, value: w.Value, put: w.Value != nil, crc: checksum(w.Value)}
	}
	return r
}

// grows reports whether r takes more than it gives back.
func (r *request) grows() bool {
	return r.more
}

// submit hands r to the committer and waits for its outcome. The partition is told of
// it.
func (s *Store) submit(r *request) error {
	if err := s.Full(); err != nil && r.grows() {
		s.part.End(r.change, false)
		return err
	}
	if limit := s.limits().MaxBytes; limit > 0 && r.grows() && s.log.Size()+s.stateBytes.Load()+int64(r.size()) > limit {
		s.part.End(r.change, false)
		s.wanted.Store(min(int64(r.size()), limit/16))
		s.nudge() // who looks at its limits then finds it full
		return fmt.Errorf("write to the queue store %s: it may take %d bytes only: %w", s.dir, limit, queue.ErrFull)
	}
	s.requests <- r
	return <-r.done
}

// Full implements queue.Filling.
func (s *Store) Full() error {
	if why := s.full.Load(); why != nil {
		return fmt.Errorf("write to the queue store %s: %s: %w", s.dir, *why, queue.ErrFull)
	}
	return nil
}

// run is the committer.
func (s *Store) run() {
	var group []*request
	var next *request
	for {
		group = group[:0]
		first := next
		next = nil
		if first == nil {
			r, ok := <-s.requests
			if !ok {
				return
			}
			first = r
		}
		group = append(group, first)
		size := first.size()
		for !first.moves && len(group) < groupRequests && size < groupBytes {
			select {
			case r, ok := <-s.requests:
				if !ok {
					s.commitGroup(group)
					return
				}
				if r.moves {
					next = r
					break
				}
				group = append(group, r)
				size += r.size()
				continue
			default:
			}
			break
		}
		s.commitGroup(group)
		clear(group)
	}
}

func (r *request) size() int {
	n := 0
	for i := range r.appends {
		n += len(r.appends[i].value)
	}
	for i := range r.writes {
		n += len(r.writes[i].value)
	}
	return n
}

// refuse answers r with an error.
func (s *Store) refuse(r *request, err error) {
	s.part.End(r.change, false)
	r.done <- err
}

// group is what staging a group of commits changes, kept apart until it is durable.
type group struct {
	s        *Store
	nextLane uint64
	names    map[laneName]uint64
	tails    map[uint64]uint64
	commits  []*transaction
	requests []*request
}

// commitGroup commits a group as one group of the log.
func (s *Store) commitGroup(rs []*request) {
	if err := s.broken.Load(); err != nil {
		for _, r := range rs {
			s.refuse(r, *err)
		}
		return
	}
	g := &group{s: s, nextLane: s.nextLane, names: map[laneName]uint64{}, tails: map[uint64]uint64{}}
	s.heads, s.pieces = s.heads[:0], s.pieces[:0]
	for _, r := range rs {
		if err := g.stage(r); err != nil {
			s.refuse(r, err)
		}
	}
	if len(g.commits) == 0 {
		return
	}
	err := s.write(g)
	clear(s.pieces)
	if err != nil {
		for _, r := range g.requests {
			s.refuse(r, err)
		}
		return
	}
	s.commit, s.nextLane = g.commits[len(g.commits)-1].Number, g.nextLane
	maps.Copy(s.names, g.names)
	if err = s.apply(g.commits, false); err != nil {
		err = s.fail(fmt.Errorf("apply commit %d, which is in the log: %w", s.commit, err))
	}
	for _, r := range g.requests {
		r.done <- err
	}
}

// stage prepares the entry of r.
func (g *group) stage(r *request) error {
	if err := g.validate(r); err != nil {
		return err
	}
	f := &transaction{appends: r.appends, change: r.change, writes: r.writes}
	if !r.moves {
		for i := range f.appends {
			g.number(&f.appends[i])
		}
	}
	var err error
	if g.s.heads, g.s.pieces, err = f.encode(g.s.heads, g.s.pieces); err != nil {
		return err
	}
	g.commits, g.requests = append(g.commits, f), append(g.requests, r)
	g.s.changed.note(r.wrote, g.s.commit+1)
	return nil
}

// validate finds whether what r has read is still so: nothing has to be looked at of which it is
// known that nobody has written it since.
func (g *group) validate(r *request) error {
	for i := range r.reads {
		rd := &r.reads[i]
		if !g.s.changed.after(r.read[i], r.since) {
			continue
		}
		var now []byte
		if w := g.written(rd.Key); w == nil {
			var err error
			if now, err = g.s.get(append([]byte{rowKV}, rd.Key...)); err != nil {
				return err
			}
		} else if now = w.value; w.put && now == nil {
			now = []byte{}
		}
		if (now == nil) != (rd.Value == nil) || !bytes.Equal(now, rd.Value) {
			return errConflict
		}
	}
	return nil
}

// written is what the commits that are staged have made of a record; nil when they have not.
func (g *group) written(key []byte) *writeEntry {
	for _, f := range slices.Backward(g.commits) {
		if i, found := slices.BinarySearchFunc(f.writes, key, func(w writeEntry, key []byte) int { return bytes.Compare(w.key, key) }); found {
			return &f.writes[i]
		}
	}
	return nil
}

// number gives a value its lane and its number there.
func (g *group) number(e *appendEntry) {
	name := laneName{e.lane.Queue, e.lane.Scope}
	id, known := g.s.names[name]
	if !known {
		if id, known = g.names[name]; !known {
			id = g.nextLane
			g.nextLane++
			g.names[name] = id
			e.flags |= appendNew
		}
	}
	seq, ok := g.tails[id]
	if !ok {
		if seq, ok = g.s.tails[id]; !ok {
			seq = 1
		}
	}
	g.tails[id] = seq + 1
	e.lane.ID, e.seq = id, seq
}

// write makes the commits of g durable.
func (s *Store) write(g *group) error {
	entries := make([]*log.Entry, len(g.commits))
	size := 0
	for i, f := range g.commits {
		entries[i] = &f.Entry
		size += len(f.Head)
		for _, d := range f.Data {
			size += len(d)
		}
	}
	if err := s.log.Append(entries); errors.Is(err, log.ErrBroken) {
		return s.fail(err)
	} else if err != nil {
		return s.writeError(err)
	}
	for _, f := range g.commits {
		f.place()
	}
	if s.grown.Add(int64(size)) >= s.limits().SegmentBytes {
		s.nudge()
	}
	if cap(s.heads) > groupBytes {
		s.heads = nil
	}
	return nil
}

// writeError says what a failed write of the log means.
func (s *Store) writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		why := "the disk is full"
		s.full.Store(&why)
		s.nudge()
		return fmt.Errorf("write to the queue store %s: %w: %w", s.dir, err, queue.ErrFull)
	}
	return fmt.Errorf("write to the queue store %s: %w", s.dir, err)
}
