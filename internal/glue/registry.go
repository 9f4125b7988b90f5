package glue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/parquet"
)

// Folders are what a registry is of: a dataset of Parquet files in folders KEY=VALUE/KEY=VALUE.
type Folders struct {
	Name    iceberg.Name
	Address string   // the URI of the dataset
	Keys    []string // of the folders; none for a dataset without
	// Years, if set, has Athena work out the folders of these years and those between, rather
	// than look for them in the catalog.
	Years []int // the first and the last; or none
	// All lists the folders that the dataset has.
	All func(ctx context.Context) iter.Seq2[string, error]
}

// Registry keeps the entry of a dataset as the dataset is: its columns, and its folders as
// partitions. What is not registered yet waits here, and is tried until it is, which keeps nobody
// from landing. The first try compares all that the dataset has with all that the catalog has,
// so nothing that was not registered before a restart is forgotten, nor what somebody has removed.
//
// Columns are only added, members of structs too; a column whose type was declared otherwise
// stays so. A partition has no columns of its own, and so those of the table.
type Registry struct {
	f       Folders
	access  Access
	version string
	log     *slog.Logger

	wake chan struct{} // has an element when there is something to do
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	schema  *parquet.Schema     // the newest
	pending map[string]struct{} // folders that the catalog may not have
	idle    bool                // all is registered
	failed  error               // of the last try

	// What the worker alone uses.
	client  *client
	begun   bool                // the catalog and the dataset were compared
	known   map[string]struct{} // folders that the catalog has
	through int                 // the version of the schema that the catalog has; 0 for none
	outside map[string]bool     // years that were said to be outside of the projection
}

// NewRegistry starts to keep the entry.
func NewRegistry(a Access, version string, log *slog.Logger, f Folders, s *parquet.Schema) *Registry {
	r := &Registry{
		f: f, access: a, version: version, log: log, wake: make(chan struct{}, 1), schema: s,
		pending: map[string]struct{}{}, known: map[string]struct{}{}, outside: map[string]bool{},
	}
	life, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.work.Go(func() { r.run(life) })
	r.poke()
	return r
}

// Landed says that the folders have got files, with the columns of s. It does not wait.
func (r *Registry) Landed(folders []string, s *parquet.Schema) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range folders {
		r.pending[f] = struct{}{}
	}
	if s.Version > r.schema.Version {
		r.schema = s
	}
	r.idle = false
	r.poke()
}

func (r *Registry) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Waiting is how many folders wait to be registered, and why the last try failed.
func (r *Registry) Waiting() (folders int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending), r.failed
}

// Idle reports whether all that has landed is registered.
func (r *Registry) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// closeTime is how long an end waits for the catalog. The next start registers the rest.
const closeTime = 10 * time.Second

// Close tries once more to register what waits, and ends.
func (r *Registry) Close() {
	r.stop()
	r.work.Wait()
	if !r.Idle() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if err := r.try(ctx); err != nil {
			folders, _ := r.Waiting()
			r.log.Warn("not all that has landed is in the catalog of Glue: the next start registers it", keyTable, r.f.Name.String(), "folders", folders, meter.KeyError, err)
		}
	}
	if r.client != nil {
		_ = r.client.Close()
	}
}

const keyTable = "table"

// run registers what lands until the context ends.
func (r *Registry) run(ctx context.Context) {
	failing := false
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		for wait := time.Second; ; wait = min(2*wait, time.Minute) {
			err := r.try(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !failing {
				r.log.Warn("what has landed cannot be registered in the catalog of Glue yet; it is tried again, and landing goes on", keyTable, r.f.Name.String(), meter.KeyError, err)
			} else if err == nil && failing {
				r.log.Info("all that has landed is in the catalog of Glue", keyTable, r.f.Name.String())
			}
			if failing = err != nil; !failing {
				break
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
	}
}

// try registers what waits.
func (r *Registry) try(ctx context.Context) error {
	err := r.register(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = err
	r.idle = err == nil && len(r.pending) == 0 && r.through >= r.schema.Version
	return err
}

func (r *Registry) register(ctx context.Context) (err error) {
	if r.client == nil {
		if r.client, err = dial(ctx, r.access, r.version); err != nil {
			r.client = nil
			return err
		}
	}
	r.mu.Lock()
	s := r.schema
	r.mu.Unlock()
	if len(s.Fields) == 0 {
		return nil // nothing has landed yet
	}
	if !r.begun || s.Version > r.through {
		if err := r.describe(ctx, s); err != nil {
			return err
		}
		r.through = s.Version
	}
	if len(r.f.Keys) == 0 {
		r.mu.Lock()
		clear(r.pending)
		r.mu.Unlock()
		return nil
	}
	if !r.begun {
		if err := r.compare(ctx); err != nil {
			return err
		}
		r.begun = true
	}
	return r.partitions(ctx)
}

// compare finds out which folders the catalog does not have.
func (r *Registry) compare(ctx context.Context) error {
	clear(r.known)
	for values, err := range r.client.partitions(ctx, r.f.Name) {
		if err != nil {
			return err
		}
		if len(values) == len(r.f.Keys) {
			r.known[r.folder(values)] = struct{}{}
		}
	}
	for folder, err := range r.f.All(ctx) {
		if err != nil {
			return fmt.Errorf("list the folders of %s: %w", r.f.Address, err)
		}
		if _, ok := r.known[folder]; !ok {
			r.mu.Lock()
			r.pending[folder] = struct{}{}
			r.mu.Unlock()
		}
	}
	return nil
}

// folder is that of the values of the keys.
func (r *Registry) folder(values []string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = r.f.Keys[i] + "=" + v
	}
	return strings.Join(parts, "/")
}

// values are those of a folder; ok is false for one of another form.
func (r *Registry) values(folder string) (values []string, ok bool) {
	parts := strings.Split(folder, "/")
	if len(parts) != len(r.f.Keys) {
		return nil, false
	}
	for i, p := range parts {
		v, ok := strings.CutPrefix(p, r.f.Keys[i]+"=")
		if !ok || v == "" {
			return nil, false
		}
		values = append(values, v)
	}
	return values, true
}

// projected says once of a year that Athena does not look for its folders.
func (r *Registry) projected(year string) {
	n, err := strconv.Atoi(year)
	if len(r.f.Years) == 0 || r.f.Keys[0] != "year" || err != nil || n >= r.f.Years[0] && n <= r.f.Years[1] || r.outside[year] {
		return
	}
	r.outside[year] = true
	r.log.Warn("Athena does not see the events of a year that projection_years leaves out", keyTable, r.f.Name.String(), "year", year)
}

// partitions registers the folders that wait. One that is refused keeps no other from it.
func (r *Registry) partitions(ctx context.Context) error {
	r.mu.Lock()
	waiting := make([]string, 0, len(r.pending))
	for folder := range r.pending {
		waiting = append(waiting, folder)
	}
	r.mu.Unlock()
	slices.Sort(waiting)
	done := func(folders ...string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, f := range folders {
			r.known[f] = struct{}{}
			delete(r.pending, f)
		}
	}
	waiting = slices.DeleteFunc(waiting, func(folder string) bool {
		_, known := r.known[folder]
		values, ok := r.values(folder)
		if known || !ok {
			done(folder)
			return true
		}
		r.projected(values[0])
		return false
	})
	var errs []error
	for batch := range slices.Chunk(waiting, mostCreated) {
		refused, err := r.client.create(ctx, r.f, batch, r.values)
		if err != nil {
			if aws.Code(err) == codeMissing { // somebody has removed the table
				r.begun, r.through = false, 0
			}
			return errors.Join(append(errs, err)...)
		}
		for _, folder := range batch {
			if err := refused[folder]; err != nil {
				if len(errs) == 0 {
					errs = append(errs, err)
				}
			} else {
				done(folder)
			}
		}
	}
	return errors.Join(errs...)
}
