// Package suppression is the set of users of whom nothing may be kept: who asked to be forgotten, in
// a workspace or for some of its sources. It is on disk, however large, and answers exactly.
//
// # Where the users come from
//
// One of: a control plane, or another gateway, that is polled (poll.go); a file (file.go); or requests
// (serve.go). All of them speak of users in the same form:
//
//	{"workspaceId":"w","userId":"u","sourceIds":["s"],"canceled":false,"createdAt":"..."}
//
// No sourceIds stand for every source. Canceled takes back what was said of the same sources, or of
// every source, and nothing else. An item of a file without a workspaceId counts in every workspace.
//
// # Format
//
// The folder is a Pebble database:
//
//	a            the version of the format, and whose users these are
//	c ws number  a change that was requested, as JSON: the newest of each user and source
//	f            which file was read last: size and time
//	k hash       the number of the newest change of a workspace, user and source
//	n            how many users there are
//	r            the number of the last reading of the file that was begun
//	s            the number of the last change
//	t            whether there were no more pages, and the token of the next page of a control plane
//	u hash       the reading that a suppressed user was found in, and the sources
//
// A hash is the first 16 bytes of the SHA-256 of the lengths and texts of its parts.
//
// # Invariants
//
//   - What says yes is the database. A filter in memory says no where it can, and is never wrong in that.
//   - A page of changes is applied with its token, all or nothing, and synced before it counts as known.
//   - Until a set has been complete once it cannot be opened: nobody is let through by mistake.
//   - A question that cannot be answered is an error: the event is not taken.
package suppression

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/wire"
)

// Item is what is said of one user.
type Item struct {
	Workspace string    `json:"workspaceId"`
	User      string    `json:"userId"`
	Sources   []string  `json:"sourceIds"`
	Canceled  bool      `json:"canceled"`
	Created   time.Time `json:"createdAt"`
}

// every stands for all sources of a workspace.
const every = "*"

// Options are where a set is, and where its users come from.
type Options struct {
	// Path is the folder.
	Path string
	// Plane is polled, where it is not nil; File is read and watched, where it is not empty. With
	// neither, users are put by requests.
	Plane *Plane
	File  string
	Log   *slog.Logger
}

// identity says whose users they are, without what is secret.
func (o *Options) identity() string {
	switch {
	case o.Plane != nil:
		return "control plane " + o.Plane.address()
	case o.File != "":
		return "file " + filepath.Base(o.File)
	}
	return "requests"
}

// Set is a set of users. Its methods may be called by many goroutines.
type Set struct {
	o Options

	opening sync.Mutex // held to open and to close
	openers int        // that have not closed it
	stop    context.CancelFunc
	ended   sync.WaitGroup

	access atomic.Pointer[Access]

	gate sync.RWMutex // held while db is used
	db   *pebble.DB   // nil while it is closed

	changing sync.Mutex // one change at a time
	count    atomic.Int64
	filter   atomic.Pointer[filter] // nil while it is made
	making   *filter                // of changing: gets what is put meanwhile

	whole  atomic.Bool  // it has been complete once
	synced atomic.Int64 // when it was last known to be up to date, in Unix nanoseconds; 0: never

	telling sync.Mutex
	trouble string // told and not ended
	unread  string // told
}

// New makes a set that is not open; it touches neither network nor disk.
func New(o Options) *Set {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Set{o: o}
}

const formatVersion = 1

// The memory of the database, less where the process has little.
const (
	tableBytes = 4 << 20
	cacheBytes = 16 << 20
	memoryPart = 32
	leastBytes = 512 << 10
)

// Open opens the set, for each that calls it once more, and begins to keep it up to date. A set that
// has never been complete is waited for, until ctx ends.
func (s *Set) Open(ctx context.Context, a Access) error {
	s.opening.Lock()
	s.access.Store(&a)
	if s.openers == 0 {
		if err := s.open(); err != nil {
			s.access.Store(nil)
			s.opening.Unlock()
			return fmt.Errorf("open the suppressed users %s: %w", s.o.Path, err)
		}
	}
	s.openers++
	s.opening.Unlock()
	if err := s.first(ctx); err != nil {
		return errors.Join(fmt.Errorf("suppressed users %s: %w", s.o.Path, err), s.Close())
	}
	return nil
}

// open opens the database. opening is held.
func (s *Set) open() error {
	table := memorylimit.Share(tableBytes, memoryPart, leastBytes)
	cache := pebble.NewCache(2*table + memorylimit.Share(cacheBytes, memoryPart, leastBytes))
	defer cache.Unref()
	o := &pebble.Options{
		MemTableSize: uint64(table), Cache: cache, MaxOpenFiles: 128, L0CompactionThreshold: 4,
		FormatMajorVersion: pebble.FormatMajorVersion(24), Logger: quiet{},
	}
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	db, err := pebble.Open(s.o.Path, o)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	if err := s.begin(db); err != nil {
		return errors.Join(err, db.Close())
	}
	s.gate.Lock()
	s.db = db
	s.gate.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.ended.Go(func() { s.remake(ctx) })
	switch {
	case s.o.Plane != nil:
		s.ended.Go(func() { s.poll(ctx) })
	case s.o.File != "":
		s.ended.Go(func() { s.watch(ctx) })
	}
	return nil
}

// begin reads what is kept about the set, or says in a new one whose it is.
func (s *Set) begin(db *pebble.DB) error {
	mine := append([]byte{formatVersion}, s.o.identity()...)
	is, err := get(db, []byte("a"))
	switch {
	case err != nil:
		return err
	case is == nil:
		return db.Set([]byte("a"), mine, pebble.Sync)
	case len(is) == 0 || is[0] != formatVersion:
		return fault.New(fault.Setup, errors.New("a later version has written it: run that, or remove the folder to have it made again"))
	case !bytes.Equal(is, mine):
		return fault.New(fault.Setup, fmt.Errorf("it holds the users of %s, and not of %s: name another path, or remove the folder to have it made again", is[1:], s.o.identity()))
	}
	n, err := get(db, []byte("n"))
	if err != nil {
		return err
	}
	p := wire.Reader{Rest: n}
	s.count.Store(int64(p.Uvarint()))
	mark := []byte("t")
	if s.o.File != "" {
		mark = []byte("f")
	}
	known, err := get(db, mark)
	s.whole.Store(known != nil && (s.o.Plane == nil || known[0] == wholly))
	return err
}

// first waits until the set has been complete once.
func (s *Set) first(ctx context.Context) error {
	if s.o.Plane == nil && s.o.File == "" {
		s.whole.Store(true)
		s.synced.Store(time.Now().UnixNano())
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.whole.Load() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.telling.Lock()
			why := s.trouble
			s.telling.Unlock()
			if why == "" {
				why = "it is still being read"
			}
			return fault.New(fault.Transient, fmt.Errorf("nobody is taken for not suppressed until all of them were read once: %s", why))
		}
	}
	return nil
}

// Close closes the set once all have that have opened it.
func (s *Set) Close() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.openers == 0 {
		return nil
	}
	if s.openers--; s.openers > 0 {
		return nil
	}
	s.stop()
	s.ended.Wait()
	s.access.Store(nil)
	s.gate.Lock()
	defer s.gate.Unlock()
	db := s.db
	s.db = nil
	s.filter.Store(nil)
	if err := db.Close(); err != nil {
		return fmt.Errorf("close the suppressed users %s: %w", s.o.Path, err)
	}
	return nil
}

// hash is that of some texts.
func hash(parts ...string) (h [16]byte) {
	var room [256]byte
	b := room[:0]
	for _, part := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

// errClosed is a question to a set that is not open.
var errClosed = errors.New("the suppressed users are not open")

// Suppressed reports whether nothing may be kept of a user in a source.
func (s *Set) Suppressed(workspace, source, user string) (bool, error) {
	yes, err := s.holds(hash(workspace, user), source)
	if !yes && err == nil && s.o.File != "" && workspace != "" {
		yes, err = s.holds(hash("", user), source)
	}
	if err != nil {
		s.unsure(err)
	}
	return yes, err
}

// unsure says once that events are refused since nobody can say whose may be kept.
func (s *Set) unsure(err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	if text := err.Error(); text != s.unread {
		s.unread = text
		s.o.Log.Error("the suppressed users cannot be asked: events of users that may be among them are refused with 503", "path", s.o.Path, "error", text)
	}
}

func (s *Set) holds(user [16]byte, source string) (bool, error) {
	if f := s.filter.Load(); f != nil && !f.may(user) {
		return false, nil
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.db == nil {
		return false, fault.New(fault.Transient, errClosed)
	}
	v, err := get(s.db, append([]byte("u"), user[:]...))
	if err != nil || v == nil {
		return false, err
	}
	_, sources := readUser(v)
	return slices.Contains(sources, every) || slices.Contains(sources, source), nil
}

// Count is how many users are suppressed anywhere.
func (s *Set) Count() int64 { return s.count.Load() }

// Synced is when the set was last known to be up to date; zero: never since it was opened.
func (s *Set) Synced() time.Time {
	if n := s.synced.Load(); n > 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// get copies a value; nil when there is none.
func get(from pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Transient, fmt.Errorf("read the suppressed users: %w", err))
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, closer.Close()
}

// readUser reads in which reading a user was found, and the sources.
func readUser(b []byte) (round uint64, sources []string) {
	p := wire.Reader{Rest: b}
	round = p.Uvarint()
	for len(p.Rest) > 0 && !p.Bad {
		sources = append(sources, p.Text())
	}
	return round, sources
}

func writeUser(round uint64, sources []string) []byte {
	b := binary.AppendUvarint(nil, round)
	for _, s := range sources {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

// quiet leaves the log to what concerns users.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("suppressed users: "+format, args...))
}
