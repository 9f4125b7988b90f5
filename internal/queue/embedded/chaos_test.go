package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// The kill test starts this test binary again as a child that works on a store and says
// on its standard output what it is about to do and what was acknowledged; the parent
// kills it at a random moment, opens the store and compares.
//
//   - id     append of id to queue a acknowledged
//     m id     about to move id from a to b     M id   acknowledged
//     d id     about to settle id as done       D id   acknowledged
//     x id     about to settle id as dead       X id   acknowledged
//     r n      about to put record n            R n    acknowledged
const childEnv = "WEIR_QUEUE_CHILD"

// child runs the child, and reports whether this process is one.
func child() bool {
	v := os.Getenv(childEnv)
	if v == "" {
		return false
	}
	dir, start, _ := strings.Cut(v, "|")
	first, err := strconv.Atoi(start)
	if err == nil {
		err = work(dir, first)
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	os.Exit(3)
	return true
}

// teller says what is begun and what was acknowledged.
type teller func(verb string, ids ...string)

func toStdout(verb string, ids ...string) {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(verb + " " + id + "\n")
	}
	os.Stdout.WriteString(b.String())
}

// work never returns but with an error.
func work(dir string, first int) error {
	s, err := Open(dir, Options{SegmentBytes: 128 << 10})
	if err != nil {
		return err
	}
	return toil(context.Background(), s, first, math.MaxInt32, toStdout)
}

// toil works on s until something fails, as everything does when ctx has ended. It
// appends at most about most jobs.
func toil(ctx context.Context, s *Store, first, most int, say teller) error {
	var next atomic.Int64
	next.Store(int64(first))
	g, ctx := errgroup.WithContext(ctx)
	for range 4 {
		g.Go(func() error {
			for int(next.Load())-first < most {
				var jobs []queue.Job
				var ids []string
				for range 1 + rand.IntN(20) {
					id := strconv.FormatInt(next.Add(1), 10)
					j := queue.Job{Queue: "a", Msg: event.New([]byte(id + " " + strings.Repeat("p", rand.IntN(600))))}
					j.Scope.Destination = strconv.Itoa(rand.IntN(3))
					j.Msg.Key, j.Ordered = strconv.Itoa(rand.IntN(10)), rand.IntN(2) == 0
					if rand.IntN(10) == 0 {
						j.NotBefore = time.Now().Add(time.Duration(rand.IntN(20)) * time.Millisecond)
					}
					jobs, ids = append(jobs, j), append(ids, id)
				}
				if err := s.Update(ctx, func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
					return err
				}
				say("+", ids...)
			}
			return nil
		})
	}
	for range 4 {
		g.Go(func() error {
			for {
				if err := settleSome(ctx, s, say); err != nil {
					return err
				}
			}
		})
	}
	g.Go(func() error {
		for n := 0; ; n++ {
			say("r", strconv.Itoa(n))
			if err := s.Update(ctx, func(tx queue.Tx) error { return tx.Put([]byte("n"), []byte(strconv.Itoa(n))) }); err != nil {
				return err
			}
			say("R", strconv.Itoa(n))
		}
	})
	g.Go(func() error {
		for {
			if err := s.Compact(ctx); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

func idOf(j *queue.Job) string {
	id, _, _ := strings.Cut(string(j.Msg.Data), " ")
	return id
}

func settleSome(ctx context.Context, s *Store, say teller) error {
	jobs, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: []string{"a", "b"}[rand.IntN(2)]}, Limit: 1 + rand.IntN(30)})
	if err != nil || len(jobs) == 0 {
		return err
	}
	verbs := map[string][]string{}
	var results []queue.Result
	var moved []queue.Job
	for i := range jobs {
		j := &jobs[i]
		switch n := rand.IntN(10); {
		case n < 2:
			results = append(results, j.Again(time.Now().Add(time.Duration(rand.IntN(10))*time.Millisecond), "again"))
		case n < 3:
			results = append(results, j.Dead("dead"))
			verbs["x"] = append(verbs["x"], idOf(j))
		case n < 6 && j.Queue == "a":
			results = append(results, j.Done())
			moved = append(moved, queue.Job{Queue: "b", Scope: j.Scope, Msg: j.Msg, Ordered: j.Ordered})
			verbs["m"] = append(verbs["m"], idOf(j))
		default:
			results = append(results, j.Done())
			verbs["d"] = append(verbs["d"], idOf(j))
		}
	}
	for v, ids := range verbs {
		say(v, ids...)
	}
	err = s.Update(ctx, func(tx queue.Tx) error { return errors.Join(tx.Settle(results...), tx.Append(moved...)) })
	if err != nil {
		return err
	}
	for v, ids := range verbs {
		say(strings.ToUpper(v), ids...)
	}
	return nil
}

// ledger is what the parent knows: for each id, the places it may be in.
type ledger struct {
	places map[string]map[string]bool // "" is nowhere, "a", "b", "dead"
	ever   map[string]map[string]bool // every place it was ever to be in
	prev   int                        // record n before the run; -1 without
	low    int                        // record n that was acknowledged; -1 before the first
	high   int                        // record n that was begun; -1 before the first
}

func newLedger() *ledger {
	return &ledger{places: map[string]map[string]bool{}, ever: map[string]map[string]bool{}, prev: -1, low: -1, high: -1}
}

// record demands that record n lies between what was acknowledged and what was begun.
func record(t *testing.T, n, prev, low, high int) {
	t.Helper()
	if n >= low && n <= high && n >= 0 || low < 0 && n == prev {
		return
	}
	t.Errorf("record is %d, before %d, acknowledged %d, begun %d", n, prev, low, high)
}

func (l *ledger) line(line string) {
	verb, id, ok := strings.Cut(line, " ")
	if !ok {
		return
	}
	at := l.places[id]
	if l.ever[id] == nil {
		l.ever[id] = map[string]bool{"a": true}
	}
	to := map[string]string{"m": "b", "d": "", "x": "dead"}
	switch verb {
	case "+":
		// A worker may have been faster than the producer's line.
		if at == nil {
			l.places[id] = map[string]bool{"a": true}
		}
	case "m", "d", "x":
		if at == nil {
			at = map[string]bool{"a": true}
			l.places[id] = at
		}
		at[to[verb]], l.ever[id][to[verb]] = true, true
	case "M":
		delete(at, "a") // another worker may have said by now what it does with it in b
	case "D", "X":
		l.places[id] = map[string]bool{to[strings.ToLower(verb)]: true}
	case "r":
		l.high, _ = strconv.Atoi(id)
	case "R":
		l.low, _ = strconv.Atoi(id)
	}
}

// TestKill kills a child at random moments; WEIR_CHAOS_RUNS says how often.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newLedger()
	runs := envInt(t, "WEIR_CHAOS_RUNS", 6)
	for run := range runs {
		killOne(t, dir, l, run*1_000_000)
		compare(t, dir, l, run)
		if t.Failed() {
			t.Fatalf("run %d of %d", run, runs)
		}
	}
}

// killOne runs the child on dir until it is killed.
func killOne(t *testing.T, dir string, l *ledger, first int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", childEnv, dir, first))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	// The child is killed some lines after its first, or while it opens the store.
	left := 1 + rand.IntN(4000)
	for lines.Scan() {
		l.line(lines.Text())
		if left--; left == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if left < -1_000_000 {
			t.Fatal("the child goes on though it was killed")
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

// compare opens the store and looks for every job; what is found is what the next run
// starts from.
func compare(t *testing.T, dir string, l *ledger, run int) {
	t.Helper()
	s, err := Open(dir, Options{SegmentBytes: 128 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	found, n := inventory(t, s)
	for id, places := range l.places {
		if !places[found[id]] {
			t.Errorf("job %s is in %q, acknowledged or begun were %v", id, found[id], places)
		}
		if found[id] == "" {
			delete(l.places, id)
		} else {
			l.places[id] = map[string]bool{found[id]: true}
		}
	}
	for id, where := range found {
		if l.places[id] == nil {
			l.places[id] = map[string]bool{where: true} // appended, and not acknowledged
		}
	}
	record(t, n, l.prev, l.low, l.high)
	l.prev, l.low, l.high = n, -1, -1
	t.Logf("run %d: %d jobs present", run, len(found))
}

// inventory finds every job and the record n, -1 when it is not there.
func inventory(t *testing.T, s *Store) (found map[string]string, n int) {
	t.Helper()
	if _, err := s.Check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	found = map[string]string{}
	counted := map[string]int64{}
	for where, q := range map[string]queue.Search{
		"a": {Filter: queue.Filter{Queue: "a"}}, "b": {Filter: queue.Filter{Queue: "b"}}, "dead": {State: queue.Buried},
	} {
		for after := (queue.ID{}); ; {
			p, err := s.List(t.Context(), q, after, 10000)
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Jobs {
				id := idOf(&p.Jobs[i])
				if other, twice := found[id]; twice {
					t.Errorf("job %s is in %s and in %s", id, other, where)
				}
				found[id] = where
				counted[where]++
			}
			if after = p.Next; after == (queue.ID{}) {
				break
			}
		}
	}
	dead := int64(0)
	for _, q := range []string{"a", "b"} {
		st, err := s.Stats(t.Context(), queue.Filter{Queue: q})
		if err != nil || st.Open() != counted[q] {
			t.Errorf("stats say %d open jobs in %s, there are %d: %v", st.Open(), q, counted[q], err)
		}
		dead += st.Dead
	}
	if dead != counted["dead"] {
		t.Errorf("stats say %d dead jobs, there are %d", dead, counted["dead"])
	}
	rs, err := storetest.Records(t.Context(), s, []byte("n"), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	n = -1
	if len(rs) == 1 {
		n, _ = strconv.Atoi(string(rs[0].Value))
	}
	return found, n
}
