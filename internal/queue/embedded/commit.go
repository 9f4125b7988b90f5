package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"syscall"

	"github.com/weirdata/weir/internal/queue"
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
	change  *partition.Change
	moves   bool // values are put elsewhere: committed alone
	done    chan error
}

// newRequest prepares a transaction as far as it can be done aside of the committer. t
// may be nil.
func newRequest(t *partition.Transaction, c *partition.Change) *request {
	r := &request{change: c, done: make(chan error, 1)}
	if t == nil {
		return r
	}
	r.reads = t.Reads
	r.appends = make([]appendEntry, len(t.Appends))
	for i := range t.Appends {
		a := &t.Appends[i]
		r.appends[i] = appendEntry{
			lane: partition.Lane{Queue: a.Queue, Scope: a.Scope}, count: a.Count, value: a.Value, crc: checksum(a.Value),
		}
	}
	r.writes = make([]writeEntry, len(t.Writes))
	for i, w := range t.Writes {
		r.writes[i] = writeEntry{key: w.Key, value: w.Value, put: w.Value != nil, crc: checksum(w.Value)}
	}
	return r
}

// grows reports whether r takes more than it gives back.
func (r *request) grows() bool {
	for i := range r.writes {
		if r.writes[i].put {
			return true
		}
	}
	return len(r.appends) > 0 && !r.moves
}

// submit hands r to the committer and waits for its outcome. The partition is told of
// it.
func (s *Store) submit(r *request) error {
	if why := s.full.Load(); why != nil && r.grows() {
		s.part.End(r.change, false)
		return fmt.Errorf("write to the queue store %s: %s: %w", s.dir, *why, queue.ErrFull)
	}
	if limit := s.opt.MaxBytes; limit > 0 && r.grows() && s.logBytes.Load()+s.stateBytes.Load()+int64(r.size()) > limit {
		s.part.End(r.change, false)
		s.nudge()
		return fmt.Errorf("write to the queue store %s: it may take %d bytes only: %w", s.dir, limit, queue.ErrFull)
	}
	s.requests <- r
	return <-r.done
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
	commit   uint64
	nextLane uint64
	names    map[laneName]uint64
	tails    map[uint64]uint64
	written  map[string]*writeEntry
	frames   []*frame
	requests []*request
}

// commitGroup commits a group with one write and one fdatasync.
func (s *Store) commitGroup(rs []*request) {
	if err := s.broken.Load(); err != nil {
		for _, r := range rs {
			s.refuse(r, *err)
		}
		return
	}
	if s.torn || s.current.size >= s.opt.SegmentBytes {
		if err := s.roll(); err != nil {
			for _, r := range rs {
				s.refuse(r, s.writeError(err))
			}
			return
		}
	}
	g := &group{s: s, commit: s.commit, nextLane: s.nextLane, names: map[laneName]uint64{}, tails: map[uint64]uint64{}}
	s.buf = s.buf[:0]
	for _, r := range rs {
		if err := g.stage(r); err != nil {
			s.refuse(r, err)
		}
	}
	if len(g.frames) == 0 {
		return
	}
	if err := s.write(g); err != nil {
		for _, r := range g.requests {
			s.refuse(r, err)
		}
		return
	}
	s.commit, s.nextLane = g.commit, g.nextLane
	maps.Copy(s.names, g.names)
	err := s.apply(g.frames, s.mark.end, false)
	if err != nil {
		err = s.fail(fmt.Errorf("apply commit %d, which is in the log: %w", g.commit, err))
	}
	for _, r := range g.requests {
		r.done <- err
	}
}

// stage puts the frame of r into the buffer.
func (g *group) stage(r *request) error {
	if err := g.validate(r); err != nil {
		return err
	}
	f := &frame{commit: g.commit + 1, group: g.s.commit + 1, appends: r.appends, change: r.change, writes: r.writes}
	if !r.moves {
		for i := range f.appends {
			g.number(&f.appends[i])
		}
	}
	buf, err := f.encode(g.s.buf, g.s.current.size+int64(len(g.s.buf)))
	if err != nil {
		return err
	}
	g.s.buf = buf
	g.commit++
	g.frames, g.requests = append(g.frames, f), append(g.requests, r)
	for i := range r.writes {
		if g.written == nil {
			g.written = map[string]*writeEntry{}
		}
		g.written[string(r.writes[i].key)] = &r.writes[i]
	}
	return nil
}

// validate compares what r has read with what is there now.
func (g *group) validate(r *request) error {
	for i := range r.reads {
		rd := &r.reads[i]
		var now []byte
		if w, ok := g.written[string(rd.Key)]; ok {
			if w.put {
				now = w.value
				if now == nil {
					now = []byte{}
				}
			}
		} else {
			var err error
			if now, err = g.s.record(rd.Key); err != nil {
				return err
			}
		}
		if (now == nil) != (rd.Value == nil) || !bytes.Equal(now, rd.Value) {
			return errConflict
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

// write makes the frames of g durable and notes the mark.
func (s *Store) write(g *group) error {
	before := s.current.size
	_, err := s.file.Write(s.buf)
	if err != nil {
		// Nothing was acknowledged. The next segment says that this one ends before what
		// was written now, and nothing is committed until there is one.
		s.torn = true
		return s.writeError(fmt.Errorf("write segment %d: %w", s.current.number, err))
	}
	if err := s.file.SyncData(); err != nil {
		return s.fail(fmt.Errorf("sync segment %d: %w", s.current.number, err))
	}
	s.mu.Lock()
	s.current.size = before + int64(len(s.buf))
	s.mu.Unlock()
	s.logBytes.Add(int64(len(s.buf)))
	s.mark.commit = g.commit
	s.mark.end = place{s.current.number, s.current.size}
	s.mark.state = s.flushed.Load()
	if err := writeMark(s.markFile, &s.mark); err != nil {
		return s.fail(err)
	}
	s.markDirty.Store(true)
	if s.grown.Add(int64(len(s.buf))) >= s.opt.SegmentBytes {
		s.nudge()
	}
	if cap(s.buf) > 4*groupBytes {
		s.buf = nil
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

// roll begins a new segment: whatever follows the last commit in the current one is void.
func (s *Store) roll() error {
	g := &segment{number: 1, first: s.commit + 1, size: segmentHeader}
	if s.current != nil {
		g.number = s.current.number + 1
	}
	path := segmentPath(s.fs, s.dir, g.number)
	f, err := s.fs.Create(path, "queue-log")
	if err != nil {
		return fmt.Errorf("create segment %s: %w", path, err)
	}
	if _, err = f.Write(g.header()); err == nil {
		if err = f.Sync(); err == nil {
			err = s.syncDir("log")
		}
	}
	if err != nil {
		return fmt.Errorf("create segment %s: %w", path, errors.Join(err, f.Close(), s.fs.Remove(path)))
	}
	if s.file != nil {
		if err := s.file.Close(); err != nil {
			s.opt.Log.Warn("close a segment of the queue store", "segment", s.current.number, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.current, s.torn = f, g, false
	s.segments[g.number] = g
	return nil
}

// syncDir makes what was created in a directory of the store durable.
func (s *Store) syncDir(name string) error {
	d, err := s.fs.OpenDir(s.fs.PathJoin(s.dir, name))
	if err != nil {
		return fmt.Errorf("open directory %s: %w", name, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
