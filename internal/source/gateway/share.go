package gatewaysource

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/wire"
)

// shared has the limit of a workspace hold over all gateways of a store that processes share. The state of
// the algorithm is a record of the store, from which each gateway takes events in portions: of what it
// holds it lets requests in without asking, so that asking costs a part of a request, however many there are.
//
// Together they let in what the limit says and at most one portion more for each gateway, which it holds
// and may spend later. While the store cannot be reached each lets in its share: the limit, divided by
// how many gateways have taken something of late.
//
// The record's key is "limit/" and the workspace, or its hash where that is long; its value the time at which nothing is used up, by
// the clock of the store, and which gateways have taken something, and when.
type shared struct {
	store queue.Store
	log   *slog.Logger
	name  string // of this gateway, as no other has it

	mu   sync.Mutex
	of   map[string]*account // by workspace; there are as many as the configuration names
	away bool                // the store was, when it was asked last
}

// account is what a gateway knows of the limit of one workspace.
type account struct {
	mu       sync.Mutex
	held     int64     // events that were taken and are not spent
	free     time.Time // when nothing is used up, as the store knew last
	gateways int       // that share the limit, as the store knew last
	next     time.Time // when the store may be asked again
	asking   chan struct{}
	err      error // of the last time it was asked
}

const (
	askGap = 100 * time.Millisecond // after a portion that was not whole
	// askTimeout is long: a store that is away says so, and while it is only slow it keeps no events either.
	askTimeout  = time.Minute
	lately      = 2 * time.Minute
	maxGateways = 256 // in one record
)

// newShared is nil for a store that no other process has.
func newShared(s queue.Store, log *slog.Logger) *shared {
	if _, remote := s.(queue.Remote); !remote {
		return nil
	}
	return &shared{store: s, log: log, name: rand.Text(), of: map[string]*account{}}
}

// portion is how many events a gateway takes at once beyond what it needs.
func (r rate) portion() int64 {
	quarter := float64(r.events) * float64(250*time.Millisecond) / float64(r.window)
	return max(r.burst/32, min(r.burst/2, int64(quarter)), 1)
}

// short is how long it is until n events may be taken, where nothing is used up at free.
func (r rate) short(free, now time.Time, n int64) time.Duration {
	cost, most := r.cost(n), r.cost(r.burst)
	if used := free.Sub(now); used > 0 && used+cost > most {
		return min(used, used+cost-most)
	}
	return 0
}

// part is the rate of one of n that share r.
func (r rate) part(n int) rate {
	return rate{max(r.events/int64(n), 1), max(r.burst/int64(n), 1), r.window}
}

func (s *shared) account(workspace string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[workspace]
	if a == nil {
		a = &account{gateways: 1}
		s.of[workspace] = a
	}
	return a
}

// spent is how long it is until a workspace may send anything, as far as is known without asking.
func (s *shared) spent(r rate, workspace string) time.Duration {
	a := s.account(workspace)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held > 0 || a.err != nil {
		return 0
	}
	return a.wait(r, s.store.Now(), 1)
}

// wait is how long it is until n events may be asked for. a is locked.
func (a *account) wait(r rate, now time.Time, n int64) time.Duration {
	gap := a.next.Sub(now)
	if gap > askGap { // the clock of the store was set back
		gap = 0
	}
	return max(r.short(a.free, now, n), gap, 0)
}

// take takes n events, or returns how long it is until so many may come. Where the store cannot say, own
// decides, which is given this gateway's share.
func (s *shared) take(r rate, workspace string, n int64, own func(rate) time.Duration) time.Duration {
	a := s.account(workspace)
	for {
		a.mu.Lock()
		if a.held >= n {
			a.held -= n
			a.mu.Unlock()
			return 0
		}
		part := r.part(a.gateways)
		need := n - a.held
		if queue.AwayOf(s.store) != nil {
			a.mu.Unlock()
			return own(part)
		}
		if wait := a.wait(r, s.store.Now(), need); wait > 0 {
			a.mu.Unlock()
			return wait
		}
		if a.asking == nil {
			a.asking = make(chan struct{})
			go s.ask(a, r, workspace, need)
		}
		answered := a.asking
		a.mu.Unlock()
		<-answered
		a.mu.Lock()
		err := a.err
		a.mu.Unlock()
		if err != nil {
			return own(part)
		}
	}
}

// ask takes events from the store, at least need or none.
func (s *shared) ask(a *account, r rate, workspace string, need int64) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var got int64
	var is standing
	err := s.store.Update(ctx, func(tx queue.Tx) (err error) {
		got, is, err = s.withdraw(tx, r, workspace, need)
		return err
	})
	s.told(err)
	now := s.store.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.asking)
	a.asking, a.err = nil, err
	if err != nil {
		return
	}
	a.held += got
	a.free, a.gateways = is.free, max(len(is.gateways), 1)
	if got < need+r.portion() {
		a.next = now.Add(askGap)
	}
}

// withdraw takes at least need events in tx, and a portion more where there is as much; or none.
func (s *shared) withdraw(tx queue.Tx, r rate, workspace string, need int64) (got int64, is standing, err error) {
	key := limitKey(workspace)
	value, err := tx.Get(key)
	if err != nil {
		return 0, is, err
	}
	now := s.store.Now()
	if is, err = readStanding(key, value); err != nil {
		return 0, is, err
	}
	if r.short(is.free, now, need) > 0 {
		return 0, is, nil
	}
	if is.free.Before(now) {
		is.free = now
	}
	got = need
	if room := r.cost(r.burst) - is.free.Sub(now) - r.cost(need); room > 0 {
		got += min(r.portion(), int64(float64(room)*float64(r.events)/float64(r.window)))
	}
	is.free = is.free.Add(r.cost(got))
	is.seen(s.name, now)
	return got, is, tx.Put(key, is.append(nil))
}

// limitKey is the key of a workspace's record: its name, or the hash of a long one.
func limitKey(workspace string) []byte {
	if len(workspace) > 512 {
		sum := sha256.Sum256([]byte(workspace))
		workspace = string(sum[:])
	}
	return []byte("limit/" + workspace)
}

// told tells once that the store does not answer, and once that it does again.
func (s *shared) told(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && !s.away && !errors.Is(err, queue.ErrClosed):
		s.log.Warn("the rate limits of workspaces cannot be shared with other gateways: until they can, this one lets in its share of them", meter.KeyError, err)
	case err == nil && s.away:
		s.log.Info("the rate limits of workspaces are shared with other gateways again")
	}
	s.away = err != nil
}

// standing is the value of a limit's record.
type standing struct {
	free     time.Time
	gateways map[string]time.Time // when each has taken something last
}

// seen notes that a gateway has taken something, and forgets those that have not for long.
func (s *standing) seen(name string, now time.Time) {
	for other, at := range s.gateways {
		if now.Sub(at) > lately || len(s.gateways) > maxGateways {
			delete(s.gateways, other)
		}
	}
	s.gateways[name] = now
}

func (s *standing) append(dst []byte) []byte {
	dst = binary.AppendVarint(append(dst, 1), s.free.UnixNano())
	dst = binary.AppendUvarint(dst, uint64(len(s.gateways)))
	for name, at := range s.gateways {
		dst = append(binary.AppendUvarint(dst, uint64(len(name))), name...)
		dst = binary.AppendVarint(dst, at.UnixNano())
	}
	return dst
}

func readStanding(key, value []byte) (s standing, err error) {
	s.gateways = map[string]time.Time{}
	if value == nil {
		return s, nil
	}
	r := wire.Reader{Rest: value}
	if form := r.Byte(); form > 1 {
		return s, fmt.Errorf("the record %q of a rate limit has the form %d, and this program knows 1: %w", key, form, queue.ErrVersion)
	} else if form != 1 {
		r.Bad = true
	}
	s.free = time.Unix(0, r.Varint())
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		name := r.Text()
		s.gateways[name] = time.Unix(0, r.Varint())
	}
	if r.Bad || len(r.Rest) > 0 {
		return s, fmt.Errorf("the record %q of a rate limit: %w", key, queue.ErrCorrupt)
	}
	return s, nil
}
