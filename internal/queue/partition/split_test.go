package partition

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/queue"
)

// destination is the value of a lane of the model on that axis: several lanes share one.
func destination(lane uint64) string { return fmt.Sprint("d", lane%4) }

// waits is since when a value waits for its turn, counted in turns and operations.
type waits struct {
	// may: it has a job that is not leased, and whose time has come or that was never handed
	// out. does: one of them may be handed out. What is withheld by a key, or has a time of its
	// own, is found out by a turn only, so a value may come as early as the first says, and
	// must as early as the second.
	may, does           bool
	maySince, doesSince int
}

// watch notes which values have begun to wait, or have ended, with the last operation.
func (w *model) watch() {
	w.count++
	may, does := map[string]bool{}, map[string]bool{}
	for _, j := range w.jobs {
		if !j.dead && !w.leased(j) && (j.attempt == 0 || w.due(j)) {
			may[destination(j.id.Lane)] = true
		}
		if w.eligible(j) {
			does[destination(j.id.Lane)] = true
		}
	}
	for lane := range w.lanes {
		v := destination(lane)
		s := w.turns[v]
		if s == nil {
			s = &waits{}
			w.turns[v] = s
		}
		if may[v] && !s.may {
			s.maySince = w.count
		}
		if does[v] && !s.does {
			s.doesSince = w.count
		}
		s.may, s.does = may[v], does[v]
	}
}

// room is what a value may get of a call of the model.
type room struct{ jobs, bytes int }

// split leases with turns by destination, and demands of each job that no value that waits
// longer could have had the turn.
func (w *model) split(t *rapid.T) {
	limit := rapid.IntRange(1, 12).Draw(t, "limit")
	rooms := map[string]*room{}
	for lane := range w.lanes {
		r := &room{jobs: rapid.IntRange(-1, 4).Draw(t, "jobs"), bytes: rapid.SampledFrom([]int{0, 1, 1 << 30, 1 << 30, 1 << 30}).Draw(t, "bytes")}
		rooms[destination(lane)] = r
	}
	var may []*want
	for _, j := range w.jobs {
		if w.eligible(j) {
			may = append(may, j)
		}
	}
	asked := map[string]int{}
	got, err := w.m.p.Lease(context.Background(), queue.Query{
		Filter: queue.Filter{Queue: "q"}, Limit: limit, For: 10 * time.Second, Split: queue.ByDestination,
		Room: func(v string) (int, int) {
			asked[v]++
			return rooms[v].jobs, rooms[v].bytes
		},
	})
	if err != nil {
		t.Fatalf("Lease: %v", err)
	}
	for v, n := range asked {
		if n > 1 {
			t.Fatalf("Room was asked %d times about %s", n, v)
		}
	}
	candidates := func() []*want {
		return slices.DeleteFunc(slices.Clone(may), func(j *want) bool {
			r := rooms[destination(j.id.Lane)]
			return r.jobs <= 0 || r.bytes <= 0
		})
	}
	newest := map[uint64]queue.ID{}
	for i := range got {
		g := &got[i]
		could := candidates()
		at := slices.IndexFunc(could, func(j *want) bool { return j.id == g.ID })
		if at < 0 {
			t.Fatalf("leased job %s of %s, which may not be handed out, or has no room", g.ID, g.Scope.Destination)
		}
		j, v := could[at], g.Scope.Destination
		fresh := !j.handed && j.due.IsZero()
		for _, o := range could {
			if other := destination(o.id.Lane); other != v && w.turns[other].doesSince < w.turns[v].maySince {
				t.Fatalf("job %s of %s had the turn of %s, which waits longer: %+v, %+v", g.ID, v, other, w.turns[v], w.turns[other])
			}
			if fresh && o.attempt > 0 && o.id.Lane == g.ID.Lane {
				t.Fatalf("new job %s was handed out before %s, whose next attempt has come", g.ID, o.id)
			}
		}
		if fresh {
			if last, ok := newest[g.ID.Lane]; ok && g.ID.Before(last) {
				t.Fatalf("new job %s was handed out after %s", g.ID, last)
			}
			newest[g.ID.Lane] = g.ID
		}
		w.count++
		w.turns[v].maySince, w.turns[v].doesSince = w.count, w.count
		rooms[v].jobs--
		if rooms[v].bytes == 1 {
			rooms[v].bytes = 0
		}
		may = slices.DeleteFunc(may, func(o *want) bool { return o == j }) // each once
		j.token, j.handed = g.Lease.Token, true
	}
	if left := candidates(); len(got) < limit && len(left) > 0 {
		t.Fatalf("leased %d jobs of %d, and %s of %s is left", len(got), limit, left[0].id, destination(left[0].id.Lane))
	}
	if len(got) > 0 {
		w.expires[got[0].Lease.Token] = w.m.clock.steady() + int64(10*time.Second)
	}
	w.held = append(w.held, got...)
}

// TestSplitProperties runs random histories in which work is handed out by turns of values,
// with rooms of any size, against the model.
func TestSplitProperties(t *testing.T) {
	t.Parallel()
	for range 4 { // one Check runs a hundred histories
		t.Run("", func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				w := newModel(t, 0)
				w.lanes, w.turns = 7, map[string]*waits{}
				defer func() { w.m.p.Close() }()
				t.Repeat(map[string]func(*rapid.T){
					"append":  w.append,
					"append2": w.append,
					"split":   w.split,
					"split2":  w.split,
					"begin":   w.begin,
					"end":     w.end,
					"renew":   w.renew,
					"restart": func(t *rapid.T) {
						w.restart(t)
						w.turns = map[string]*waits{} // nobody knows who came first
					},
					"set": w.set,
					"advance": func(t *rapid.T) {
						w.m.clock.advance(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
					},
					"": func(t *rapid.T) {
						w.check(t)
						w.watch()
					},
				})
				w.drain(t)
			})
		})
	}
}
