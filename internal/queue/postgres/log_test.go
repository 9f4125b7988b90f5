package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
	"github.com/weirdata/weir/internal/queue/storetest"
)

func message(payload string) *event.Message { return event.New([]byte(payload)) }

func appendTo(s *Store, q string, payloads ...string) error {
	return s.Update(context.Background(), func(tx queue.Tx) error {
		for _, p := range payloads {
			if err := tx.Append(queue.Job{Queue: q, Msg: message(p)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// leaseAll leases from a queue until it has n jobs.
func leaseAll(t *testing.T, s *Store, q string, n int) []queue.Job {
	t.Helper()
	var jobs []queue.Job
	await(t, fmt.Sprintf("%d jobs of queue %q", n, q), func() bool {
		more, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: q}})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, more...)
		return len(jobs) >= n
	})
	return jobs
}

func payloads(jobs []queue.Job) []string {
	out := make([]string, len(jobs))
	for i := range jobs {
		out[i] = string(jobs[i].Msg.Data)
	}
	return out
}

// TestHeldAppend holds the transaction of an append open while later ones of other
// processes, in the same and in other lanes, go on: the owner sees each job once, in order,
// and none is skipped because its commit became visible late.
func TestHeldAppend(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprintf("commits=%v", commits), func(t *testing.T) {
			t.Parallel()
			dsn := enginetest.Postgres(t)
			owner := open(t, Options{DSN: dsn, Partitions: 2, Poll: 50 * time.Millisecond})
			for _, q := range []string{"a", otherQueue(owner, "a")} { // it has its share before anything is held
				if jobs, err := owner.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: q}}); len(jobs) > 0 || err != nil {
					t.Fatalf("leased %d jobs, %v", len(jobs), err)
				}
			}
			if err := appendTo(owner, "a", "first"); err != nil {
				t.Fatal(err)
			}
			other := otherQueue(owner, "a")
			held, tx := heldAppend(t, owner, "a", "held")
			later := make(chan error, 1)
			go func() { later <- appendTo(owner, "a", "later") }()
			for i := range 20 {
				if err := appendTo(owner, other, fmt.Sprint("beside ", i)); err != nil {
					t.Fatal(err)
				}
			}
			if got := leaseAll(t, owner, other, 20); len(got) != 20 {
				t.Errorf("%d jobs of another partition came while an append was held", len(got))
			}
			if got := payloads(leaseAll(t, owner, "a", 1)); !cmp.Equal(got, []string{"first"}) {
				t.Errorf("while the append is held, %q came", got)
			}
			select {
			case err := <-later:
				t.Fatalf("an append overtook one that was held in its lane: %v", err)
			default:
			}
			want := []string{"later"}
			if commits {
				want = []string{"held", "later"}
				if err := tx.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			held()
			if err := <-later; err != nil {
				t.Fatal(err)
			}
			if got := payloads(leaseAll(t, owner, "a", len(want))); !cmp.Equal(got, want) {
				t.Errorf("after the held append ended, %q came, want %q", got, want)
			}
		})
	}
}

// otherQueue is a queue in another partition than q.
func otherQueue(s *Store, q string) string {
	for i := 0; ; i++ {
		name := fmt.Sprint("beside", i)
		if s.home(name, &queue.Scope{}) != s.home(q, &queue.Scope{}) {
			return name
		}
	}
}

// heldAppend appends as another process would, and does not commit.
func heldAppend(t *testing.T, s *Store, q, payload string) (closeConn func(), tx pgx.Tx) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if tx, err = c.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := &Store{o: s.o, names: s.names, process: 1, owned: s.owned}
	foreign.commits = newCommitter(foreign)
	ptx := partition.NewTx(time.Now(), nil, s.router())
	if err := ptx.Append(queue.Job{Queue: q, Msg: message(payload)}); err != nil {
		t.Fatal(err)
	}
	r := &request{h: s.history.Load(), t: ptx.Finish()}
	if err := s.bind(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w := &writer{s: foreign}
	a := w.layOut(&group{requests: []*request{r}})
	a.h = s.history.Load()
	h := a.h.head.Load()
	a.ring = h.ring
	args := w.arguments(a)
	if err := tx.QueryRow(t.Context(), s.commitCall(h.segment), args...).Scan(&a.partBase, &a.laneBase, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}, tx
}

// TestVersion checks that a schema of a later version is refused, and one made with other
// fixed options.
func TestVersion(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, Options{DSN: dsn, Partitions: 4}); err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "created with 16 partitions") {
		t.Errorf("Open with other partitions = %v", err)
	}
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), "UPDATE weir.meta SET version = 99")
	if err = errors.Join(err, c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	err = reopen(t, Options{DSN: dsn})
	if !errors.Is(err, queue.ErrVersion) || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("Open of a schema of version 99 = %v", err)
	}
}

func reopen(t *testing.T, o Options) error {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Open(t.Context()); err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return err
}

// TestOpenTogether opens many stores at once in an empty database: one makes the schema,
// and the partitions are shared.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	const lease = 20 * time.Second
	dsn := enginetest.Postgres(t)
	var wg sync.WaitGroup
	stores := make([]*Store, 4)
	for i := range stores {
		wg.Go(func() {
			s, err := New(Options{DSN: dsn, Partitions: 8, Committers: 1, Readers: 2, Lease: lease, Log: discard()})
			if err == nil {
				err = s.Open(context.Background())
			}
			if err != nil {
				t.Error(err)
				return
			}
			s.Subscribe("in")
			stores[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, s := range stores {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	count := func(s *Store) (n int) {
		for i := range s.owned {
			if s.owned[i].Load() != nil {
				n++
			}
		}
		return n
	}
	await(t, "each has two partitions", func() bool {
		for _, s := range stores {
			if count(s) != 2 {
				return false
			}
		}
		return true
	})
	// A process that signs off hands its partitions on, without a wait for its lease.
	start := time.Now()
	if err := stores[0].Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the others own everything", func() bool { return count(stores[1])+count(stores[2])+count(stores[3]) == 8 })
	if d := time.Since(start); d > lease*9/10 {
		t.Errorf("handing on took %s", d)
	}
}

// TestSharedRecords increments one record from two processes at once.
func TestSharedRecords(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	stores := []*Store{open(t, Options{DSN: dsn, Schema: "shared"}), open(t, Options{DSN: dsn, Schema: "shared"})}
	var wg sync.WaitGroup
	for _, s := range stores {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					err := s.Update(context.Background(), func(tx queue.Tx) error {
						v, err := tx.Get([]byte("n"))
						if err != nil {
							return err
						}
						return tx.Put([]byte("n"), append(bytes.Clone(v), 'x'))
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	recs, err := storetest.Records(t.Context(), stores[0], []byte("n"), nil, 10)
	if err != nil || len(recs) != 1 || len(recs[0].Value) != 200 {
		t.Fatalf("after 200 increments: %d records, %v", len(recs), err)
	}
}

// TestGroup checks that Updates that share a transaction do not share each other's fate.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 1, Committers: 1})
	if err := appendTo(s, "a", "1"); err != nil {
		t.Fatal(err)
	}
	jobs := leaseAll(t, s, "a", 1)
	o := s.owned[0].Load()
	// A change that the database refuses: it deletes a side row that is not there.
	bad := &partition.Change{Side: []partition.Side{{ID: queue.ID{Lane: 1, Seq: 77}, State: partition.Gone, Was: partition.Dead}}}
	g := &group{}
	var requests []*request
	add := func(payload string, changes ...ownedChange) *request {
		tx := partition.NewTx(time.Now(), nil, s.router())
		if err := tx.Append(queue.Job{Queue: "b", Msg: message(payload)}); err != nil {
			t.Fatal(err)
		}
		r := &request{h: s.history.Load(), t: tx.Finish(), deadline: time.Now().Add(time.Minute), done: make(chan error, 1)}
		if err := s.bind(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.changes = append(r.changes, changes...)
		requests = append(requests, r)
		g.requests = append(g.requests, r)
		return r
	}
	c, err := o.p.Begin(t.Context(), []queue.Result{{ID: jobs[0].ID, Token: s.leases.token(jobs[0].Lease.Token, 0), Verdict: queue.Done}})
	if err != nil {
		t.Fatal(err)
	}
	add("good", ownedChange{o: o, part: 0, epoch: o.epoch.Load(), c: c})
	add("bad", ownedChange{part: 0, c: bad})
	add("good too")
	w := &writer{s: s}
	defer w.close()
	w.run(t.Context(), g)
	for i, want := range []error{nil, errSide, nil} {
		if err := <-requests[i].done; !errors.Is(err, want) {
			t.Errorf("request %d = %v, want %v", i, err, want)
		}
	}
	if got := payloads(allJobs(t, s, "b")); !cmp.Equal(got, []string{"good", "good too"}) {
		t.Errorf("jobs of the group: %q", got)
	}
	if got := allJobs(t, s, "a"); len(got) != 0 {
		t.Errorf("%d jobs are left that were settled", len(got))
	}
}

// TestMerge checks that values which are merged into one keep their jobs, in order.
func TestMerge(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 1, Committers: 1})
	g := &group{}
	var want []string
	for i := range 300 {
		tx := partition.NewTx(time.Now(), nil, s.router())
		for k := range i % 4 {
			p := fmt.Sprint("job ", i, " ", k, strings.Repeat("x", i*7%2000))
			want = append(want, p)
			if err := tx.Append(queue.Job{Queue: "a", Msg: message(p)}); err != nil {
				t.Fatal(err)
			}
		}
		r := &request{h: s.history.Load(), t: tx.Finish(), deadline: time.Now().Add(time.Minute), done: make(chan error, 1)}
		if err := s.bind(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		g.requests = append(g.requests, r)
	}
	w := &writer{s: s}
	defer w.close()
	w.run(t.Context(), g)
	if got := payloads(allJobs(t, s, "a")); !cmp.Equal(got, want) {
		t.Errorf("listed jobs differ: %s", cmp.Diff(want, got))
	}
	if got := payloads(leaseAll(t, s, "a", len(want))); !cmp.Equal(got, want) {
		t.Errorf("leased jobs differ: %s", cmp.Diff(want, got))
	}
	if n := s.owned[0].Load().seen; n > 10 {
		t.Errorf("%d values were written for %d small appends", n, len(want))
	}
}

// TestOldEpoch puts results of leases from before a takeover and from after it into one
// group, both of this process: only those of after are accepted.
func TestOldEpoch(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 1, Committers: 1})
	if err := appendTo(s, "a", "1", "2"); err != nil {
		t.Fatal(err)
	}
	leased := func() *request {
		jobs := leaseAll(t, s, "a", 2)
		tx := partition.NewTx(time.Now(), nil, s.router())
		if err := tx.Settle(jobs[0].Done(), jobs[1].Done()); err != nil {
			t.Fatal(err)
		}
		r := &request{h: s.history.Load(), t: tx.Finish(), deadline: time.Now().Add(time.Minute), done: make(chan error, 1)}
		if err := s.bind(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	old := leased()
	s.disown(s.owned[0].Load())
	await(t, "the partition is owned again", func() bool { return s.owned[0].Load() != nil })
	renewed := leased()
	w := &writer{s: s}
	defer w.close()
	w.run(t.Context(), &group{requests: []*request{old, renewed}})
	if err := <-old.done; !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("results of before the takeover: %v", err)
	}
	if err := <-renewed.done; err != nil {
		t.Errorf("results of after the takeover: %v", err)
	}
	// The epoch is looked at by the database too, whatever the process believes.
	if err := appendTo(s, "a", "3", "4"); err != nil {
		t.Fatal(err)
	}
	late := leased()
	if _, err := s.pool.Exec(t.Context(), s.names.sql("UPDATE @schema.parts SET epoch = epoch + 1")); err != nil {
		t.Fatal(err)
	}
	w.run(t.Context(), &group{requests: []*request{late}})
	if err := <-late.done; !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("results under an epoch that has ended: %v", err)
	}
	if got := allJobs(t, s, "a"); len(got) != 2 {
		t.Errorf("%d jobs are open, want 2", len(got))
	}
}
