package postgres

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/weirdata/weir/internal/enginetest"
)

// pooler is a pooler of a test: for each transaction, or for each connection, it takes the session of
// the server that was given back last, as a pooler does.
type pooler struct {
	t    *testing.T
	to   string
	user string
	db   string
	each bool // transaction, not connection

	mu   sync.Mutex
	idle []*pgproto3.Frontend
	all  []net.Conn
}

// startPooler is a pooler before a database, and its DSN.
func startPooler(t *testing.T, dsn string, each bool) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pooler{t: t, to: u.Host, user: u.User.Username(), db: u.Path[1:], each: each}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.keep(c)
			wg.Go(func() { _ = p.serve(c) }) // it ends with the client
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.all {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	u.Host = l.Addr().String()
	return u.String()
}

func (p *pooler) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, c)
}

// take is a session of the server.
func (p *pooler) take() (*pgproto3.Frontend, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		f := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return f, nil
	}
	p.mu.Unlock()
	c, err := net.Dial("tcp", p.to)
	if err != nil {
		return nil, err
	}
	p.keep(c)
	f := pgproto3.NewFrontend(c, c)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": p.user, "database": p.db}})
	if err := f.Flush(); err != nil {
		return nil, err
	}
	for {
		m, err := f.Receive()
		if err != nil {
			return nil, err
		}
		if _, ready := m.(*pgproto3.ReadyForQuery); ready {
			return f, nil
		}
	}
}

func (p *pooler) give(f *pgproto3.Frontend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, f)
}

func (p *pooler) serve(c net.Conn) error {
	b := pgproto3.NewBackend(c, c)
	for {
		m, err := b.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		if _, plain := m.(*pgproto3.StartupMessage); plain {
			break
		}
		if _, err := c.Write([]byte("N")); err != nil { // no TLS
			return err
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1 << 30, SecretKey: []byte{1, 2, 3, 4}}) // its own
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := b.Flush(); err != nil {
		return err
	}
	var f *pgproto3.Frontend
	for {
		m, err := b.Receive()
		if err != nil {
			return err
		}
		if _, ends := m.(*pgproto3.Terminate); ends {
			return nil
		}
		if f == nil {
			if f, err = p.take(); err != nil {
				return err
			}
		}
		f.Send(m)
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			status, err := answer(f, b)
			if err != nil {
				return err
			}
			if p.each && status == 'I' {
				p.give(f)
				f = nil
			}
		}
	}
}

// answer passes on what the server says until it is ready again.
func answer(f *pgproto3.Frontend, b *pgproto3.Backend) (status byte, err error) {
	if err := f.Flush(); err != nil {
		return 0, err
	}
	for {
		m, err := f.Receive()
		if err != nil {
			return 0, err
		}
		b.Send(m)
		if ready, ok := m.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus, b.Flush()
		}
	}
}

// TestPooler refuses a pooler that gives each transaction another session, before anything is set in
// a session that is somebody else's, and takes one that keeps a session for a connection.
func TestPooler(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	shared, err := New(Options{DSN: startPooler(t, dsn, true), Partitions: 2, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Survey(t.Context()); !errors.Is(err, errPooled) {
		t.Errorf("Survey through a pooler of transactions: %v", err)
	}
	if err := shared.Open(t.Context()); !errors.Is(err, errPooled) {
		t.Errorf("Open through a pooler of transactions: %v", err)
	}
	s := open(t, Options{DSN: startPooler(t, dsn, false), Partitions: 2, Log: discard()})
	if err := putIn(s, "in", "through a pooler"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "through a pooler")
}
