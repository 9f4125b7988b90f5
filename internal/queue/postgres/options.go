package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/fault"
)

// Options say which store to open, and how. Zero fields have the defaults named here.
type Options struct {
	// DSN names the database, as a URL (postgres://user:password@host/database) or as
	// key=value words. The connection must be direct or through a pooler in session mode.
	DSN string
	// Schema is the schema that holds the store, "weir" by default. It is created when it
	// is not there.
	Schema string
	// Partitions is the number of parts that processes share out among themselves, from 1
	// to 256, 16 by default. It is fixed when the schema is created.
	Partitions int
	// Spread is over how many partitions the jobs of one queue and scope are spread by
	// their key, 1 by default. With 1 they are handed out in order of append; above 1 only
	// jobs of one key are, and several processes can work on one queue and scope. It is
	// fixed when the schema is created.
	Spread int
	// Name is what this process is called in the table of processes; the host name and
	// process number by default.
	Name string
	// Committers is the most transactions that write at once, from 1 to 16, 4 by default.
	Committers int
	// Readers is the most connections that read, 8 by default. The store needs
	// Committers + Readers + 1 connections.
	Readers int
	// Lease is how long a process that is not heard of keeps its partitions, 6 seconds by
	// default, at least 1 second. Another process has taken them over half a lease later.
	Lease time.Duration
	// Poll is how often a process looks for jobs that others appended and whose
	// notification got lost, 1 second by default.
	Poll time.Duration
	// Patience is how long a call waits for a database that is away before it fails, 10
	// seconds by default.
	Patience time.Duration
	// Timeout is the most a statement may take, 30 seconds by default.
	Timeout time.Duration
	// MaxBytes is the size of the store's tables from which on new jobs and records are
	// refused with queue.ErrFull; 0 means no limit. It is measured every two seconds.
	MaxBytes int64
	// SegmentBytes is the size at which the log goes on in a new table, 256 MiB by
	// default. A table is dropped when its last job is settled.
	SegmentBytes int64
	// SegmentAge is the age at which the log goes on in a new table, 10 minutes by default.
	SegmentAge time.Duration
	// CacheBytes is the memory for values that this process appended lately and will read
	// soon, 64 MiB by default; negative for none.
	CacheBytes int
	// Window is the most jobs of one queue and scope that are handed out and not settled;
	// 0 means the default of package partition.
	Window int
	// Log gets what goes wrong outside of any call; nil discards it.
	Log *slog.Logger
	// Now is the clock of jobs, that of the database by default. Ownership goes by the real clock.
	Now func() time.Time

	wall func() time.Time // the clock of this machine
}

func (o Options) withDefaults() Options {
	o.Schema = cmp.Or(o.Schema, "weir")
	o.Partitions = cmp.Or(o.Partitions, 16)
	o.Spread = cmp.Or(o.Spread, 1)
	o.Committers = cmp.Or(o.Committers, 4)
	o.Readers = cmp.Or(o.Readers, 8)
	o.Lease = cmp.Or(o.Lease, 6*time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 256<<20)
	o.SegmentAge = cmp.Or(o.SegmentAge, 10*time.Minute)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	if o.wall == nil {
		o.wall = time.Now
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Name = host + "/" + strconv.Itoa(os.Getpid())
	}
	return o
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// check refuses options that could never work.
func (o *Options) check() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.DSN == "", "DSN is empty: set it to postgres://user:password@host/database")
	if _, err := pgx.ParseConfig(o.DSN); err != nil {
		errs = append(errs, dsnError(err))
	}
	refuse(!schemaName.MatchString(o.Schema), "schema %q must match %s", o.Schema, schemaName)
	refuse(o.Partitions < 1 || o.Partitions > 256, "partitions is %d, it must be from 1 to 256", o.Partitions)
	refuse(o.Spread < 1 || o.Spread > o.Partitions, "spread is %d, it must be from 1 to the number of partitions, %d", o.Spread, o.Partitions)
	refuse(o.Committers < 1 || o.Committers > 16, "committers is %d, it must be from 1 to 16", o.Committers)
	refuse(o.Readers < 1, "readers is %d, it must be 1 or more", o.Readers)
	refuse(o.Lease < time.Second, "lease is %s, it must be 1s or more", o.Lease)
	refuse(o.Poll <= 0 || o.Patience <= 0 || o.Timeout <= 0 || o.SegmentAge <= 0, "poll, patience, timeout and segment age must be more than 0")
	refuse(o.MaxBytes < 0 || o.SegmentBytes < 0, "max bytes and segment bytes must not be negative")
	if len(errs) == 0 {
		return nil
	}
	return fault.New(fault.Setup, fmt.Errorf("open queue store in PostgreSQL: %w", errors.Join(errs...)))
}

// dsnError says that a DSN cannot be read, without showing the DSN, which may hold a
// password.
func dsnError(err error) error {
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		if cause := errors.Unwrap(parse); cause != nil {
			return fmt.Errorf("%w: %w", errDSN, cause)
		}
	}
	return errDSN
}

var errDSN = errors.New("the DSN cannot be read")
