package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/queue"
)

// A network that loses everything breaks no connection: a commit that is under way would be waited
// for until the link finds the database away, which takes as long as a busy database may be slow. So
// there is a second, quicker measure, for those who can be told to come back: the database is silent
// when something waits for an answer of it and no byte has come for about a second, on any
// connection. How long one commit takes says nothing, since the connection for notifications asks
// meanwhile, and its answers count.
//
// While the database is silent, nothing new is taken (Full), and what waits behind others is given
// back (present). What is under way goes on, and what it comes to is found out as ever; whoever
// waits for it is told by its door that nobody knows.

const (
	// silentAfter is for how long no byte has come when the database is silent.
	silentAfter = time.Second
	// silenceEvery is how often that is looked at. It is the looks that are counted: a process that
	// stood still has not listened meanwhile.
	silenceEvery = 100 * time.Millisecond
	// askSooner is for how long nothing has come when the connection for notifications asks, while
	// something waits for an answer.
	askSooner = 2 * silenceEvery
)

var errSilence = fmt.Errorf("%w: %w", queue.ErrAway, errors.New("the database has answered to nothing for a second"))

// asks notes that an answer of the database is waited for, until ended is called.
func (l *link) asks() (ended func()) {
	l.asked.Add(1)
	return func() { l.asked.Add(-1) }
}

// comes notes that bytes came.
func (l *link) comes() {
	l.bytes.Add(1)
	if l.silent.Load() {
		l.speaks()
	}
}

// speaks ends a silence.
func (l *link) speaks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent.Swap(false) && l.why == nil {
		l.presence, l.leave = context.WithCancel(context.Background())
	}
}

// looks is one look at whether anything came since the last. Only one goroutine looks.
func (l *link) looks() {
	came := l.bytes.Load()
	if came != l.seen || l.asked.Load() == 0 {
		l.seen = came
		l.still.Store(0)
		return
	}
	if l.still.Add(int64(silenceEvery)) < int64(silentAfter) {
		return
	}
	l.mu.Lock()
	l.silent.Store(true)
	l.leave()
	l.mu.Unlock()
	if l.bytes.Load() != came { // who brought them may have looked before
		l.speaks()
	}
}

// waits reports whether something waits for an answer, and nothing has come for a moment.
func (l *link) waits() bool { return l.still.Load() >= int64(askSooner) }

// silence is why nothing new is taken from anybody who can be told to come back; nil when there is
// no reason.
func (l *link) silence() error {
	if l.silent.Load() {
		return errSilence
	}
	return nil
}

// watchSilence looks until ctx ends.
func (s *Store) watchSilence(ctx context.Context) {
	tick := time.NewTicker(silenceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.link.looks()
		case <-ctx.Done():
			return
		}
	}
}

// heardConn tells the link of what comes.
type heardConn struct {
	net.Conn
	l *link
}

func (c heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.l.comes()
	}
	return n, err //nolint:wrapcheck // it stands for the connection
}

// hearing has dial make connections that tell the link of what comes.
func (l *link) hearing(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return heardConn{c, l}, nil
	}
}
