package postgres

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
)

// logRows counts the rows of each segment, as a transaction sees them.
func logRows(t *testing.T, tx pgx.Tx, tables []string) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, table := range tables {
		var rows int
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM weir."+table).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		n[table] = rows
	}
	return n
}

// TestDumpBegins does what a dump does at its start: it lists the tables in a snapshot, and locks
// and reads them by their names later. In between segments are settled, and others are sparse:
// none goes, and none is another one, until the dump has ended.
func TestDumpBegins(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Partitions: 2, SegmentBytes: 300 << 10, CacheBytes: -1, Log: discard()})
	segment := func() int64 { return s.history.Load().head.Load().segment }
	var busy []queue.Job
	for i := 0; segment() < 14; i++ {
		if err := appendTo(s, "busy", strings.Repeat("b", 40000)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 && segment() > 4 { // the first segments will be settled, and the others sparse
			if err := appendTo(s, "stuck", fmt.Sprint("stuck ", i, strings.Repeat("s", 2000))); err != nil {
				t.Fatal(err)
			}
		}
		busy = append(busy, leaseAll(t, s, "busy", 1)...)
	}
	begin := func() (*pgx.Conn, pgx.Tx) {
		c, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		return c, tx
	}
	_, dump := begin()
	rows, err := dump.Query(t.Context(), "SELECT relname::text FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relkind = 'r' AND relname ~ '^log_'")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) < 10 {
		t.Fatalf("the segments %v, %v", names, err)
	}
	// What the snapshot holds, read by another that lets its locks go.
	var snapshot string
	if err := dump.QueryRow(t.Context(), "SELECT pg_export_snapshot()").Scan(&snapshot); err != nil {
		t.Fatal(err)
	}
	_, other := begin()
	if _, err := other.Exec(t.Context(), "SET TRANSACTION SNAPSHOT '"+snapshot+"'"); err != nil {
		t.Fatal(err)
	}
	want := logRows(t, other, names)
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	settleAll(t, s, busy)
	const settled = "SELECT count(*) FROM @schema.segments g, @schema.head h WHERE g.id < h.segment - 1 AND " + settledSQL
	await(t, "segments are settled", func() bool { return one[int](t, dsn, s.names.sql(settled)) >= 3 })
	// Two rounds of maintenance, which find them.
	await(t, "the removal is put off", func() bool {
		err := s.pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error {
			return s.remove(t.Context(), c, patience, func(pgx.Tx) error { return nil })
		})
		return later(err)
	})
	for range 2 {
		if err := s.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dump.Exec(t.Context(), "LOCK TABLE weir."+strings.Join(names, ", weir.")+" IN ACCESS SHARE MODE"); err != nil {
		t.Fatalf("a dump fails: %v", err)
	}
	if got := logRows(t, dump, names); !maps.Equal(got, want) {
		t.Errorf("a dump has the rows %v, and its snapshot %v", got, want)
	}
	if err := dump.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the settled segments are dropped, and the sparse ones merged", func() bool { return tables(t, s) < len(names)-3 })
}

// TestRemovalsAreHeldOff: who has the lock that the page on backups names meets no removal: it waits for
// one that is under way, and none begins while it has it.
func TestRemovalsAreHeldOff(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Partitions: 2, Log: discard()})
	locks := func(ctx context.Context, wait string) (pgx.Tx, error) {
		c, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		tx, err := c.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+wait+"'"); err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(ctx, "LOCK TABLE weir.meta IN SHARE MODE")
		return tx, err
	}
	removal := func(during func()) (begun bool, err error) {
		t.Helper()
		err = s.pool.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error {
			return s.remove(t.Context(), c, time.Second, func(pgx.Tx) error {
				begun = true
				during()
				return nil
			})
		})
		return begun, err
	}
	if begun, err := removal(func() {
		tx, err := locks(t.Context(), "100ms")
		if sqlState(err) != codeLockTimeout {
			t.Errorf("the lock is had while a removal is under way: %v", err)
		}
		_ = tx.Rollback(t.Context())
	}); !begun || err != nil && !later(err) {
		t.Errorf("a removal: begun %v, %v", begun, err)
	}
	tx, err := locks(t.Context(), "1min")
	if err != nil {
		t.Fatal(err)
	}
	if err := appendTo(s, "q", "meanwhile"); err != nil {
		t.Errorf("an event that comes in meanwhile: %v", err)
	}
	if begun, err := removal(func() {}); begun || !later(err) {
		t.Errorf("a removal while it is held off: begun %v, %v", begun, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "a removal", func() bool { begun, err := removal(func() {}); return begun && err == nil })
}
