package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// settle waits until every open shard is read and the shares are level, and returns how long.
func settle(t *testing.T, w *world) time.Duration {
	t.Helper()
	began := time.Now()
	for ; time.Since(began) < 2*time.Minute; time.Sleep(10 * time.Millisecond) {
		if len(w.unread()) == 0 && level(w.shares()) {
			return time.Since(began)
		}
	}
	t.Fatalf("after %s nobody reads %v, and the shares are %v", time.Since(began), w.unread(), w.shares())
	return 0
}

func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// TestTakeOver (L7): the shards of one that died are read by others, in equal shares, within ten
// seconds.
func TestTakeOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 12, nil)
		stop := make(chan struct{})
		w.watch(stop)
		w.join("a")
		b := w.join("b")
		w.join("c")
		settle(t, w)
		time.Sleep(10 * time.Second)
		b.die()
		if took := settle(t, w); took > 10*time.Second { // five to expire, and scans at random moments
			t.Errorf("the shards of one that died were taken after %s", took)
		} else {
			t.Logf("taken after %s", took)
		}
		close(stop)
		w.end()
	})
}

// TestOneComes (L8): it takes its share and nothing else moves; the shards that stay are not
// stopped.
func TestOneComes(t *testing.T) {
	for n := 1; n <= 4; n++ {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const shards = 10
				w := newWorld(t, shards, nil)
				for i := range n {
					w.join(fmt.Sprint("i", i))
					settle(t, w)
				}
				time.Sleep(20 * time.Second)
				before, owners := w.table.total(), maps.Clone(w.table.owner)
				held := map[string]*Lease{}
				for _, in := range w.live() {
					for _, l := range in.holding() {
						held[l.shard.ID] = l
					}
				}
				joined := time.Now()
				w.join("new")
				settle(t, w)
				if took := time.Since(joined); took > 2*DefaultScan+DefaultFailover/3 {
					t.Errorf("the shares were level after %s", took)
				}
				moved := w.table.total() - before
				if most := (shards + n) / (n + 1); moved > most {
					t.Errorf("%d of %d shards moved, more than %d", moved, shards, most)
				}
				time.Sleep(time.Minute)
				if again := w.table.total() - before; again != moved {
					t.Errorf("%d shards moved later", again-moved)
				}
				for id, l := range held {
					if w.table.owner[id] == owners[id] && !l.Held() {
						t.Errorf("%s did not move, and was stopped", id)
					}
				}
				w.end()
			})
		})
	}
}

// TestStopReleases (L2): what one that stops held is read by others at once.
func TestStopReleases(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 6, nil)
		a := w.join("a")
		w.join("b")
		settle(t, w)
		time.Sleep(10 * time.Second)
		a.Drain()
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		a.kill()
		rows, _ := w.table.Scan(t.Context(), true)
		for _, r := range rows.Rows {
			if r.Owner == a.Worker() {
				t.Errorf("%s still belongs to one that stopped", r.Shard)
			}
		}
		if took := settle(t, w); took > DefaultScan*3/2 {
			t.Errorf("the shards of one that stopped were taken after %s", took)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Errorf("close twice: %v", err)
		}
		if _, err := a.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("next of one that is closed is %v", err)
		}
		if err := a.Open(t.Context()); err == nil {
			t.Error("one that is closed opens again")
		}
		w.end()
	})
}

// TestThrottledTable (L6): a table that throttles three seconds of five costs no lease.
func TestThrottledTable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 20, nil)
		a, b := w.join("a"), w.join("b")
		settle(t, w)
		time.Sleep(10 * time.Second)
		before, began := w.table.total(), time.Now()
		for _, in := range []*instance{a, b} {
			in.line.set(func(n *line) {
				n.latency = 50 * time.Millisecond
				n.throttle = func(now time.Time) bool { return now.Sub(began)%(5*time.Second) < 3*time.Second }
			})
		}
		held := append(a.holding(), b.holding()...)
		for range 600 {
			time.Sleep(time.Second)
			for _, l := range held {
				if !l.Held() {
					t.Fatalf("lost %s after %s", l.shard.ID, time.Since(began))
				}
			}
		}
		if moved := w.table.total() - before; moved > 0 {
			t.Errorf("%d shards moved", moved)
		}
		w.end()
	})
}

// TestSlowHolder: one that is cut off again and again, for less than the fail-over time, keeps what
// it holds, although the others see it do nothing.
func TestSlowHolder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 8, func(s *Settings) { s.Scan = DefaultScan / 4 })
		a := w.join("a")
		w.join("b")
		settle(t, w)
		time.Sleep(10 * time.Second)
		before := w.table.total()
		for range 60 {
			a.line.set(func(n *line) { n.cut = true })
			time.Sleep(DefaultFailover * 6 / 10)
			a.line.set((*line).heal)
			time.Sleep(DefaultFailover * 4 / 10)
		}
		if moved := w.table.total() - before; moved > 0 {
			t.Errorf("%d shards moved", moved)
		}
		w.end()
	})
}

// TestMergeWaitsForBothParents: the child of a merge gets no row while the other parent has none
// itself, since what that came from is still read; workers that see no row of a parent do not wait.
func TestMergeWaitsForBothParents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		open := w.river.open()
		low := w.river.split(open[0].ID)
		child := w.river.merge(low[1], open[1].ID)
		c, err := New(Settings{Table: w.table, Stream: w.river, Start: Start{Position: TrimHorizon}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		leases := map[string]*Lease{}
		next := func(n int) {
			for range n {
				l, err := c.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				leases[l.Shard().ID] = l
			}
		}
		next(2)
		finish := func(id string) {
			if err := leases[id].Finish(t.Context(), lineageOf(w.river.list()).children(id)); err != nil {
				t.Fatal(err)
			}
		}
		finish(open[1].ID)
		if _, err := w.table.Get(t.Context(), child); !errors.Is(err, errNoRow) {
			t.Errorf("the child has a row while one of its parents has none: %v", err)
		}
		finish(open[0].ID)
		next(2)
		finish(low[1])
		next(1)
		if l := leases[child]; l == nil || l.Position() != TrimHorizon {
			t.Errorf("the child is not read: %v", leases)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLostAnswers: writes whose answers do not arrive cost no lease.
func TestLostAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 20, nil)
		a, b := w.join("a"), w.join("b")
		settle(t, w)
		time.Sleep(10 * time.Second)
		before := w.table.total()
		for _, in := range []*instance{a, b} {
			in.line.set(func(n *line) { n.lost = 0.3 })
		}
		time.Sleep(5 * time.Minute)
		if moved := w.table.total() - before; moved > 0 {
			t.Errorf("%d shards moved", moved)
		}
		w.end()
	})
}

// TestCutOff (L11): one that does not reach the table gives up by its own clock before others
// take, writes nothing when it is back, and reads again.
func TestCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 8, nil)
		stop := make(chan struct{})
		w.watch(stop)
		a := w.join("a")
		w.join("b")
		settle(t, w)
		time.Sleep(10 * time.Second)
		leases := a.holding()
		a.line.set(func(n *line) { n.cut = true })
		time.Sleep(DefaultFailover + DefaultFailover/10)
		for _, l := range leases {
			select {
			case <-l.Lost():
			default:
				t.Errorf("%s is not lost after the fail-over time", l.shard.ID)
			}
		}
		if a.Trouble() == nil {
			t.Error("it does not say that it is in trouble")
		}
		time.Sleep(10 * time.Second)
		a.line.set((*line).heal)
		for _, l := range leases {
			if err := l.Save(t.Context(), record(t, "99999999", 0)); !errors.Is(err, ErrLost) {
				t.Errorf("a position of a lost lease was saved: %v", err)
			}
			if err := l.Finish(t.Context(), nil); !errors.Is(err, ErrLost) {
				t.Errorf("a lost lease was finished: %v", err)
			}
			if err := l.Release(t.Context()); !errors.Is(err, ErrLost) {
				t.Errorf("a lost lease was released: %v", err)
			}
		}
		settle(t, w)
		if err := a.Trouble(); err != nil {
			t.Errorf("it is still in trouble: %v", err)
		}
		close(stop)
		w.end()
	})
}

// TestStaleHolding (invariant 3): the same worker's new holding is not written by what the old one
// left behind.
func TestStaleHolding(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		a := w.join("a")
		settle(t, w)
		old := a.holding()[0]
		a.line.set(func(n *line) { n.cut = true })
		time.Sleep(DefaultFailover * 2)
		a.line.set((*line).heal)
		settle(t, w)
		again := a.holding()[0]
		if again == old {
			t.Fatal("the holding is the same")
		}
		if err := old.Save(t.Context(), record(t, "777777", 0)); !errors.Is(err, ErrLost) {
			t.Errorf("the old holding wrote: %v", err)
		}
		if row, _ := w.table.Get(t.Context(), old.shard.ID); row.Position.Sequence == "777777" {
			t.Error("the position is that of the old holding")
		}
		w.end()
	})
}

// TestStolenByHand (L1): a row that changes under its holder stops only that shard.
func TestStolenByHand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 4, nil)
		a := w.join("a")
		settle(t, w)
		held := a.holding()
		for {
			row, _ := w.table.Get(t.Context(), held[1].shard.ID)
			if _, err := w.table.Table.Take(t.Context(), row, "somebody"); err == nil {
				break
			}
		}
		time.Sleep(DefaultFailover / 2)
		for i, l := range held {
			if l.Held() != (i != 1) {
				t.Errorf("%s is held: %t", l.shard.ID, l.Held())
			}
		}
		w.end()
	})
}

// TestReshard (K1, K2, K4): children are read from their beginning after their parents, whoever
// held those, and the rows of parents go when they are of no use.
func TestReshard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 2, func(s *Settings) { s.Start = Start{Position: Latest} })
		w.join("a")
		w.join("b")
		settle(t, w)
		open := w.river.open()
		low := w.river.split(open[0].ID)
		w.river.merge(low[1], open[1].ID)
		began := time.Now()
		settle(t, w)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("children were read after %s", took)
		}
		rows, _ := w.table.Scan(t.Context(), true)
		for _, r := range rows.Rows {
			parent := len(r.Parents) == 0
			if parent && (!r.Ended() || len(r.Children) == 0) {
				t.Errorf("%s is at %s with children %v", r.Shard, r.Position, r.Children)
			}
			if !parent && r.Position == Latest {
				t.Errorf("%s began at LATEST", r.Shard)
			}
		}
		time.Sleep(5 * time.Minute)
		rows, _ = w.table.Scan(t.Context(), true)
		if len(rows.Rows) != 2 {
			t.Errorf("the rows left are %+v, want those of the two open shards", rows.Rows)
		}
		w.end()
	})
}

// TestRowsDeletedByHand (K8): a row that is gone stops its shard, which starts anew by the settings,
// and no other; the row of a parent is not missed.
func TestRowsDeletedByHand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		w.join("a")
		settle(t, w)
		open := w.river.open()
		w.river.split(open[0].ID)
		settle(t, w)
		memory := w.table.Table.(*Memory)
		remove := func(ids ...string) {
			memory.mu.Lock()
			defer memory.mu.Unlock()
			for _, id := range ids {
				delete(memory.rows, id)
				delete(w.table.at, id)
			}
		}
		moves := w.table.total()
		remove(open[0].ID)
		time.Sleep(3 * time.Minute)
		if rows, _ := w.table.Scan(t.Context(), true); len(rows.Rows) != 4 || w.table.total() != moves {
			t.Errorf("the rows are %+v after that of a parent was deleted", rows.Rows)
		}
		remove(open[1].ID)
		time.Sleep(DefaultFailover)
		if left := w.unread(); !slices.Equal(left, []string{open[1].ID}) {
			t.Errorf("nobody reads %v, after the row of %s was deleted", left, open[1].ID)
		}
		settle(t, w)
		var all []string
		for _, s := range w.river.list() {
			all = append(all, s.ID)
		}
		remove(all...)
		time.Sleep(DefaultFailover)
		if took := settle(t, w); took > 2*DefaultScan {
			t.Errorf("an empty table was filled after %s", took)
		}
		w.end()
	})
}

// TestStartAtATime: what follows a shard of which nothing was saved starts at the time too, since
// the time may be in it; what follows one that was read starts at its beginning.
func TestStartAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRiver(2)
		open := r.open()
		r.split(open[0].ID)
		r.split(open[1].ID)
		// A list that leaves nothing out, whatever the time.
		all := streamFunc(func(ctx context.Context, _ time.Time) ([]Shard, error) { return r.Shards(ctx, time.Time{}) })
		table := NewMemory()
		c, err := New(Settings{Table: table, Stream: all, Start: Start{Position: AtTimestamp, Time: time.Now().Add(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if l.Position() != AtTimestamp {
				t.Errorf("%s starts at %s", l.Shard().ID, l.Position())
			}
			if l.Shard().ID == open[1].ID {
				if err := l.Save(t.Context(), record(t, "5", 0)); err != nil {
					t.Error(err)
				}
			}
			if err := l.Finish(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
		for range 4 {
			l, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := AtTimestamp
			if l.Shard().Parents[0] == open[1].ID {
				want = TrimHorizon
			}
			if l.Position() != want {
				t.Errorf("%s, which follows %s, starts at %s, want %s", l.Shard().ID, l.Shard().Parents[0], l.Position(), want)
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

type streamFunc func(context.Context, time.Time) ([]Shard, error)

func (f streamFunc) Shards(ctx context.Context, at time.Time) ([]Shard, error) { return f(ctx, at) }

// TestEndOfAnOpenShard: one that the stream lists as open is not written off.
func TestEndOfAnOpenShard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		a := w.join("a")
		settle(t, w)
		l := a.holding()[0]
		if err := l.Finish(t.Context(), nil); err == nil || errors.Is(err, ErrLost) || fault.Of(err) != fault.Setup {
			t.Errorf("finish is %v", err)
		}
		if !l.Held() {
			t.Error("it is lost")
		}
		// Not listed at all: it was trimmed, and has no children.
		w.river.trim(l.shard.ID)
		if err := l.Finish(t.Context(), nil); err != nil {
			t.Error(err)
		}
		w.end()
	})
}

// TestReleaseOfOne: others take it at once, and who gave it back does not.
func TestReleaseOfOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		w.join("a")
		settle(t, w)
		w.join("b")
		for range 8 {
			time.Sleep(10 * time.Second)
			for _, in := range w.live() {
				held := in.holding()
				if len(held) == 0 {
					continue
				}
				if err := held[0].Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := settle(t, w); took > DefaultScan*3/2 {
					t.Errorf("it was taken after %s", took)
				}
				if len(in.Held()) > 0 {
					t.Error("who gave it back has it")
				}
				break
			}
		}
		w.end()
	})
}

// TestDrain: nothing more is taken, what is read is renewed.
func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 6, nil)
		a := w.join("a")
		b := w.join("b")
		settle(t, w)
		a.Drain()
		held := a.holding()
		b.die()
		time.Sleep(30 * time.Second)
		if now := a.holding(); !slices.Equal(now, held) {
			t.Errorf("it holds %d, it held %d", len(now), len(held))
		}
		for _, l := range held {
			if !l.Held() {
				t.Errorf("%s is lost", l.shard.ID)
			}
		}
		w.end()
	})
}

// TestAtMost: an instance holds no more than its limit.
func TestAtMost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 9, func(s *Settings) { s.Max = 4 })
		a := w.join("a")
		time.Sleep(time.Minute)
		if n := len(a.Held()); n != 4 {
			t.Errorf("it holds %d", n)
		}
		w.join("b")
		w.join("c")
		settle(t, w)
		w.end()
	})
}

// TestPositionsOutOfOrder (L5): one that is behind the last does not move it back.
func TestPositionsOutOfOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		table := NewMemory()
		c, err := New(Settings{Table: table, Stream: newRiver(1), Start: Start{Position: Latest}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if l.Position() != Latest {
			t.Errorf("it starts at %s", l.Position())
		}
		for _, p := range []Position{record(t, "5", 0), record(t, "9", 3), record(t, "9", 3), record(t, "9", 1), record(t, "8", 7)} {
			if err := l.Save(t.Context(), p); err != nil {
				t.Error(err)
			}
		}
		if row, _ := table.Get(t.Context(), l.Shard().ID); row.Position != record(t, "9", 3) {
			t.Errorf("the position is %s", row.Position)
		}
		for _, p := range []Position{End, Latest, TrimHorizon, {}} {
			if err := l.Save(t.Context(), p); err == nil {
				t.Errorf("%s was saved", p)
			}
		}
		stopped, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Next(stopped); !errors.Is(err, context.Canceled) {
			t.Errorf("next with a context that has ended is %v", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestManyLeasesIdle (K14): many shards that nothing comes for cost few writes and looks.
func TestManyLeasesIdle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &line{Table: NewMemory()}
		c, err := New(Settings{Table: l, Stream: newRiver(150), Start: Start{Position: Latest}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 150 {
			if _, err := c.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.set(func(n *line) { n.writes = 0 })
		time.Sleep(time.Minute)
		if n := l.writes; n > 150*60 || n < 150*30 {
			t.Errorf("%d writes in a minute for 150 leases", n)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// refusing is a table that somebody has to mend.
type refusing struct {
	*Memory
	err error
}

func (r *refusing) Scan(ctx context.Context, latest bool) (Rows, error) {
	if r.err != nil {
		return Rows{}, r.err
	}
	return r.Memory.Scan(ctx, latest)
}

// TestTableGone: a table that has to be mended ends the coordinator, one that is away does not.
func TestTableGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		table := &refusing{Memory: NewMemory()}
		c, err := New(Settings{Table: table, Stream: newRiver(1), Start: Start{Position: Latest}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		table.err = errCut
		waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := c.Next(waiting); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("next of a table that is away is %v", err)
		}
		cancel()
		table.err = fault.New(fault.Setup, errors.New("no such table"))
		if _, err := c.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "no such table") || fault.Of(err) != fault.Setup {
			t.Errorf("next of a table that is gone is %v", err)
		}
		<-l.Lost()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestStreamAway: shards whose leases are there are read while the stream's list cannot be had
// again, and others as soon as it can.
func TestStreamAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		w.river.fails = errors.New("the stream is away")
		w.join("a")
		time.Sleep(30 * time.Second)
		if len(w.unread()) != 2 {
			t.Error("shards are read that cannot be known")
		}
		w.river.mu.Lock()
		w.river.fails = nil
		w.river.mu.Unlock()
		if took := settle(t, w); took > 5*time.Second {
			t.Errorf("they are read after %s", took)
		}
		w.end()
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	ok := Settings{Table: NewMemory(), Stream: newRiver(1), Start: Start{Position: Latest}}
	a, err := New(ok)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := New(ok); a.Worker() == b.Worker() {
		t.Error("two instances have one name")
	}
	for name, change := range map[string]func(*Settings){
		"no table": func(s *Settings) { s.Table = nil }, "no stream": func(s *Settings) { s.Stream = nil },
		"no start": func(s *Settings) { s.Start = Start{} }, "the end": func(s *Settings) { s.Start.Position = End },
		"no time": func(s *Settings) { s.Start.Position = AtTimestamp }, "negative": func(s *Settings) { s.Failover = -1 },
	} {
		s := ok
		change(&s)
		if _, err := New(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestPatience: how long a row may stay as it is depends on who holds it.
func TestPatience(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := newSight(DefaultFailover, DefaultForeignFailover)
	at := began.Add
	rows := func(java, slow int64) []Row {
		return []Row{{Shard: "1", Owner: "java", Counter: java}, {Shard: "2", Owner: "weir/a/1", Counter: 1}, {Shard: "3"}, {Shard: "4", Owner: "slow", Counter: slow}}
	}
	look := func(d time.Duration, java, slow int64) { s.see(rows(java, slow), at(d)) }
	look(0, 1, 1)
	free := func(i int, d time.Duration) bool { return s.free(rows(1, 1)[i], at(d)) }
	if free(0, 9*time.Second) || !free(0, 10*time.Second) {
		t.Error("the patience with a worker that is not ours is not ten seconds")
	}
	if free(1, 4*time.Second) || !free(1, 5*time.Second) {
		t.Error("the patience with one of ours is not five seconds")
	}
	if !free(2, 0) {
		t.Error("a row without an owner is not free")
	}
	// slow renews every ten seconds, which shows after two changes.
	java, slow := int64(1), int64(1)
	for d := 2 * time.Second; d <= 30*time.Second; d += 2 * time.Second {
		java++
		if d%(10*time.Second) == 0 {
			slow++
		}
		look(d, java, slow)
	}
	if s.free(rows(java, slow)[3], at(50*time.Second)) {
		t.Error("a worker that renews every ten seconds is taken for dead after twenty")
	}
	if !s.free(rows(java, slow)[3], at(60*time.Second)) {
		t.Error("a worker that renews every ten seconds is not taken for dead after thirty")
	}
	if got := s.patience("java"); got != DefaultForeignFailover {
		t.Errorf("the patience with one that renews often is %s", got)
	}
}
