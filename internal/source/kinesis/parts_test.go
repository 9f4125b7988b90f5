package kinesissource

import (
	"bytes"
	"context"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

var errTest = fault.New(fault.Transient, errGone)

// TestPositions: positions are in the order of sequence numbers, and lead back to them.
func TestPositions(t *testing.T) {
	t.Parallel()
	number := rapid.Custom(func(t *rapid.T) *big.Int {
		return new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 26).Draw(t, "bytes"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		pa, err := putSequence(nil, strings.Repeat("0", rapid.IntRange(0, 3).Draw(t, "zeros"))+a.String())
		if err != nil {
			t.Fatal(err)
		}
		pb, err := putSequence(nil, b.String())
		if err != nil {
			t.Fatal(err)
		}
		if want := a.Cmp(b); bytes.Compare(pa, pb) != want || sign(compareSequences(a.String(), b.String())) != want {
			t.Fatalf("%s and %s: % x and % x", a, b, pa, pb)
		}
		if back, err := sequenceOf(connector.Position{Bytes: pa}); err != nil || back != a.String() {
			t.Fatalf("%s became %q: %v", a, back, err)
		}
	})
	for _, text := range []string{"", "x", "1x", "-1", "LATEST", strings.Repeat("1", 256)} {
		if p, err := putSequence(nil, text); err == nil {
			t.Errorf("%q has the position % x", text, p)
		}
	}
	for _, p := range [][]byte{nil, {}, {2, '1'}, {1, 'x'}, {2, '0', '1'}, {1}} {
		if s, err := sequenceOf(connector.Position{Bytes: p}); err == nil {
			t.Errorf("% x is the position of %q", p, s)
		}
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// TestBudget: who waits gets it in turn; one that gives up takes nothing away; what was not
// expected is paid for by those that follow.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 100}
		if err := b.acquire(t.Context(), 60); err != nil {
			t.Fatal(err)
		}
		var order []string
		wait := func(ctx context.Context, name string, n int) {
			go func() {
				if b.acquire(ctx, n) == nil {
					order = append(order, name)
				}
			}()
			synctest.Wait()
		}
		ctx, stop := context.WithCancel(t.Context())
		wait(ctx, "gives up", 90)
		wait(t.Context(), "first", 50)
		wait(t.Context(), "second", 10)
		if len(order) > 0 {
			t.Fatalf("%q came before their turn", order)
		}
		b.add(30) // more than expected
		stop()
		synctest.Wait()
		if len(order) > 0 {
			t.Fatalf("%q came though %d of 100 are used", order, b.used)
		}
		b.add(-45) // the second would fit, and waits for its turn
		synctest.Wait()
		b.add(-45)
		synctest.Wait()
		if got := strings.Join(order, " "); got != "first second" {
			t.Errorf("the order was %q", got)
		}
		b.add(-60)
		if b.used != 0 {
			t.Errorf("%d is used at the end", b.used)
		}
		if err := b.acquire(t.Context(), 1000); err != nil { // more than there is, alone
			t.Error(err)
		}
		b.add(-1000)
	})
}

// TestTrouble: waits grow to a bound and begin anew; the log says a failure once a minute, and
// being throttled when it lasts.
func TestTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		trouble := &trouble{log: slog.New(slog.NewTextHandler(log, nil)), what: "read the shard", least: 250 * time.Millisecond}
		said := func() int { return strings.Count(log.b.String(), "tried again") }
		var last time.Duration
		begin := time.Now()
		for range 12 {
			last = trouble.note(errTest)
			if last > mostDelay {
				t.Fatalf("a wait of %s", last)
			}
			time.Sleep(last)
		}
		if last < mostDelay*4/5 {
			t.Errorf("after twelve failures the wait is %s", last)
		}
		if got, most := said(), int(time.Since(begin)/sayAgain)+1; got < 2 || got > most {
			t.Errorf("%d lines in %s", got, time.Since(begin))
		}
		trouble.over()
		before := said()
		if d := trouble.note(fault.Throttle(errGone, 0)); d > 250*time.Millisecond {
			t.Errorf("it begins anew with %s", d)
		}
		time.Sleep(2 * sayAgain)
		trouble.over()
		trouble.note(fault.Throttle(errGone, 0))
		if said() != before {
			t.Error("being throttled for a moment is said")
		}
		time.Sleep(sayThrottl)
		trouble.note(fault.Throttle(errGone, 0))
		if said() != before+1 {
			t.Error("being throttled for long is not said")
		}
		if d := trouble.note(fault.Throttle(errGone, 20*time.Second)); d < 16*time.Second {
			t.Errorf("Kinesis asked for 20 s, and the wait is %s", d)
		}
		if d := trouble.note(fault.New(fault.Setup, errGone)); d < 800*time.Millisecond {
			t.Errorf("what somebody must change is tried again after %s", d)
		}
	})
}

// TestLag: of each shard the age of the oldest record that was not read, and nothing that is not
// known.
func TestLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &session{config: Config{StreamName: "s"}}
		sh := &shard{n: n, id: "a"}
		want := func(when string, messages int64, age time.Duration) {
			t.Helper()
			if l := sh.lag(time.Now()); l.Messages != messages || l.Age != age || l.Stream != "s" || l.Partition != "a" {
				t.Errorf("%s: %+v, want %d messages, %s", when, l, messages, age)
			}
		}
		want("before the first answer", connector.Unknown, connector.Unknown)
		zero, behind := int64(0), int64(5000)
		sh.note(0, &zero)
		want("with nothing new", 0, 0)
		time.Sleep(2 * staleAnswer)
		want("when Kinesis has not answered for long", connector.Unknown, connector.Unknown)
		sh.note(10, &behind)
		time.Sleep(time.Second)
		want("when the answer was behind", connector.Unknown, 6*time.Second)
		sh.oldest = time.Now().Add(-time.Minute)
		want("with records that wait", connector.Unknown, time.Minute)
		sh.oldest, sh.ended = time.Time{}, true
		want("at the end of the shard", 0, 0)
	})
}
