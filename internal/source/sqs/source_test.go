package sqssource

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func newSource(c Config) *Source { return New(connector.Deps{}, c) }

func fiveSeconds(c *Config) { c.VisibilityTimeoutSeconds = 5 }

// readOne reads until there is something.
func readOne(t *testing.T, s *Source, room connector.Room) (event.Batch, connector.Ack) {
	t.Helper()
	for {
		b, ack, err := s.Read(t.Context(), room)
		if err == nil {
			return b, ack
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func bodies(b event.Batch) (out []string) {
	for _, m := range b {
		out = append(out, string(m.Data))
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExtendedWhileHeld: what is in work stays hidden for many timeouts, also while a target
// that is slow holds all acknowledgements, and so does what waits for its next attempt.
func TestExtendedWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 5)
		for i := range 1000 {
			q.send("", fmt.Sprint("m", i))
		}
		s := q.source(t, fiveSeconds)
		var acks []connector.Ack
		var batches []event.Batch
		for n := 0; n < 1000; {
			b, ack := readOne(t, s, connector.Room{Messages: 1000 - n})
			n += len(b)
			batches, acks = append(batches, b), append(acks, ack)
		}
		for range 60 {
			time.Sleep(time.Second)
			if _, hidden, _ := q.state(); hidden != 1000 {
				t.Fatalf("%d of 1000 messages are hidden", hidden)
			}
		}
		if calls := q.count("extend"); calls > 60/2*100*2 {
			t.Errorf("%d calls extended 1000 messages for a minute: they are not batched", calls)
		}
		// Every message waits for its next attempt, for three timeouts.
		for i, ack := range acks {
			o := make(event.Outcomes, len(batches[i]))
			for k := range o {
				o[k] = &connector.Again{After: 15 * time.Second, Err: errCut}
			}
			must(t, ack(t.Context(), o))
		}
		time.Sleep(14 * time.Second)
		if _, hidden, _ := q.state(); hidden != 1000 {
			t.Fatalf("%d of 1000 messages are hidden while they wait for their next attempt", hidden)
		}
		for n := 0; n < 1000; {
			b, ack := readOne(t, s, connector.Room{})
			n += len(b)
			for _, m := range b {
				if m.Meta.Delivery.Attempt != 1 {
					t.Fatalf("%s comes with attempt %d", m.Data, m.Meta.Delivery.Attempt)
				}
			}
			must(t, ack(t.Context(), nil))
		}
		must(t, s.Close(t.Context()))
		if all, _, dead := q.state(); all+len(dead) != 0 {
			t.Errorf("%d messages are left, %d dead", all, len(dead))
		}
	})
}

// TestAcksAndExtensionsAreIndependent: neither holds up the other when its calls hang.
func TestAcksAndExtensionsAreIndependent(t *testing.T) {
	t.Parallel()
	for _, hangs := range []string{"extend", "delete"} {
		synctest.Test(t, func(t *testing.T) {
			q := newModel(false, 0)
			q.fail = func(operation string) error {
				if operation == hangs {
					time.Sleep(9 * time.Second)
					return errCut
				}
				return nil
			}
			for i := range 20 {
				q.send("", fmt.Sprint("m", i))
			}
			s := q.source(t, func(c *Config) { c.VisibilityTimeoutSeconds = 30 })
			b, first := readOne(t, s, connector.Room{Messages: 10})
			_, _ = readOne(t, s, connector.Room{Messages: 10})
			time.Sleep(20 * time.Second) // an extension is under way
			begun := time.Now()
			ctx, done := context.WithTimeout(t.Context(), 2*time.Second)
			err := first(ctx, nil)
			done()
			if hangs == "extend" && (err != nil || time.Since(begun) > time.Second) {
				t.Errorf("a deletion took %s while extensions hung: %v", time.Since(begun), err)
			}
			if hangs == "delete" {
				if err == nil {
					t.Error("a deletion that hangs was acknowledged")
				}
				for range 60 {
					time.Sleep(time.Second)
					if all, hidden, _ := q.state(); hidden != all {
						t.Fatalf("%d of %d are hidden while deletions hang", hidden, all)
					}
				}
			}
			_ = b
			q.heal()
			time.Sleep(20 * time.Second)
			if all, _, _ := q.state(); all != 10 {
				t.Errorf("%d messages are there, want the 10 in work", all)
			}
			must(t, s.Close(t.Context()))
		})
	}
}

// TestLostHandle: a handle that is refused ends the extending of its message, and of no other.
func TestLostHandle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 0)
		for i := range 10 {
			q.send("", fmt.Sprint("m", i))
		}
		s := q.source(t, fiveSeconds)
		b, ack := readOne(t, s, connector.Room{})
		if len(b) != 10 {
			t.Fatalf("%d messages", len(b))
		}
		q.mu.Lock()
		q.messages[3].handle = "another's"
		q.mu.Unlock()
		time.Sleep(30 * time.Second)
		before := q.count("extend")
		if _, hidden, _ := q.state(); hidden != 9 {
			t.Errorf("%d are hidden, want 9", hidden)
		}
		time.Sleep(30 * time.Second)
		if n := q.count("extend") - before; n > 40 {
			t.Errorf("%d calls in half a minute for 9 messages", n)
		}
		must(t, ack(t.Context(), nil))
		must(t, s.Close(t.Context()))
		if all, _, _ := q.state(); all != 1 {
			t.Errorf("%d are left, want the one that is another's", all)
		}
	})
}

// TestReceivedAgainWhileHeld: a message that comes a second time is not handed out twice, and is
// deleted by its newest handle, in one batch with others.
func TestReceivedAgainWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 0)
		q.send("", "twice")
		s := q.source(t)
		_, ack := readOne(t, s, connector.Room{})
		q.mu.Lock()
		q.messages[0].visible, q.messages[0].inFlight = time.Time{}, false // as a standard queue may
		q.mu.Unlock()
		q.send("", "once")
		b, second := readOne(t, s, connector.Room{})
		if got := bodies(b); !slices.Equal(got, []string{"once"}) {
			t.Errorf("read %q", got)
		}
		must(t, ack(t.Context(), nil))
		must(t, second(t.Context(), nil))
		must(t, s.Close(t.Context()))
		if all, _, _ := q.state(); all != 0 {
			t.Errorf("%d messages are left", all)
		}
	})
}

// TestGivenBackAtClose: nothing that is held stays hidden when the source is closed, whether it
// was handed out or not, and what is being received is not lost.
func TestGivenBackAtClose(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q := newModel(fifo, 0)
			for i := range 95 {
				q.send(fmt.Sprint("g", i%7), fmt.Sprint("m", i))
			}
			s := q.source(t)
			for range 2 { // of a group there is one at a time
				readOne(t, s, connector.Room{Messages: 3})
			}
			time.Sleep(3 * time.Second)
			must(t, s.Close(t.Context()))
			if all, hidden, _ := q.state(); all != 95 || hidden != 0 {
				t.Errorf("FIFO %t: of %d messages %d are hidden", fifo, all, hidden)
			}
			for _, m := range q.messages {
				if m.receives > 1 {
					t.Errorf("%s was received %d times", m.body, m.receives)
				}
			}
		})
	}
}

// TestUnsettledGoesBackAtOnce: what the pipeline lets go of is visible again when its
// acknowledgement has returned.
func TestUnsettledGoesBackAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 0)
		for i := range 10 {
			q.send("", fmt.Sprint("m", i))
		}
		s := q.source(t)
		b, ack := readOne(t, s, connector.Room{})
		o := make(event.Outcomes, len(b))
		o[2], o[5] = event.ErrUnsettled, errCut
		s.session().endReceiving() // so that nothing takes them again
		synctest.Wait()
		time.Sleep(time.Second)
		must(t, ack(t.Context(), o))
		if all, hidden, _ := q.state(); all != 2 || hidden != 0 {
			t.Errorf("%d messages are there and %d hidden, want 2 that are visible", all, hidden)
		}
		must(t, s.Close(t.Context()))
	})
}

// TestTwelveHours: a message is let go before SQS refuses to extend it any more, and others are
// extended as before.
func TestTwelveHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 0)
		q.send("", "old")
		s := q.source(t, func(c *Config) { c.VisibilityTimeoutSeconds = 1800 })
		readOne(t, s, connector.Room{})
		time.Sleep(11*time.Hour + 20*time.Minute)
		if _, hidden, _ := q.state(); hidden != 1 {
			t.Error("the message is not hidden after eleven hours")
		}
		s.session().endReceiving()
		time.Sleep(11 * time.Minute)
		q.mu.Lock()
		q.fail = func(operation string) error {
			if operation == "extend" {
				t.Error("extended beyond twelve hours")
			}
			return nil
		}
		q.mu.Unlock()
		time.Sleep(2 * time.Hour)
		if _, hidden, _ := q.state(); hidden != 0 {
			t.Error("the message is hidden after thirteen hours")
		}
		must(t, s.Close(t.Context()))
	})
}

// TestOnlyTheFailingOneIsPutAside: of a group whose first message always fails, only that one
// is in the dead-letter queue, for every number of receipts, and the others come in order.
func TestOnlyTheFailingOneIsPutAside(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 3, 10} {
		for _, instances := range []int{1, 2, 3} {
			synctest.Test(t, func(t *testing.T) {
				q := newModel(true, most)
				for i := range 20 {
					q.send("a", fmt.Sprint("a", i))
				}
				var mu sync.Mutex
				var done []string
				attempts := map[string]int{}
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range instances {
					wg.Go(func() {
						s := q.closed(fiveSeconds)
						if err := s.Open(ctx); err != nil {
							t.Error(err)
							return
						}
						for ctx.Err() == nil {
							b, ack, err := s.Read(ctx, connector.Room{})
							if err != nil {
								continue
							}
							o := make(event.Outcomes, len(b))
							for i, m := range b {
								mu.Lock()
								attempts[string(m.Data)]++
								switch string(m.Data) {
								case "a0", "a7":
									o[i] = &connector.Dead{Err: fault.New(fault.Invalid, errCut)}
								default:
									done = append(done, string(m.Data))
								}
								mu.Unlock()
							}
							if err := ack(t.Context(), o); err != nil {
								t.Error(err)
							}
						}
						if err := s.Close(context.Background()); err != nil {
							t.Error(err)
						}
					})
				}
				for all := 1; all > 0; all, _, _ = q.state() {
					time.Sleep(time.Second)
				}
				stop()
				wg.Wait()
				_, _, dead := q.state()
				if slices.Sort(dead); !slices.Equal(dead, []string{"a0", "a7"}) {
					t.Errorf("%d receipts, %d instances: %q are put aside", most, instances, dead)
				}
				var want []string
				for i := range 20 {
					if i != 0 && i != 7 {
						want = append(want, fmt.Sprint("a", i))
					}
				}
				if !slices.Equal(done, want) {
					t.Errorf("%d receipts, %d instances: handled %q", most, instances, done)
				}
				if attempts["a0"] != most {
					t.Errorf("a0 had %d attempts, want %d", attempts["a0"], most)
				}
			})
		}
	}
}

// TestLostReceive: a receive call of a FIFO queue whose answer is lost is made again with its
// id, so that its groups are not blocked for a timeout.
func TestLostReceive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(true, 3)
		q.send("a", "a0")
		lost := false
		q.lose = func(operation string) error {
			if operation == "receive" && !lost {
				lost = true
				return errCut
			}
			return nil
		}
		s := q.source(t, func(c *Config) { c.VisibilityTimeoutSeconds = 600 })
		begun := time.Now()
		b, ack := readOne(t, s, connector.Room{})
		if took := time.Since(begun); took > 5*time.Second || len(b) != 1 {
			t.Errorf("%d messages after %s", len(b), took)
		}
		must(t, ack(t.Context(), nil))
		must(t, s.Close(t.Context()))
		if all, _, _ := q.state(); all != 0 {
			t.Error("it is not deleted")
		}
	})
}

// TestReadErrors: what a receive call fails with is what Read returns, by its kind, and the next
// Read goes on.
func TestReadErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newModel(false, 0)
		q.send("", "m")
		failures := 1
		q.fail = func(operation string) error {
			if operation == "receive" && failures > 0 {
				failures--
				return errCut
			}
			return nil
		}
		s := q.source(t)
		_, _, err := s.Read(t.Context(), connector.Room{})
		if err == nil || fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), `receive from queue "q"`) {
			t.Errorf("Read: %v", err)
		}
		if b, _, err := s.Read(t.Context(), connector.Room{}); err != nil || len(b) != 1 {
			t.Errorf("the next Read: %d messages, %v", len(b), err)
		}
		must(t, s.Close(t.Context()))
	})
}

// TestModel runs random histories of random queues: calls fail, answers are lost, messages are
// delivered, fail, wait, are given up and let go of, and sources close and open again. At the end
// every message was delivered or is put aside; of a group nothing was delivered before what is
// before it was; and without lost answers nothing came twice.
func TestModel(t *testing.T) {
	t.Parallel()
	runs := 150
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = n
	}
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) { history(t, uint64(seed)) })
	}
}

// history is one of TestModel.
func history(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	var mu sync.Mutex // of r and of what follows
	fifo, redrive, losing := r.IntN(2) == 0, r.IntN(3)*r.IntN(6), r.IntN(2) == 0
	q := newModel(fifo, redrive)
	if r.IntN(3) > 0 {
		q.fail = sometimes(r, &mu, 6)
	}
	if losing {
		q.lose = sometimes(r, &mu, 8)
	}
	total, groups := 20+r.IntN(80), 1+r.IntN(6)
	groupOf := map[string]string{}
	for i := range total {
		g := fmt.Sprint("g", i%groups)
		groupOf[fmt.Sprint(i)] = g
		q.send(g, fmt.Sprint(i))
	}
	delivered := map[string]int{}
	begins := func(body string) { // with mu held
		if !fifo || losing {
			return
		}
		n, _ := strconv.Atoi(body)
		q.mu.Lock()
		dead := slices.Clone(q.dead)
		var open []string
		for _, m := range q.messages {
			if m.receives < redrive || redrive == 0 {
				open = append(open, m.body)
			}
		}
		q.mu.Unlock()
		for k := n % groups; k < n; k += groups {
			before := fmt.Sprint(k)
			if delivered[before] == 0 && !slices.Contains(dead, before) && slices.Contains(open, before) {
				t.Errorf("seed %d: %s began before %s of its group was through", seed, body, before)
			}
		}
	}
	calm := false
	outcome := func(body string) error {
		switch n := r.IntN(10); {
		case calm || n < 6:
			delivered[body]++
			return nil
		case n == 6 && redrive > 0:
			return &connector.Again{After: time.Duration(r.IntN(20)) * time.Second, Err: errCut}
		case n == 7 && redrive > 0:
			return &connector.Dead{Err: fault.New(fault.Kind(r.IntN(4)), errCut)}
		case n == 8:
			return event.ErrUnsettled
		}
		delivered[body]++
		return nil
	}
	s := q.source(t, fiveSeconds, func(c *Config) { c.ConcurrentReceives = 1 + r.IntN(4); c.MaxWaitingMessages = 1 + r.IntN(50) })
	var wg sync.WaitGroup
	for round := 0; ; round++ {
		if all, _, _ := q.state(); all == 0 {
			break
		}
		if round == 5000 {
			all, hidden, _ := q.state()
			t.Fatalf("seed %d: %d messages are left, %d hidden", seed, all, hidden)
		}
		mu.Lock()
		if round == 300 {
			calm = true
			q.heal()
		}
		reopen := !calm && r.IntN(60) == 0
		room := connector.Room{Messages: 1 + r.IntN(30)}
		pause := time.Duration(r.IntN(8000)) * time.Millisecond
		mu.Unlock()
		if reopen {
			wg.Wait()
			_ = s.Close(t.Context())
			must(t, s.Open(t.Context()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		b, ack, err := s.Read(ctx, room)
		cancel()
		if err != nil {
			if fault.Of(err) != fault.Transient {
				t.Fatal(err)
			}
			continue
		}
		if len(b) > room.Messages {
			t.Errorf("%d messages in room for %d", len(b), room.Messages)
		}
		mu.Lock()
		for _, m := range b {
			begins(string(m.Data))
		}
		mu.Unlock()
		wg.Go(func() {
			time.Sleep(pause)
			mu.Lock()
			o := make(event.Outcomes, len(b))
			for i, m := range b {
				o[i] = outcome(string(m.Data))
			}
			mu.Unlock()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := ack(ctx, o); err != nil && !errors.Is(err, errCut) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("seed %d: ack: %v", seed, err)
			}
		})
	}
	wg.Wait()
	_ = s.Close(t.Context())
	_, _, dead := q.state()
	for i := range total {
		body := fmt.Sprint(i)
		if delivered[body] == 0 && !slices.Contains(dead, body) {
			t.Errorf("seed %d: %s is lost", seed, body)
		}
		if delivered[body] > 1 && !losing {
			t.Errorf("seed %d: %s was delivered %d times", seed, body, delivered[body])
		}
	}
}
