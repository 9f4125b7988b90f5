package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// farServer is a server of the model: it answers, refuses connections, or says nothing.
type farServer struct {
	mu      sync.Mutex
	state   int
	changed chan struct{}
}

const (
	farAnswers = iota
	farRefuses
	farSilent
)

func (f *farServer) set(state int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = state
	close(f.changed)
	f.changed = make(chan struct{})
}

// connect is as that of a store. A silent server answers nobody who called while it was silent, as
// when a network lost what they sent.
func (f *farServer) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	switch state {
	case farAnswers:
		time.Sleep(10 * time.Millisecond)
		return nil, nil //nolint:nilnil // a connection that nobody uses
	case farRefuses:
		return nil, errors.New("connection refused")
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestLinkHearsWithinTwoSeconds: however long a server is away, and in which way, whoever waits
// hears within two seconds that it is back, once, and it is told once that it is away.
func TestLinkHearsWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 1))
			var said bytes.Buffer
			holds := false
			l := newLink(slog.New(slog.NewTextHandler(&said, nil)), func() bool { return holds })
			f := &farServer{changed: make(chan struct{})}
			for range 10 {
				said.Reset()
				f.set(farRefuses + draw.IntN(2))
				dialed := make(chan error, 1)
				go func() {
					_, err := l.dial(t.Context(), f.connect)
					dialed <- err
				}()
				for range draw.IntN(4) { // it changes how it is away
					time.Sleep(time.Duration(draw.Int64N(int64(7 * time.Second))))
					f.set(farRefuses + draw.IntN(2))
				}
				time.Sleep(silentFor + 2*dialEvery)
				away, turn := l.away(), l.now()
				if !errors.Is(away, queue.ErrAway) || !fault.Away(away) || !strings.Contains(away.Error(), " since ") {
					t.Fatalf("a server that does not answer: away = %v", away)
				}
				leasable := l.leasable()
				back := time.Now()
				f.set(farAnswers)
				if err := <-dialed; err != nil {
					t.Fatal(err)
				}
				<-turn.Done()
				holds = true // by the round that follows
				l.holds()
				<-leasable
				if took := time.Since(back); took > 2*time.Second {
					t.Errorf("who waits hears after %s", took)
				}
				if l.away() != nil {
					t.Errorf("back, and still away: %v", l.away())
				}
				if n := strings.Count(said.String(), "level="); n != 2 {
					t.Errorf("%d lines were written, not one for each change:\n%s", n, said.String())
				}
				holds = false
			}
		})
	}
}

// TestLinkTurns: what is begun while the database is away ends when it is back, and what is begun
// then does not.
func TestLinkTurns(t *testing.T) {
	t.Parallel()
	l := newLink(slog.New(slog.DiscardHandler), func() bool { return true })
	before, cancel := l.bound(t.Context(), time.Hour)
	defer cancel()
	l.lost(errors.New("gone"))
	during, cancel := l.bound(t.Context(), time.Hour)
	defer cancel()
	if before.Err() != nil || during.Err() != nil {
		t.Error("work ends when the database goes")
	}
	if !l.answered() || l.answered() {
		t.Error("the database is back once")
	}
	<-before.Done()
	<-during.Done()
	after, cancel := l.bound(t.Context(), time.Hour)
	defer cancel()
	if after.Err() != nil {
		t.Error("work that was begun afterwards has ended")
	}
}

// TestMoves: what moves within a moment is one line, and then there is one in a while.
func TestMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		m := &moves{log: slog.New(slog.NewTextHandler(&said, nil)), share: func() (int, int) { return 3, 16 }}
		for range 16 {
			m.misses(1)
		}
		m.took(5)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "taken=5 given_back=0 lost=16 has=3 of=16") || !strings.Contains(got, "level=WARN") {
			t.Errorf("one line was to tell of all that moved:\n%s", got)
		}
		said.Reset()
		for range 60 {
			m.took(1)
			m.gave(1)
			time.Sleep(time.Second)
		}
		m.flush()
		if n := strings.Count(said.String(), "\n"); n < 6 || n > 7 {
			t.Errorf("%d lines in a minute:\n%s", n, said.String())
		}
		taken := strings.Count(said.String(), "taken=10 given_back=10")
		if taken < 5 {
			t.Errorf("the counts are not of all that moved:\n%s", said.String())
		}
	})
}
