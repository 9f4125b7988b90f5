//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// TestExecutions kills the process while it runs executions of one machine, and looks into
// its store between two runs:
//
//   - every order that was acknowledged ends exactly once, and no order more often;
//   - each of its tasks ran at least once, and none again after its answer was committed;
//   - an order that was acknowledged by `wait = true` had ended by then;
//   - an execution that has not ended has an open job, at every kill;
//   - no Lambda handler outlives the process (on Linux).
func TestExecutions(t *testing.T) {
	t.Parallel()
	q := newExecutions(t)
	l := &orders{q: q, acknowledged: map[string]bool{}, posted: map[string]bool{}}
	kills, underWay, committed := runs(t), 0, map[call]int{}
	clients := l.start(t)
	// On a machine that is busy enough, nothing may be under way when it is looked.
	more := func(kill int) bool { return kill < kills+20 && (underWay == 0 || len(committed) == 0) }
	for kill := 0; kill < kills || more(kill); kill++ {
		p := q.start()
		life := rand.N(shortLife)
		if kill%3 == 0 {
			q.untilReady(p)
			l.untilBoth()
			life = 3*time.Second + rand.N(3*time.Second) // so that some are waited for to their end
		}
		pause(context.Background(), life)
		p.kill()
		q.nothingOutlives()
		if kill%2 == 0 { // else the next run is the first to open what the killed one left
			n, done := q.inspect()
			underWay += n
			for c, times := range done {
				if before, known := committed[c]; known && before != times {
					t.Errorf("task %s of execution %s ran %d times, and %d times after its answer was committed", c.Task, c.Execution, before, times-before)
				}
				committed[c] = times
			}
		}
	}
	p := q.start()
	q.untilReady(p)
	l.untilBoth()
	clients.stop()
	q.untilEmpty(p)
	p.stop()
	q.nothingOutlives()
	l.verify(committed)
	t.Logf("killed %d times, with %d executions under way when it was looked; %d orders posted, %d acknowledged, %d of them at their end; %d answers of tasks were known to be committed",
		kills, underWay, len(l.posted), len(l.acknowledged), l.waited, len(committed))
	if underWay == 0 || len(committed) == 0 || l.waited == 0 {
		t.Error("the test shows nothing")
	}
}

// newExecutions is a process with the config of executions.hcl.
func newExecutions(t *testing.T) *quickstart {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	q := &quickstart{t: t, binary: path, out: t.TempDir(), ports: map[string]int{}, config: []string{filepath.Join("testdata", "executions.hcl")}}
	for _, name := range []string{"ADMIN_PORT", "FEED_PORT", "WAIT_PORT"} {
		q.ports[name] = addresstest.Port(t)
	}
	handler := exec.Command("go", "build", "-o", q.path("handler"), ".")
	handler.Dir = filepath.Join("..", "lambda", "testdata", "handler")
	if out, err := handler.CombinedOutput(); err != nil {
		t.Fatalf("build the handler: %v: %s", err, out)
	}
	q.env = []string{"HANDLER=" + q.path("handler")}
	if q.log, err = os.Create(q.path("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.log.Close() })
	return q
}

// call is a task of an execution.
type call struct {
	Task      string `json:"task"`
	ID        string `json:"id"`
	Execution string `json:"execution"`
}

// calls counts the lines that the function Line has written.
func (q *quickstart) calls() map[call]int {
	q.t.Helper()
	n := map[call]int{}
	if err := eachLine(q.path("calls.jsonl"), func(text []byte) {
		var c call
		if err := json.Unmarshal(text, &c); err != nil || c.Task == "" || c.ID == "" || c.Execution == "" {
			q.t.Errorf("calls.jsonl has a damaged line: %q", text)
		}
		n[c]++
	}); err != nil {
		q.t.Fatal(err)
	}
	return n
}

// inside opens the store while no process has it.
func (q *quickstart) inside(look func(*embedded.Store)) {
	q.t.Helper()
	s, err := embedded.Open(q.path("store"), embedded.Options{})
	if err != nil {
		q.t.Fatalf("open the store after a kill: %v", err)
	}
	look(s)
	if err := s.Close(); err != nil {
		q.t.Fatal(err)
	}
}

// each calls f for every job of a queue.
func (q *quickstart) each(s *embedded.Store, name string, state queue.State, f func(*queue.Job)) {
	q.t.Helper()
	for after := (queue.ID{}); ; {
		page, err := s.List(context.Background(), queue.Search{Filter: queue.Filter{Queue: name}, State: state}, after, 5000)
		if err != nil {
			q.t.Fatal(err)
		}
		for i := range page.Jobs {
			f(&page.Jobs[i])
		}
		if after = page.Next; after == (queue.ID{}) {
			return
		}
	}
}

// records lists the IDs of executions that have not ended.
func (q *quickstart) records(s *embedded.Store) (ids []string) {
	q.t.Helper()
	const prefix = "machine/work/x/"
	for after := []byte(nil); ; {
		page, err := storetest.Records(context.Background(), s, []byte(prefix), after, 1000)
		if err != nil {
			q.t.Fatal(err)
		}
		if len(page) == 0 {
			return ids
		}
		for _, r := range page {
			ids = append(ids, strings.TrimPrefix(string(r.Key), prefix))
		}
		after = page[len(page)-1].Key
	}
}

// inspect looks into the store of a killed process: how many executions are under way, and
// how often those tasks ran whose answers are committed. The execution waits in a later state.
func (q *quickstart) inspect() (underWay int, done map[call]int) {
	q.t.Helper()
	waits := map[string]string{} // in which state, by execution
	q.inside(func(s *embedded.Store) {
		q.each(s, "machine/work/steps", queue.Open, func(j *queue.Job) {
			var step struct{ Execution, State string }
			if err := json.Unmarshal(j.Msg.Data, &step); err != nil || step.Execution == "" {
				q.t.Errorf("a job of the machine is damaged: %s", j.Msg.Data)
			}
			waits[step.Execution] = step.State
		})
		for _, id := range q.records(s) {
			underWay++
			if waits[id] == "" {
				q.t.Errorf("execution %s has not ended and has no open job", id)
			}
		}
	})
	later := map[string][]string{"Handler": {"First"}, "Pause": {"First"}, "Second": {"First"}, "Done": {"First", "Second"}}
	done = map[call]int{}
	for c, n := range q.calls() {
		for _, task := range later[waits[c.Execution]] {
			if task == c.Task {
				done[c] = n
			}
		}
	}
	return underWay, done
}

// nothingOutlives waits until no handler is left.
func (q *quickstart) nothingOutlives() {
	q.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		left, err := filepath.Glob("/proc/[0-9]*/exe") // none where there is no /proc
		if err != nil {
			q.t.Fatal(err)
		}
		n := 0
		for _, link := range left {
			if program, err := os.Readlink(link); err == nil && program == q.path("handler") {
				n++
			}
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			q.t.Fatalf("%d handlers outlive the process", n)
		}
		pause(context.Background(), 10*time.Millisecond)
	}
}

// untilEmpty waits until every execution has ended.
func (q *quickstart) untilEmpty(p *process) {
	q.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		p.alive()
		out, err := q.ask("queue", "ls", "--json")
		var list struct {
			Queues []struct {
				Name string `json:"name"`
				Open int    `json:"open"`
			} `json:"queues"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err != nil {
			q.t.Fatalf("list the queues: %v: %s", err, out)
		}
		left := 0
		for _, x := range list.Queues {
			if x.Name != "ended" {
				left += x.Open
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			q.t.Fatalf("%d jobs are open after %s\n%s", left, patience, q.tail())
		}
		pause(context.Background(), 200*time.Millisecond)
	}
}

// orders is what was posted and acknowledged. No order is posted twice.
type orders struct {
	q            *quickstart
	mu           sync.Mutex
	posted       map[string]bool
	acknowledged map[string]bool
	waited, fed  int // acknowledged at the end and at the start of their executions
}

// start starts clients: some whose requests are answered when orders are taken, and some
// whose requests are answered when they have ended.
func (l *orders) start(t *testing.T) *clients {
	t.Helper()
	c := &clients{quit: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	for n := range 10 {
		c.wg.Go(func() {
			client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			port, rest := "FEED_PORT", 100*time.Millisecond
			if n >= 2 {
				port, rest = "WAIT_PORT", time.Millisecond
			}
			for i := 0; !c.stopped() && ctx.Err() == nil; {
				var ids []string
				var body bytes.Buffer
				for range 1 + rand.IntN(4) {
					id, country := fmt.Sprintf("o-%d-%06d", n, i), "GB"
					if i%20 == 7 {
						country = "EXIT"
					}
					i++
					ids = append(ids, id)
					fmt.Fprintf(&body, "{\"id\":%q,\"country_code\":%q}\n", id, country)
				}
				l.note(l.posted, ids)
				if post(ctx, client, feed{}, l.q.at(port, "/"), body.Bytes()) {
					l.answered(ids, n >= 2)
				} else {
					pause(ctx, 50*time.Millisecond)
				}
				pause(ctx, 10*time.Millisecond+rand.N(rest))
			}
		})
	}
	return c
}

func (l *orders) note(in map[string]bool, ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		in[id] = true
	}
}

// answered notes that orders were acknowledged; those that were waited for are there.
func (l *orders) answered(ids []string, waited bool) {
	l.note(l.acknowledged, ids)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !waited {
		l.fed += len(ids)
		return
	}
	l.waited += len(ids)
	for _, id := range ids {
		if _, err := os.Stat(l.q.path("done", id+".json")); err != nil {
			l.q.t.Errorf("order %s was acknowledged before its end: %v", id, err)
		}
	}
}

// untilBoth waits until orders of both kinds were acknowledged.
func (l *orders) untilBoth() {
	l.q.t.Helper()
	for deadline := time.Now().Add(patience); ; pause(context.Background(), 20*time.Millisecond) {
		l.mu.Lock()
		waited, fed := l.waited, l.fed
		l.mu.Unlock()
		if waited > 0 && fed > 0 {
			return
		}
		if time.Now().After(deadline) {
			l.q.t.Fatalf("after %s %d orders were acknowledged at their end and %d before\n%s", patience, waited, fed, l.q.tail())
		}
	}
}

// verify looks at what is there in the end.
func (l *orders) verify(committed map[call]int) {
	q := l.q
	q.t.Helper()
	ended := map[string]int{}
	q.inside(func(s *embedded.Store) {
		q.each(s, "ended", queue.Open, func(j *queue.Job) {
			var o struct {
				ID      string `json:"id"`
				Country string `json:"country_code"`
				Handler struct{ Answered string }
				Error   struct{ Error string }
			}
			if err := json.Unmarshal(j.Msg.Data, &o); err != nil || !l.posted[o.ID] {
				q.t.Errorf("an order that nobody posted has ended: %s", j.Msg.Data)
			}
			if good := o.Country == "GB" && o.Handler.Answered == o.ID; !good && (o.Country != "EXIT" || o.Error.Error != "Runtime.ExitError") {
				q.t.Errorf("an order went a wrong way: %s", j.Msg.Data)
			}
			ended[o.ID]++
		})
		for _, name := range []string{"in", "machine/work", "machine/work/steps"} {
			for _, state := range []queue.State{queue.Open, queue.Buried} {
				q.each(s, name, state, func(j *queue.Job) { q.t.Errorf("queue %s still has %s: %s", name, j.Msg.Data, j.Cause) })
			}
		}
		if ids := q.records(s); len(ids) > 0 {
			q.t.Errorf("%d executions are left, as %s", len(ids), ids[0])
		}
	})
	for id := range l.acknowledged {
		if ended[id] == 0 {
			q.t.Errorf("order %s was acknowledged and has not ended", id)
		}
	}
	calls, ran := q.calls(), map[string]int{}
	for c := range calls {
		ran[c.Task+c.ID]++ // executions of this order
	}
	for id, n := range ended {
		if n != 1 {
			q.t.Errorf("order %s ended %d times", id, n)
		}
		if _, err := os.Stat(q.path("done", id+".json")); err != nil {
			q.t.Errorf("order %s ended without its file: %v", id, err)
		}
		for _, task := range []string{"First", "Second"} {
			if ran[task+id] != 1 {
				q.t.Errorf("task %s of order %s ran in %d executions", task, id, ran[task+id])
			}
		}
	}
	for c, n := range committed {
		if calls[c] != n {
			q.t.Errorf("task %s of execution %s ran %d times, and %d times after its answer was committed", c.Task, c.Execution, n, calls[c]-n)
		}
	}
	if text, err := os.ReadFile(q.path("failed.jsonl")); err != nil || len(text) > 0 {
		q.t.Errorf("failed.jsonl: %v: %.1000s", err, text)
	}
}
