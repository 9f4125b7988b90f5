package postgresstore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	postgresstore "github.com/weirdata/weir/internal/store/postgres"
)

func build(t *testing.T, dsn string, log *slog.Logger) (connector.StoreOpener, error) {
	t.Helper()
	return postgresstore.Entry.Build(t.Context(), connector.Deps{Log: log}, func(into any) error {
		c := into.(*postgresstore.Config)
		c.DSN, c.PatienceSeconds = dsn, 1
		return nil
	})
}

// TestSecrets keeps the password out of identities, errors and logs, whether the DSN can
// be read or not, and whether the database answers or not.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hushhush"
	for dsn, identity := range map[string]string{
		"postgres://me:" + secret + "@127.0.0.1:1/db":                              "postgres 127.0.0.1:1/db schema weir",
		"postgresql://me:" + secret + "@127.0.0.1/db?port=1&sslmode=disable":       "postgres 127.0.0.1:1/db schema weir",
		"postgres://127.0.0.1:1/db?user=me&password=" + secret:                     "postgres 127.0.0.1:1/db schema weir",
		"host=127.0.0.1 port=1 user=me password='" + secret + ` \' x' dbname=db`:   "postgres 127.0.0.1:1/db schema weir",
		"host = 127.0.0.1 port=1 user=me password=" + secret + ` database = 'a b'`: "postgres 127.0.0.1:1/a b schema weir",
		"postgres://me:%zz" + secret + "@127.0.0.1/db":                             "",
		"postgres://me:" + secret + "@127.0.0.1:port/db":                           "",
		"password=" + secret + " host":                                             "",
		"password='" + secret:                                                      "",
		"host=127.0.0.1 port=" + secret:                                            "",
		"postgres://me:" + secret + "@127.0.0.1/db?sslmode=never":                  "",
		secret: "",
	} {
		t.Run(strings.ReplaceAll(dsn, secret, "*"), func(t *testing.T) {
			t.Parallel()
			var lines bytes.Buffer
			o, err := build(t, dsn, slog.New(slog.NewTextHandler(&lines, nil)))
			if identity == "" {
				if err == nil || fault.Of(err) != fault.Setup {
					t.Errorf("New: %v, want a setup error", err)
				}
			} else if err != nil {
				t.Errorf("New: %v", err)
			} else if o.Identity() != identity {
				t.Errorf("identity %q, want %q", o.Identity(), identity)
			} else if _, err = o.Open(t.Context()); err == nil {
				t.Error("a database on port 1 answers")
			}
			if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, lines.String()), secret) {
				t.Errorf("the secret is in an error or log: %v %s", err, lines.String())
			}
		})
	}
}

// TestStore opens a store, and opens it again.
func TestStore(t *testing.T) {
	t.Parallel()
	o, err := build(t, enginetest.Postgres(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(2) {
		s, err := o.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))})
		}); err != nil {
			t.Error(err)
		}
		if st, err := s.Stats(t.Context(), queue.Filter{Queue: "q"}); err != nil || st.Waiting != n+1 {
			t.Errorf("stats %+v, %v", st, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := *postgresstore.Entry.Default().(*postgresstore.Config)
	good.DSN = "postgres://host/db"
	if ps := good.Validate(); len(ps) > 0 {
		t.Errorf("the defaults are refused: %v", ps)
	}
	for field, change := range map[string]func(*postgresstore.Config){
		"dsn":                 func(c *postgresstore.Config) { c.DSN = "" },
		"schema":              func(c *postgresstore.Config) { c.Schema = "Weir" },
		"partitions":          func(c *postgresstore.Config) { c.Partitions = 257 },
		"spread":              func(c *postgresstore.Config) { c.Spread = 17 },
		"max_committers":      func(c *postgresstore.Config) { c.MaxCommitters = 17 },
		"max_readers":         func(c *postgresstore.Config) { c.MaxReaders = 0 },
		"lease_seconds":       func(c *postgresstore.Config) { c.LeaseSeconds = 0 },
		"poll_interval_ms":    func(c *postgresstore.Config) { c.PollIntervalMs = 0 },
		"patience_seconds":    func(c *postgresstore.Config) { c.PatienceSeconds = 0 },
		"timeout_seconds":     func(c *postgresstore.Config) { c.TimeoutSeconds = -1 },
		"max_bytes":           func(c *postgresstore.Config) { c.MaxBytes = -1 },
		"segment_bytes":       func(c *postgresstore.Config) { c.SegmentBytes = 1 },
		"segment_age_seconds": func(c *postgresstore.Config) { c.SegmentAgeSeconds = 0 },
		"cache_bytes":         func(c *postgresstore.Config) { c.CacheBytes = -1 },
	} {
		c := good
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != field {
			t.Errorf("%s: problems %v", field, ps)
		}
	}
}
