package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// login is as whom connections are made: what the DSN says, with what the files hold that it names,
// such as passfile, sslcert and sslrootcert. They are read for each connection; while they cannot
// be, connections are made by what they held before.
type login struct {
	mu   sync.Mutex
	dsn  string
	good *pgx.ConnConfig // of the last DSN that could be read with its files; nil before
	bad  string          // why they could not be read last, as it was told
}

// settings are those of a new connection.
func (s *Store) settings() (*pgx.ConnConfig, error) {
	l := &s.login
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg, err := parse(l.dsn)
	if err == nil {
		l.good, l.bad = cfg, ""
		return s.heardBy(cfg), nil
	}
	if l.good == nil {
		return nil, err
	}
	if l.bad != err.Error() {
		l.bad = err.Error()
		s.o.Log.Warn("the files that the DSN of the store names cannot be used; connections are made by what they held before", "error", err)
	}
	return s.heardBy(l.good), nil
}

// heardBy is a copy of cfg whose connections tell the link of what comes.
func (s *Store) heardBy(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	cfg = cfg.Copy()
	cfg.DialFunc = s.link.hearing(cfg.DialFunc)
	return cfg
}

func parse(dsn string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, dsnError(err)
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	return cfg, nil
}

// Relogin has new connections made by another DSN of the same database, whose password or
// certificates are others, once adopt is called. An error says that the server refuses it, or that
// a file cannot be read; then nothing changes. A database that is away refuses nothing.
func (s *Store) Relogin(ctx context.Context, dsn string) (adopt func(), err error) {
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("renew the login of the queue store: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := pgx.ConnectConfig(bounded, cfg)
	if err == nil {
		err = c.Close(bounded)
	}
	if err = meaning(err); err != nil && !passes(err) {
		return nil, fmt.Errorf("renew the login of the queue store: connect to PostgreSQL: %w", err)
	}
	return func() {
		l := &s.login
		l.mu.Lock()
		l.dsn, l.good, l.bad = dsn, cfg, ""
		l.mu.Unlock()
		if s.state.Load() == stateOpen {
			s.pool.Reset() // connections of before end when their work does
		}
	}, nil
}

// before is pgxpool's BeforeConnect.
func (s *Store) before(_ context.Context, to *pgx.ConnConfig) error {
	cfg, err := s.settings()
	if err != nil {
		return errors.Join(errDSN, err)
	}
	*to = *cfg
	return nil
}
