package postgres

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/queue"
)

// TestSilence: whatever is waited for, the database is silent when nothing has come for a second, and
// not before; a byte ends that. A process that stood still has heard nothing, which says nothing.
func TestSilence(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 3))
			l := newLink(slog.New(slog.DiscardHandler), func() bool { return true })
			s := &Store{link: l}
			go s.watchSilence(t.Context())
			for range 20 {
				present := l.present()
				time.Sleep(time.Duration(draw.Int64N(int64(5 * time.Second)))) // nothing is asked, so nothing comes
				if l.silence() != nil || present.Err() != nil {
					t.Fatal("silent, and nothing was asked")
				}
				var waits []func()
				for range 1 + draw.IntN(3) { // one of them for long
					waits = append(waits, l.asks())
				}
				for range draw.IntN(20) { // answers to others
					time.Sleep(time.Duration(draw.Int64N(int64(silentAfter - silenceEvery))))
					l.comes()
					if len(waits) > 1 {
						waits[0]()
						waits = waits[1:]
					}
					if l.silence() != nil || present.Err() != nil {
						t.Fatal("silent, and answers come")
					}
				}
				began := time.Now()
				<-present.Done()
				if took := time.Since(began); took < silentAfter-silenceEvery || took > silentAfter+2*silenceEvery {
					t.Errorf("silent after %s", took)
				}
				if err := l.silence(); !errors.Is(err, queue.ErrAway) || !fault.Away(err) || fault.Of(err) != fault.Transient || l.away() != nil || !l.waits() {
					t.Errorf("silence = %v, away = %v", err, l.away())
				}
				lost := draw.IntN(2) == 0
				if lost {
					l.lost(errSilent)
				}
				time.Sleep(time.Duration(draw.Int64N(int64(3 * time.Second))))
				if l.present().Err() == nil {
					t.Error("it is waited for a database that is silent")
				}
				l.comes()
				if l.silence() != nil {
					t.Error("silent, and something came")
				}
				if lost {
					if l.present().Err() == nil {
						t.Error("it is waited for a database that is away")
					}
					l.answered()
				}
				if l.present().Err() != nil {
					t.Error("the database is back, and it is not waited for")
				}
				for _, end := range waits {
					end()
				}
			}
		})
	}
}

// TestSilenceOfAProcessThatStoodStill: looks are what is counted, and there is one after a halt.
func TestSilenceOfAProcessThatStoodStill(t *testing.T) {
	t.Parallel()
	l := newLink(slog.New(slog.DiscardHandler), func() bool { return true })
	ended := l.asks()
	defer ended()
	l.looks()
	for range int(silentAfter/silenceEvery) - 2 {
		l.looks() // however much time is between them
		if l.silence() != nil {
			t.Fatal("silent too early")
		}
	}
	l.comes()
	l.looks()
	l.looks()
	if l.silence() != nil || l.waits() {
		t.Error("what came was not counted")
	}
}

// TestSilentDatabase lets nothing pass where a database would be found away only after minutes:
// what is new is refused, what waits behind a commit is given back, the commit itself goes on and is
// found out, and none is there twice.
func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	p, dsn := through(t, enginetest.Postgres(t))
	s := open(t, Options{DSN: dsn, Partitions: 4, Lease: 10 * time.Minute, Patience: 10 * time.Minute, Timeout: 10 * time.Minute, Log: discard()})
	if err := putIn(s, "in", "before"); err != nil {
		t.Fatal(err)
	}
	for _, freeze := range []func(){p.Freeze, func() { p.FreezeTo(faultproxy.ToServer) }, func() { p.FreezeTo(faultproxy.ToClient) }} {
		freeze()
		caught := make(chan error, 1)
		go func() { caught <- putIn(s, "in", "caught") }()
		await(t, "a commit that hangs", func() bool {
			s.commits.mu.Lock()
			defer s.commits.mu.Unlock()
			return s.commits.busy != mask{}
		})
		var waiting sync.WaitGroup
		for range 5 {
			waiting.Go(func() {
				if err := putIn(s, "in", "behind it"); !errors.Is(err, queue.ErrAway) || !fault.Away(err) {
					t.Errorf("Update behind a commit that hangs = %v", err)
				}
			})
		}
		waiting.Wait() // with a patience of minutes, these return because they do not wait
		if s.Away() != nil || !errors.Is(queue.FullOf(s), queue.ErrAway) {
			t.Errorf("away: %v, full: %v", s.Away(), queue.FullOf(s))
		}
		if err := putIn(s, "another", "in a lane that is not known"); !errors.Is(err, queue.ErrAway) {
			t.Errorf("Update while the database is silent = %v", err)
		}
		p.Thaw()
		if err := <-caught; err != nil {
			t.Errorf("the commit that was under way: %v", err)
		}
		await(t, "the database is heard again", func() bool { return queue.FullOf(s) == nil })
		if err := putIn(s, "in", "after"); err != nil {
			t.Errorf("Update after the silence: %v", err)
		}
	}
	st, err := s.Stats(t.Context(), queue.Filter{Queue: "in"})
	if err != nil || st.Waiting != 7 {
		t.Errorf("%d wait (%v): one from before, and of each round the one that was caught and the one after", st.Waiting, err)
	}
}
