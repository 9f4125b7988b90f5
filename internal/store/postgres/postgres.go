// Package postgresstore is the store "postgres": the durable store in a PostgreSQL
// database, which several processes share.
//
// The processes that read a queue divide its partitions among themselves: each works on the
// messages of its own, and takes over those of one that ends or dies. A process that only
// writes, and a command, takes none. The DSN is a secret:
// it is in no error, no log and no identity.
package postgresstore

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/postgres"
)

// Config is the HCL of the PostgreSQL store.
type Config struct {
	// Where the database is, as a URL (postgres://user:password@host/database) or as
	// key=value words. The connection must be direct or through a pooler in session mode:
	// one that gives each transaction another session is refused.
	// Write env.NAME, so that the password is in no file.
	DSN string `hcl:"dsn"`
	// Schema that holds the store; it is made when it is not there. Lower-case letters,
	// digits and "_"; at most 40 characters.
	Schema string `hcl:"schema,optional"`
	// Number of parts of each queue, which the processes that read it share out among
	// themselves, from 1 to 256. It is fixed when the schema is made.
	Partitions int `hcl:"partitions,optional"`
	// Over how many partitions the messages of one queue and one workspace, source and
	// destination are spread by their key, from 1 to partitions. With 1 they are handed out
	// in the order they came; above 1 only those of one key are, and several processes can
	// work on them. It is fixed when the schema is made.
	Spread int `hcl:"spread,optional"`
	// What this process is called in the table of processes; empty means the host name and
	// the process number.
	ProcessName string `hcl:"process_name,optional"`
	// Most transactions that write at once, from 1 to 16; each takes a connection.
	MaxCommitters int `hcl:"max_committers,optional"`
	// Most connections that read. At least 1. With max_committers and one more they are all
	// the connections of a process.
	MaxReaders int `hcl:"max_readers,optional"`
	// Seconds that a process which is not heard of keeps its partitions. At least 1. Another
	// process has taken them over half as long later.
	LeaseSeconds int `hcl:"lease_seconds,optional"`
	// Milliseconds between two looks for messages of other processes whose notification got
	// lost. At least 1.
	PollIntervalMs int `hcl:"poll_interval_ms,optional"`
	// Seconds that a call waits for a database that is away before it fails and the
	// pipeline's retry block decides. At least 1. What brings new messages does not wait: callers of
	// an http or gateway source get 503 with Retry-After at once, and when nothing has come from the
	// database for about a second although something waits for it.
	PatienceSeconds int `hcl:"patience_seconds,optional"`
	// Seconds that a process which starts waits for a database that is away; 0 means not at all.
	// Meanwhile /readyz answers 503 with the reason, and /healthz 200.
	StartWaitSeconds int `hcl:"start_wait_seconds,optional"`
	// Seconds that one statement may take. At least 1.
	TimeoutSeconds int `hcl:"timeout_seconds,optional"`
	// Most space the tables of the store may take, in bytes, before it refuses new
	// messages; 0 means no limit.
	MaxBytes int64 `hcl:"max_bytes,optional"`
	// Size, in bytes, at which the log goes on in a new table. At least 1 MiB. A table is
	// dropped when its last message is settled.
	SegmentBytes int64 `hcl:"segment_bytes,optional"`
	// Seconds after which the log goes on in a new table. At least 1.
	SegmentAgeSeconds int `hcl:"segment_age_seconds,optional"`
	// Memory, in bytes, for messages that this process wrote and will read soon, and no more than
	// an eighth of the memory limit; 0 means none.
	CacheBytes int `hcl:"cache_bytes,optional"`
}

// cachePart is the part of the memory limit that the cache takes at the most.
const cachePart = 8

// schemaName is what a schema may be called without quotes in every statement.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

const (
	maxSeconds = 366 * 24 * 60 * 60
	maxMillis  = maxSeconds * 1000
)

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	within := func(field string, got, least, most int64) {
		if got < least {
			ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf("%s must be at least %d, not %d", field, least, got), Fix: "leave it out to use the default"})
		} else if got > most {
			ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf("%s must be at most %d, not %d", field, most, got), Fix: "leave it out to use the default"})
		}
	}
	if c.DSN == "" {
		ps = append(ps, connector.Problem{Field: "dsn", What: "dsn is empty", Fix: "write env.NAME, with the name of a variable that holds postgres://user:password@host/database"})
	}
	if !schemaName.MatchString(c.Schema) {
		ps = append(ps, connector.Problem{Field: "schema", What: fmt.Sprintf("%q is not a name for the schema", c.Schema),
			Fix: `use lower-case letters, digits and "_", starting with a letter or "_"; at most 40 characters`})
	}
	within("partitions", int64(c.Partitions), 1, 256)
	within("spread", int64(c.Spread), 1, int64(max(c.Partitions, 1)))
	within("max_committers", int64(c.MaxCommitters), 1, 16)
	within("max_readers", int64(c.MaxReaders), 1, 1000)
	within("lease_seconds", int64(c.LeaseSeconds), 1, maxSeconds)
	within("poll_interval_ms", int64(c.PollIntervalMs), 1, maxMillis)
	within("patience_seconds", int64(c.PatienceSeconds), 1, maxSeconds)
	within("start_wait_seconds", int64(c.StartWaitSeconds), 0, maxSeconds)
	within("timeout_seconds", int64(c.TimeoutSeconds), 1, maxSeconds)
	within("max_bytes", c.MaxBytes, 0, math.MaxInt64)
	within("segment_bytes", c.SegmentBytes, 1<<20, math.MaxInt64)
	within("segment_age_seconds", int64(c.SegmentAgeSeconds), 1, maxSeconds)
	within("cache_bytes", int64(c.CacheBytes), 0, math.MaxInt64)
	return ps
}

// Entry is the PostgreSQL store.
var Entry = connector.Of(connector.Spec[Config, connector.StoreOpener]{
	Name: "postgres", Summary: "Keeps queues in a PostgreSQL database, which several processes share.", Stability: connector.Stable,
	Default: func() Config {
		return Config{
			Schema: "weir", Partitions: 16, Spread: 1, MaxCommitters: 4, MaxReaders: 8, LeaseSeconds: 6, PollIntervalMs: 1000,
			PatienceSeconds: 10, StartWaitSeconds: 60, TimeoutSeconds: 30, SegmentBytes: 256 << 20, SegmentAgeSeconds: 600, CacheBytes: 64 << 20,
		}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.StoreOpener, error) {
		o := opener{options: options(d, c), wait: time.Duration(c.StartWaitSeconds) * time.Second}
		place, err := placeOf(c.DSN)
		if err != nil {
			return nil, err
		}
		o.identity = "postgres " + place + " schema " + c.Schema
		// A store is opened once only, so this one is just the check of the options.
		if _, err := postgres.New(o.options); err != nil {
			return nil, err
		}
		return o, nil
	},
})

func options(d connector.Deps, c Config) postgres.Options {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	cache := int(memorylimit.Share(int64(c.CacheBytes), cachePart, 0))
	if cache == 0 {
		cache = -1
	}
	return postgres.Options{
		DSN: c.DSN, Schema: c.Schema, Partitions: c.Partitions, Spread: c.Spread, Name: c.ProcessName,
		Committers: c.MaxCommitters, Readers: c.MaxReaders,
		Lease: seconds(c.LeaseSeconds), Poll: time.Duration(c.PollIntervalMs) * time.Millisecond,
		Patience: seconds(c.PatienceSeconds), Timeout: seconds(c.TimeoutSeconds),
		MaxBytes: c.MaxBytes, SegmentBytes: c.SegmentBytes, SegmentAge: seconds(c.SegmentAgeSeconds), CacheBytes: cache, Log: d.Log,
	}
}

type opener struct {
	options  postgres.Options
	wait     time.Duration // of a start, for a database that is away
	identity string
}

// Identity implements connector.StoreOpener.
func (o opener) Identity() string { return o.identity }

// Renew implements connector.StoreOpener.
func (o opener) Renew(ctx context.Context, open queue.Store) (adopt func() ([]string, error), err error) {
	s, ok := open.(*postgres.Store)
	if !ok {
		return nil, fmt.Errorf("renew the options of the queue store: a %T is open", open)
	}
	login, err := s.Relogin(ctx, o.options.DSN)
	if err != nil {
		return nil, connector.Blame("dsn", "correct the password, or what the files hold that it names: the store stays open with those of before", err)
	}
	return func() ([]string, error) {
		login()
		return s.Retune(o.options)
	}, nil
}

// Survey finds what would keep the store from being opened, without making anything, and the
// queues that have messages and that no process reads.
func (o opener) Survey(ctx context.Context) ([]queue.Backlog, error) {
	s, err := postgres.New(o.options)
	if err != nil {
		return nil, err
	}
	return s.Survey(ctx)
}

// Salvage makes the damaged store usable with everything that can still be read. It returns in
// a sentence how that ended, and what is kept and lost in plain numbers.
func (o opener) Salvage(ctx context.Context, progress func(done, total int64)) (summary string, figures map[string]int64, err error) {
	r, err := postgres.Salvage(ctx, o.options, progress)
	if err != nil {
		return "", nil, err
	}
	summary = "nothing that is in its tables is missing"
	if r.Lost() {
		summary = "some of what was acknowledged is lost; what is there of it is in the table \"salvaged\" of the schema"
	}
	return summary, map[string]int64{
		"open_messages": r.Open, "dead_messages": r.Dead, "partitions_made_from_the_log": r.Made, "lost_batches": r.LostBatches,
		"lost_messages": r.LostJobs, "lost_results": r.Changes,
	}, nil
}

// Open implements connector.StoreOpener.
func (o opener) Open(ctx context.Context) (queue.Store, error) {
	s, err := postgres.New(o.options)
	if err != nil {
		return nil, err
	}
	if err := s.Open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenWaiting implements connector.PatientOpener.
func (o opener) OpenWaiting(ctx context.Context, waits func(error, time.Duration)) (queue.Store, error) {
	s, err := postgres.New(o.options)
	if err != nil {
		return nil, err
	}
	if err := s.OpenWithin(ctx, o.wait, func(why error) { waits(why, o.wait) }); err != nil {
		return nil, err
	}
	return s, nil
}
