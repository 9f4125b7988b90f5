package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// laneKey names a lane. With a spread above 1 there is one for each partition that the
// jobs of a queue and scope are spread over.
type laneKey struct {
	queue string
	scope queue.Scope
	part  int
}

// laneRef is what never changes of a lane.
type laneRef struct {
	id    uint64
	queue string
	scope queue.Scope
	part  int
}

// lane is the form package partition knows it in.
func (r *laneRef) lane() partition.Lane {
	return partition.Lane{ID: r.id, Queue: r.queue, Scope: r.scope}
}

// directory remembers lanes, which are made once and never removed.
type directory struct {
	mu    sync.RWMutex
	byKey map[laneKey]*laneRef
	byID  map[uint64]*laneRef
}

func newDirectory() *directory {
	return &directory{byKey: map[laneKey]*laneRef{}, byID: map[uint64]*laneRef{}}
}

func (d *directory) key(k laneKey) *laneRef {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byKey[k]
}

func (d *directory) id(id uint64) *laneRef {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byID[id]
}

// whose is whose the jobs of a lane are.
func (d *directory) whose(id uint64) (string, queue.Scope, bool) {
	r := d.id(id)
	if r == nil {
		return "", queue.Scope{}, false
	}
	return r.queue, r.scope, true
}

func (d *directory) add(refs ...*laneRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range refs {
		d.byKey[laneKey{r.queue, r.scope, r.part}] = r
		d.byID[r.id] = r
	}
}

// home is the first partition of a queue and scope, the same in every process.
func (s *Store) home(q string, scope *queue.Scope) int {
	var h xxhash.Digest
	h.Reset()
	for _, part := range [4]string{q, scope.Workspace, scope.Source, scope.Destination} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		_, _ = h.Write(size[:]) // a hash takes everything
		_, _ = h.WriteString(part)
	}
	return int(h.Sum64() % uint64(s.o.Partitions))
}

// router returns the function that says which partition a job goes to; it remembers the
// last answer, as neighbours tend to share queue and scope.
func (s *Store) router() func(*queue.Job) int {
	var last queue.Job
	home := -1
	return func(j *queue.Job) int {
		if home < 0 || j.Queue != last.Queue || j.Scope != last.Scope {
			last.Queue, last.Scope = j.Queue, j.Scope
			home = s.home(j.Queue, &j.Scope)
		}
		if s.o.Spread == 1 {
			return home
		}
		at := rand.IntN(s.o.Spread)
		if j.Msg.Key != "" {
			at = int(xxhash.Sum64String(j.Msg.Key) % uint64(s.o.Spread))
		}
		return (home + at) % s.o.Partitions
	}
}

// name is the unique name of a lane in its table; the parts themselves may be too long
// for an index.
func (k *laneKey) name() []byte {
	h := sha256.New()
	for _, part := range [4]string{k.queue, k.scope.Workspace, k.scope.Source, k.scope.Destination} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	var part [4]byte
	binary.BigEndian.PutUint32(part[:], uint32(k.part))
	h.Write(part[:])
	return h.Sum(nil)
}

// lane finds a lane, or makes it; it is remembered in h.
func (s *Store) lane(ctx context.Context, of *request, k laneKey) (*laneRef, error) {
	h, try := of.h, s.try
	if of.brings() {
		try = s.tryPresent
	}
	if r := h.lanes.key(k); r != nil {
		return r, nil
	}
	name := k.name()
	r := &laneRef{queue: k.queue, scope: k.scope, part: k.part}
	err := try(ctx, func(ctx context.Context) error {
		// DO NOTHING returns no row when another process was first, who has committed then.
		_, err := s.pool.Exec(ctx, s.names.sql(`INSERT INTO @schema.lanes (name, part, queue, workspace, source, destination)
			SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT 1 FROM @schema.lanes WHERE name = $1) ON CONFLICT DO NOTHING`),
			name, k.part, []byte(k.queue), []byte(k.scope.Workspace), []byte(k.scope.Source), []byte(k.scope.Destination))
		if err != nil {
			return err
		}
		return s.pool.QueryRow(ctx, s.names.sql("SELECT id FROM @schema.lanes WHERE name = $1"), name).Scan(&r.id)
	})
	if err != nil {
		return nil, fmt.Errorf("find the lane of queue %q: %w", k.queue, meaning(err))
	}
	h.lanes.add(r)
	return r, nil
}

// learn makes sure that the directory of a history holds the lanes.
func (s *Store) learn(ctx context.Context, h *history, q querier, ids []int64) error {
	missing := ids[:0:0]
	for _, id := range ids {
		if h.lanes.id(uint64(id)) == nil {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, err := q.Query(ctx, s.names.sql("SELECT id, part, queue, workspace, source, destination FROM @schema.lanes WHERE id = ANY($1)"), missing)
	if err != nil {
		return fmt.Errorf("look up %d lanes: %w", len(missing), err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var part int
		var q, w, src, dst []byte
		if err := rows.Scan(&id, &part, &q, &w, &src, &dst); err != nil {
			return fmt.Errorf("look up %d lanes: %w", len(missing), err)
		}
		h.lanes.add(&laneRef{id: uint64(id), part: part, queue: string(q),
			scope: queue.Scope{Workspace: string(w), Source: string(src), Destination: string(dst)}})
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("look up %d lanes: %w", len(missing), err)
	}
	for _, id := range missing {
		if h.lanes.id(uint64(id)) == nil {
			return fmt.Errorf("look up lane %d: it is not in the table of lanes: %w", id, queue.ErrCorrupt)
		}
	}
	return nil
}
