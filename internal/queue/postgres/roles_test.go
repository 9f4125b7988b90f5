package postgres

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// forward moves jobs from one queue to another until ctx ends; "" is nowhere.
func forward(ctx context.Context, s *Store, from, to string, saw func(*queue.Job)) {
	for ctx.Err() == nil {
		wake := s.Wake(queue.Filter{Queue: from})
		jobs, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: from}, Limit: 50})
		if err != nil {
			rest(20 * time.Millisecond)
			continue
		}
		if len(jobs) == 0 {
			select {
			case <-wake:
			case <-time.After(time.Second): // it may be another's by now
			case <-ctx.Done():
			}
			continue
		}
		err = s.Update(context.Background(), func(tx queue.Tx) error {
			for i := range jobs {
				if to != "" {
					if err := tx.Append(queue.Job{Queue: to, Scope: jobs[i].Scope, Msg: jobs[i].Msg, Ordered: true}); err != nil {
						return err
					}
				}
				if err := tx.Settle(jobs[i].Done()); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && saw != nil {
			for i := range jobs {
				saw(&jobs[i])
			}
		}
	}
}

// scoped is a job of one of many scopes, so that the jobs of a queue lie in all partitions.
func scoped(q string, user, n int) queue.Job {
	m := event.New(fmt.Appendf(nil, "%d %d", user, n))
	m.Key = strconv.Itoa(user)
	return queue.Job{Queue: q, Scope: queue.Scope{Destination: strconv.Itoa(user)}, Msg: m, Ordered: true}
}

func appendAll(t *testing.T, s *Store, jobs ...queue.Job) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// TestRoles has a process that only appends, opened first, one that works on one queue, and
// one that works on the next: all work has somebody who does it, and whoever only looks takes
// nothing from them.
func TestRoles(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	o := Options{DSN: dsn, Partitions: 4, Lease: 3 * time.Second}
	gateway := open(t, o)
	const users, each = 24, 10
	for n := range each / 2 {
		for u := range users {
			appendAll(t, gateway, scoped("in", u, n))
		}
	}
	if st, err := gateway.Stats(t.Context(), queue.Filter{Queue: "in"}); err != nil || st.Waiting != users*each/2 {
		t.Errorf("with nobody who works, %+v, %v", st, err)
	}
	unread := func(s *Store) []queue.Backlog {
		t.Helper()
		found, err := s.Unread(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := unread(gateway); !slices.Equal(got, []queue.Backlog{{Queue: "in", Open: users * each / 2}}) {
		t.Errorf("with nobody who works, unread are %v", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	router, sender := open(t, o), open(t, o)
	var mu sync.Mutex
	got := map[string]int{}
	wg.Go(func() { forward(ctx, router, "in", "out", nil) })
	wg.Go(func() {
		forward(ctx, sender, "out", "", func(j *queue.Job) {
			mu.Lock()
			defer mu.Unlock()
			got[string(j.Msg.Data)]++
		})
	})
	arrived := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	await(t, "what was there before comes through", func() bool { return arrived() == users*each/2 })
	before := epochsOf(t, gateway)
	looks := open(t, o)
	if page, err := looks.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "in"}}, queue.ID{}, 10); err != nil || len(page.Jobs) != 0 {
		t.Errorf("listed %d jobs, %v", len(page.Jobs), err)
	}
	for n := each / 2; n < each; n++ {
		for u := range users {
			appendAll(t, gateway, scoped("in", u, n))
		}
	}
	await(t, "all comes through", func() bool { return arrived() == users*each })
	if after := epochsOf(t, gateway); !slices.Equal(before, after) {
		t.Errorf("epochs were %v and are %v: somebody has taken partitions", before, after)
	}
	for _, s := range []*Store{gateway, looks} {
		if n := len(s.epochs()); n != 0 {
			t.Errorf("a process that leases nothing follows %d partitions that others keep", n)
		}
	}
	// A queue that no process knows is named by each of them.
	appendAll(t, gateway, scoped("forgotten", 1, 0))
	for _, s := range []*Store{gateway, router, sender, looks} {
		await(t, "the forgotten queue is named", func() bool { return slices.Equal(unread(s), []queue.Backlog{{Queue: "forgotten", Open: 1}}) })
	}
	mu.Lock()
	defer mu.Unlock()
	for job, n := range got {
		if n != 1 {
			t.Errorf("job %s came %d times", job, n)
		}
	}
}

func epochsOf(t *testing.T, s *Store) []int64 {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), s.names.sql("SELECT epoch FROM @schema.parts ORDER BY id"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestShuffle has three processes change again and again which of two queues they work on,
// under load: every job comes through both, once and in order.
func TestShuffle(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	stores := make([]*Store, 3)
	for i := range stores {
		stores[i] = open(t, Options{DSN: dsn, Partitions: 4, Lease: time.Second, SegmentBytes: 256 << 10, Log: discard()})
	}
	var mu sync.Mutex
	next := map[int]int{} // of each user
	var wg sync.WaitGroup
	work := func(s *Store, q string) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		end := s.Subscribe(q)
		var one sync.WaitGroup
		one.Go(func() {
			if q == "in" {
				forward(ctx, s, "in", "out", nil)
				return
			}
			forward(ctx, s, "out", "end", nil)
		})
		return func() { cancel(); one.Wait(); end() }
	}
	const users, rounds = 12, 60
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	running := map[string]func(){}
	toggle := func(i int, q string) {
		key := fmt.Sprint(i, q)
		if stop, is := running[key]; is {
			stop()
			delete(running, key)
			return
		}
		running[key] = work(stores[i], q)
	}
	producing, halt := context.WithCancel(t.Context())
	wg.Go(func() {
		for n := 0; producing.Err() == nil; n++ {
			for u := range users {
				job := scoped("in", u, n)
				for {
					if err := stores[u%3].Update(context.Background(), func(tx queue.Tx) error { return tx.Append(job) }); err == nil {
						break
					}
				}
			}
			mu.Lock()
			for u := range users {
				next[u] = n + 1
			}
			mu.Unlock()
			rest(10 * time.Millisecond)
		}
	})
	for range rounds {
		toggle(r.IntN(3), []string{"in", "out"}[r.IntN(2)])
		pauseFor(t, time.Duration(r.IntN(300))*time.Millisecond)
	}
	halt()
	wg.Wait()
	for _, q := range []string{"in", "out"} {
		for i := range stores {
			if _, is := running[fmt.Sprint(i, q)]; !is {
				toggle(i, q)
			}
		}
	}
	await(t, "everything is moved", func() bool { return len(allJobs(t, stores[0], "in")) == 0 && len(allJobs(t, stores[0], "out")) == 0 })
	for _, key := range slices.Sorted(maps.Keys(running)) {
		running[key]()
	}
	seen := map[int]int{}
	for _, j := range allJobs(t, stores[0], "end") {
		var user, n int
		if _, err := fmt.Sscanf(string(j.Msg.Data), "%d %d", &user, &n); err != nil {
			t.Fatal(err)
		}
		if n != seen[user] {
			t.Fatalf("job %d of user %d came where %d was next", n, user, seen[user])
		}
		seen[user]++
	}
	if !maps.Equal(seen, next) || len(seen) != users {
		t.Errorf("%v of %v jobs came through", seen, next)
	}
	t.Logf("%d jobs of each user", next[0])
}

// former is a process of the version before, as far as ownership goes: it takes partitions
// whole, by the statements of that version.
type former struct {
	t    *testing.T
	s    *Store // for its pool and names
	id   int64
	mine map[int]int64
}

func (f *former) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.s.pool.Exec(f.t.Context(), f.s.names.sql(sql), args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *former) round() {
	f.t.Helper()
	f.exec(`INSERT INTO @schema.processes AS p (id, name, lease) VALUES ($1, 'former', '1 minute')
		ON CONFLICT (id) DO UPDATE SET heartbeat = clock_timestamp()`, f.id)
	var live, parts int
	if err := f.s.pool.QueryRow(f.t.Context(), f.s.names.sql(`SELECT (SELECT count(*) FROM @schema.processes WHERE heartbeat > clock_timestamp() - lease),
		(SELECT count(*) FROM @schema.parts)`)).Scan(&live, &parts); err != nil {
		f.t.Fatal(err)
	}
	quota := (parts + live - 1) / live
	for part := 0; part < parts; part++ {
		switch {
		case len(f.mine) < quota:
			var epoch int64
			err := f.s.pool.QueryRow(f.t.Context(), f.s.names.sql(`UPDATE @schema.parts t SET owner = $1, epoch = epoch + 1
				WHERE id = $2 AND (owner IS NULL OR owner <> $1 AND NOT EXISTS (
					SELECT 1 FROM @schema.processes p WHERE p.id = t.owner AND p.heartbeat > clock_timestamp() - p.lease)) RETURNING epoch`), f.id, part).Scan(&epoch)
			if err == nil {
				f.mine[part] = epoch
			}
		case len(f.mine) > quota:
			if _, has := f.mine[part]; has {
				f.exec("UPDATE @schema.parts SET owner = NULL WHERE id = $1 AND epoch = $2", part, f.mine[part])
				delete(f.mine, part)
			}
		}
	}
}

func (f *former) leave() {
	f.t.Helper()
	f.exec("UPDATE @schema.parts SET owner = NULL WHERE owner = $1", f.id)
	f.exec("DELETE FROM @schema.processes WHERE id = $1", f.id)
}

// TestBesideFormer shares a store with a process of the version before: it gets its share,
// nobody touches that, and what it gives back is worked on.
func TestBesideFormer(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	o := Options{DSN: dsn, Partitions: 6, Lease: 2 * time.Second}
	gateway := open(t, o)
	f := &former{t: t, s: gateway, id: 4711, mine: map[int]int64{}}
	f.round()
	if len(f.mine) != 6 {
		t.Fatalf("alone with one that leases nothing, it has %d of 6 partitions", len(f.mine))
	}
	worker := open(t, o)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var mu sync.Mutex
	got := map[string]int{}
	arrived := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	wg.Go(func() {
		forward(ctx, worker, "in", "", func(j *queue.Job) {
			mu.Lock()
			defer mu.Unlock()
			got[string(j.Msg.Data)]++
		})
	})
	has := func() int { n, _ := worker.Share("in"); return n }
	await(t, "each has its share", func() bool { f.round(); return len(f.mine) == 3 && has() == 3 })
	theirs := 0
	for u := range 30 {
		if job := scoped("in", u, 0); f.mine[gateway.home("in", &job.Scope)] != 0 {
			theirs++
		}
		appendAll(t, gateway, scoped("in", u, 0))
	}
	if theirs == 0 || theirs == 30 {
		t.Fatalf("%d of 30 jobs are in partitions of the former: this shows nothing", theirs)
	}
	await(t, "its own part is worked on", func() bool { f.round(); return arrived() == 30-theirs })
	pauseFor(t, 200*time.Millisecond)
	if n := arrived(); n != 30-theirs {
		t.Errorf("%d jobs came, of which %d belong to the former", n, n-30+theirs)
	}
	f.leave()
	await(t, "the rest is worked on when the former has gone", func() bool { return arrived() == 30 })
	// And the other way: what the new one has given up whole the former takes.
	f.mine = map[int]int64{}
	await(t, "each has its share again", func() bool { f.round(); return len(f.mine) == 3 && has() == 3 })
	f.leave()
}
