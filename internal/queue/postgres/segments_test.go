package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
)

// tables counts the segments of the log that are there.
func tables(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relname ~ '^log_'", s.names.schema).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSegments fills many segments, reads across them after a reopening, and finds the
// tables gone when everything is settled.
func TestSegments(t *testing.T) {
	t.Parallel()
	o := Options{DSN: enginetest.Postgres(t), Partitions: 3, SegmentBytes: 64 << 10, CacheBytes: -1}
	s := open(t, o)
	var want []string
	for round := range 5 {
		before := s.history.Load().head.Load().segment // one may begin before the round is over
		for i := range 40 {
			p := fmt.Sprint(round, " ", i, " ", strings.Repeat("y", 4000))
			want = append(want, p)
			if err := appendTo(s, "a", p); err != nil {
				t.Fatal(err)
			}
		}
		if err := appendTo(s, fmt.Sprint("quiet", round), "seldom"); err != nil {
			t.Fatal(err)
		}
		await(t, "a new segment", func() bool { return s.history.Load().head.Load().segment > before })
	}
	if got := payloads(allJobs(t, s, "a")); !cmp.Equal(got, want) {
		t.Fatalf("%d jobs listed, want %d", len(got), len(want))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if err := appendTo(s, "quiet0", "again"); err != nil { // its only value is many segments back
		t.Fatal(err)
	}
	if got := payloads(leaseAll(t, s, "quiet0", 2)); !cmp.Equal(got, []string{"seldom", "again"}) {
		t.Errorf("jobs of a lane that was quiet for long: %q", got)
	}
	if n := tables(t, s); n < 5 {
		t.Errorf("%d segments while nothing is settled", n)
	}
	jobs := leaseAll(t, s, "a", len(want))
	if got := payloads(jobs); !cmp.Equal(got, want) {
		t.Errorf("%d jobs leased, want %d", len(got), len(want))
	}
	settleAll(t, s, jobs)
	for round := range 5 {
		q := fmt.Sprint("quiet", round)
		if round > 0 {
			settleAll(t, s, leaseAll(t, s, q, 1))
		}
	}
	if err := s.Close(); err != nil { // quiet0 was leased, not settled
		t.Fatal(err)
	}
	s = open(t, o)
	settleAll(t, s, leaseAll(t, s, "quiet0", 2))
	await(t, "the settled segments are dropped", func() bool { return tables(t, s) <= 2 })
	if err := appendTo(s, "a", "after"); err != nil {
		t.Fatal(err)
	}
	if got := payloads(leaseAll(t, s, "a", 1)); !cmp.Equal(got, []string{"after"}) {
		t.Errorf("after the drop: %q", got)
	}
}

func settleAll(t *testing.T, s *Store, jobs []queue.Job) {
	t.Helper()
	err := s.Update(t.Context(), func(tx queue.Tx) error {
		for i := range jobs {
			if err := tx.Settle(jobs[i].Done()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHeldHorizon keeps a transaction open that sees the database as it was, and moves
// jobs. The work of the hot path stays what it was, nothing it uses gathers dead rows, and
// segments are dropped all the same.
func TestHeldHorizon(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Partitions: 2, SegmentBytes: 128 << 10, CacheBytes: -1})
	moveSome := func(n int) {
		t.Helper()
		for i := range n {
			if err := appendTo(s, "in", fmt.Sprint("held ", i), strings.Repeat("z", 3000)); err != nil {
				t.Fatal(err)
			}
			jobs := leaseAll(t, s, "in", 2)
			err := s.Update(t.Context(), func(tx queue.Tx) error {
				return errors.Join(tx.Append(queue.Job{Queue: "out", Msg: jobs[0].Msg}), tx.Settle(jobs[0].Done(), jobs[1].Done()))
			})
			if err != nil {
				t.Fatal(err)
			}
			settleAll(t, s, leaseAll(t, s, "out", 1))
		}
	}
	moveSome(20)
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	var xid string
	if err := tx.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text FROM weir.lanes LIMIT 1").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	before, began := workOf(t, s), s.history.Load().head.Load().segment
	moves := 600
	moveSome(moves)
	// However fast these were: segments turn by time, as long as something comes.
	await(t, "segments turn", func() bool {
		if s.history.Load().head.Load().segment > began+3 {
			return true
		}
		moveSome(10)
		moves += 10
		return false
	})
	await(t, "the settled segments are dropped", func() bool { return tables(t, s) <= 3 })
	after := workOf(t, s)
	t.Logf("pages touched by the reads of a commit and a lease: %d before, %d after %d moves", before, after, moves)
	if after > before+10 {
		t.Errorf("the reads of a commit and a lease touched %d pages before, %d after %d moves under a held horizon", before, after, moves)
	}
	dead := changed(t, s)
	t.Logf("rows updated or deleted, which cannot be vacuumed: %v", dead)
	for table, n := range dead {
		// Heartbeats and checkpoints go by time, not by jobs.
		if n > moves/4 {
			t.Errorf("%d rows of %s were updated or deleted in %d moves", n, table, moves)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var pages = regexp.MustCompile(`shared hit=(\d+)`)

// workOf is how many pages are touched by what a commit reads to number its rows, by the
// read of a value, and by that of jobs that are due.
func workOf(t *testing.T, s *Store) int {
	t.Helper()
	if err := s.readHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	segment := s.history.Load().head.Load().segment
	// Something must be in the segment to be found.
	if err := appendTo(s, "work", "x"); err != nil {
		t.Fatal(err)
	}
	ref := s.history.Load().lanes.key(laneKey{queue: "work", part: s.home("work", &queue.Scope{})})
	settleAll(t, s, leaseAll(t, s, "work", 1))
	total := 0
	for _, q := range []string{
		"SELECT t.pos FROM @schema.log_@segment t WHERE t.part = " + strconv.Itoa(ref.part) + " ORDER BY t.pos DESC LIMIT 1",
		"SELECT t.seq + 1 FROM @schema.log_@segment t WHERE t.lane = " + strconv.Itoa(int(ref.id)) + " ORDER BY t.seq DESC LIMIT 1",
		"SELECT f.last FROM @schema.part_floors f WHERE f.part = " + strconv.Itoa(ref.part),
		"SELECT epoch FROM @schema.parts WHERE id = " + strconv.Itoa(ref.part),
		"SELECT segment, ring FROM @schema.head",
		"SELECT * FROM @schema.side WHERE lane = " + strconv.Itoa(int(ref.id)) + " AND state = 1 ORDER BY due, seq, idx LIMIT 10",
		"SELECT segment FROM @schema.lane_extents WHERE lane = " + strconv.Itoa(int(ref.id)) + " AND last >= 1 ORDER BY last LIMIT 1",
	} {
		rows, err := s.pool.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) "+s.names.segmentSQL(q, segment))
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if m := pages.FindStringSubmatch(line); m != nil && !strings.Contains(line, "Planning") {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					t.Fatal(err)
				}
				total += n
				break
			}
		}
	}
	return total
}

// changed counts the rows that were updated or deleted, by table.
func changed(t *testing.T, s *Store) map[string]int {
	t.Helper()
	out := map[string]int{}
	pauseFor(t, 1500*time.Millisecond) // sessions report their counters once a second
	rows, err := s.pool.Query(t.Context(), "SELECT relname::text, (n_tup_upd + n_tup_del)::int FROM pg_stat_user_tables WHERE schemaname = $1 AND n_tup_upd + n_tup_del > 0", s.o.Schema)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { out[name] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFull fills a store to its limit, finds new work refused and results taken, and the
// store open again when it has emptied.
func TestFull(t *testing.T) {
	t.Parallel()
	const limit = 3 << 20
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 2, SegmentBytes: 256 << 10, MaxBytes: limit, Log: discard()})
	n := 0
	await(t, "the store is full", func() bool {
		for range 10 {
			err := appendTo(s, "a", strings.Repeat("f", 20000))
			if errors.Is(err, queue.ErrFull) {
				return true
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return false
	})
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Put([]byte("k"), []byte("v")) }); !errors.Is(err, queue.ErrFull) {
		t.Errorf("Put into a full store = %v", err)
	}
	settleAll(t, s, leaseAll(t, s, "a", n))
	await(t, "the store takes jobs again", func() bool { return appendTo(s, "a", "more") == nil })
}

// TestDumpDoesNotBlock reads the log in a long transaction, as a dump does: commits go on,
// and the segment is dropped when the dump is done.
func TestDumpDoesNotBlock(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Partitions: 1, SegmentBytes: 64 << 10, Log: discard()})
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM weir.log_1").Scan(&n); err != nil {
		t.Fatal(err)
	}
	longest := time.Duration(0)
	for s.history.Load().head.Load().segment < 5 {
		start := time.Now()
		if err := appendTo(s, "a", strings.Repeat("d", 20000)); err != nil {
			t.Fatal(err)
		}
		settleAll(t, s, leaseAll(t, s, "a", 1))
		longest = max(longest, time.Since(start))
	}
	if longest > 9*time.Second { // a lock that is waited for in vain takes ten
		t.Errorf("an append and its settling took %s", longest)
	}
	there := func() bool {
		var there bool
		if err := s.pool.QueryRow(t.Context(), "SELECT to_regclass('weir.log_1') IS NOT NULL").Scan(&there); err != nil {
			t.Fatal(err)
		}
		return there
	}
	if !there() {
		t.Error("a segment was dropped under a transaction that reads it")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the segment is dropped", func() bool { return !there() })
}

// TestCompaction lets one lane wait while others go on over many segments: what it keeps
// of the log is little more than its own jobs, which are all there, in order.
func TestCompaction(t *testing.T) {
	t.Parallel()
	o := Options{DSN: enginetest.Postgres(t), Partitions: 2, SegmentBytes: 300 << 10, CacheBytes: -1}
	s := open(t, o)
	var want []string
	for i := 0; s.history.Load().head.Load().segment < 14; i++ {
		if err := appendTo(s, "busy", strings.Repeat("b", 40000)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			p := fmt.Sprint("stuck ", i, strings.Repeat("s", 2000))
			want = append(want, p)
			if err := appendTo(s, "stuck", p); err != nil {
				t.Fatal(err)
			}
		}
		settleAll(t, s, leaseAll(t, s, "busy", 1))
	}
	await(t, "the sparse segments are merged", func() bool { return tables(t, s) <= 9 })
	if got := payloads(allJobs(t, s, "stuck")); !cmp.Equal(got, want) {
		t.Errorf("%d jobs listed after compaction, want %d", len(got), len(want))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	jobs := leaseAll(t, s, "stuck", len(want))
	if got := payloads(jobs); !cmp.Equal(got, want) {
		t.Errorf("%d jobs leased after compaction, want %d", len(got), len(want))
	}
	settleAll(t, s, jobs)
	await(t, "the settled segments are dropped", func() bool { return tables(t, s) <= 3 })
}

// TestReadOfADroppedSegment has the log read by one who looked where it is written before the
// segments there were dropped: it looks again.
func TestReadOfADroppedSegment(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 1, SegmentBytes: 64 << 10, CacheBytes: -1, Log: discard()})
	h := s.history.Load()
	for h.head.Load().segment < 5 {
		if err := appendTo(s, "a", strings.Repeat("d", 20000)); err != nil {
			t.Fatal(err)
		}
		settleAll(t, s, leaseAll(t, s, "a", 1))
	}
	await(t, "segments are dropped", func() bool {
		var there bool
		if err := s.pool.QueryRow(t.Context(), "SELECT to_regclass('weir.log_2') IS NOT NULL").Scan(&there); err != nil {
			t.Fatal(err)
		}
		return !there
	})
	stale := &history{}
	stale.head.Store(&head{segment: 2})
	if err := s.readLog(t.Context(), stale, s.pool, 2, map[int]int64{0: 0}, func(int, entry) {}); !isUndefinedTable(err) {
		t.Fatalf("the segments are still there: %v", err)
	}
	old := h.head.Swap(&head{segment: 2})
	if _, err := s.readTail(t.Context(), h, map[int]int64{0: 1 << 40}); err != nil {
		t.Error(err)
	}
	if now := h.head.Load().segment; now < old.segment {
		t.Errorf("the head is still thought to be in segment %d, it is in %d", now, old.segment)
	}
}

// TestListsBesideCompaction: whoever lists or checks what is there while segments are compacted, one
// after the other and again, takes none of it for damage.
func TestListsBesideCompaction(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 1, SegmentBytes: 64 << 10, CacheBytes: -1, Log: discard()})
	const jobs = 60
	for i := range jobs {
		if err := appendTo(s, "a", fmt.Sprint(i, strings.Repeat("d", 10000))); err != nil {
			t.Fatal(err)
		}
	}
	var closed []int64
	await(t, "segments are closed", func() bool {
		if err := appendTo(s, "other", strings.Repeat("t", 20000)); err != nil { // so that segments turn
			t.Fatal(err)
		}
		settleAll(t, s, leaseAll(t, s, "other", 1))
		rows, err := s.pool.Query(t.Context(), `SELECT g.id FROM weir.segments g, weir.head h WHERE g.closed AND g.id < h.segment - $1
			AND NOT EXISTS (SELECT 1 FROM weir.part_extents e JOIN weir.parts p ON p.id = e.part WHERE e.segment = g.id AND p.pos < e.last)`, compactBehind)
		if err != nil {
			t.Fatal(err)
		}
		if closed, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			t.Fatal(err)
		}
		return len(closed) > 0
	})
	c, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	compacting, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var compacted atomic.Int64
	wg.Go(func() {
		for i := 0; compacting.Err() == nil; i++ {
			segment := closed[i%len(closed)]
			// As another process does it, whose maintenance is not this one's.
			err := pgx.BeginFunc(compacting, c, func(tx pgx.Tx) error {
				for _, text := range []string{"SET LOCAL lock_timeout = '100ms'", "LOCK TABLE weir.meta IN ROW EXCLUSIVE MODE"} {
					if _, err := tx.Exec(compacting, text); err != nil {
						return err
					}
				}
				return s.rewriteSegment(compacting, tx, segment)
			})
			if err == nil {
				compacted.Add(1)
			} // else again: the store's own maintenance was there, or who lists
		}
	})
	for range 30 {
		if got := len(allJobs(t, s, "a")); got != jobs {
			t.Errorf("%d jobs are listed, want %d", got, jobs)
		}
		if _, err := s.Verify(t.Context(), func(int64, int64) {}); err != nil {
			t.Error(err)
		}
	}
	await(t, "segments were compacted meanwhile", func() bool { return compacted.Load() > 10 })
}
