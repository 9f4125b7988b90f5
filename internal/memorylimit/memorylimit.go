// Package memorylimit says how much memory the process may take, and keeps it below that.
//
// A process that runs in a container is killed when it takes more than the container has, and
// Go knows nothing of containers. So the limit is found at the start, in this order:
//
//  1. GOMEMLIMIT, which Go itself reads; "off" is no limit.
//  2. memory_limit_bytes of the config.
//  3. [OfContainer] percent of the least memory limit of the cgroups that the process is in, of
//     version 1 or 2 ([Container]); what is left is for the memory that Go does not count, and for
//     what the kernel keeps for files.
//
// Go collects garbage the sooner the nearer the limit is. What is not garbage is bounded from the
// limit: caches by [Share], what is in flight likewise, and when what is live comes near the limit
// all the same, [Short] says so to those who can refuse work or put it off.
//
// # Invariants
//
//   - Without a limit nothing is different: [Share] is what was asked for, and [Short] is nil.
//   - A limit that cannot be read is none, and said.
package memorylimit

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// OfContainer is the part of a container's memory that is for Go, in percent.
const OfContainer = 85

// Limit is how much memory Go may take.
type Limit struct {
	Bytes int64  // 0: as much as it likes
	From  string // who says so, for people
}

var current atomic.Pointer[Limit]

// Find is the limit. Configured is memory_limit_bytes, 0 where the config says nothing. The error
// says why the container's is not known; the limit counts without it.
func Find(env func(string) (string, bool), configured int64) (Limit, error) {
	return find(env, configured, "/")
}

func find(env func(string) (string, bool), configured int64, root string) (Limit, error) {
	if text, set := env("GOMEMLIMIT"); set && strings.TrimSpace(text) != "" {
		// Go has read it, or ended the process.
		bytes := debug.SetMemoryLimit(-1)
		if bytes == math.MaxInt64 {
			bytes = 0
		}
		return Limit{bytes, "GOMEMLIMIT"}, nil
	}
	if configured > 0 {
		return Limit{configured, "memory_limit_bytes"}, nil
	}
	bytes, file, err := Container(root)
	if bytes == 0 {
		return Limit{}, err
	}
	return Limit{bytes / 100 * OfContainer, fmt.Sprintf("%d %% of %d in %s", OfContainer, bytes, file)}, err
}

// Set has the process keep to a limit from now on.
func Set(l Limit) {
	current.Store(&l)
	if l.From == "GOMEMLIMIT" {
		return // Go has it
	}
	bytes := l.Bytes
	if bytes == 0 {
		bytes = math.MaxInt64
	}
	debug.SetMemoryLimit(bytes)
}

// Current is the limit that was set.
func Current() Limit {
	if l := current.Load(); l != nil {
		return *l
	}
	return Limit{}
}

// Share is most, or the part-th part of the limit where that is less, but at least least.
func Share(most, part, least int64) int64 {
	limit := Current().Bytes
	if limit == 0 {
		return most
	}
	return min(most, max(limit/part, least))
}

// The part of the limit, in percent, that live memory may take before new work is refused, and
// below which it is taken again.
const (
	shortAbove = 90
	wellBelow  = 80
)

// look is how long a look at the memory counts, and collect how far apart the collections are that
// find out whether it is still short: where nothing is allocated, none comes by itself.
const (
	look    = 50 * time.Millisecond
	collect = time.Second
)

var state struct {
	until atomic.Int64 // the last look counts, unix ns
	why   atomic.Pointer[ShortError]

	looking   sync.Mutex
	samples   []metrics.Sample
	collected time.Time
}

// Short is why no new work should be taken just now: what is in use, without garbage, comes near
// the limit. Nil: there is enough.
func Short() error {
	limit := Current().Bytes
	if limit == 0 {
		return nil
	}
	now := time.Now()
	// A look lies ahead only by what it counts for, unless the clock was set back.
	if ahead := state.until.Load() - now.UnixNano(); (ahead <= 0 || ahead > int64(look)) && state.looking.TryLock() {
		state.until.Store(now.Add(look).UnixNano())
		lookAt(now, limit)
		state.looking.Unlock()
	}
	if why := state.why.Load(); why != nil {
		return why
	}
	return nil
}

// lookAt finds out whether memory is short. state.looking is held.
func lookAt(now time.Time, limit int64) {
	n := live()
	if !short(state.why.Load() != nil, n, uint64(limit)) {
		state.why.Store(nil)
		return
	}
	state.why.Store(&ShortError{Live: n, Limit: limit})
	if now.Sub(state.collected) >= collect {
		state.collected = now
		go runtime.GC()
	}
}

// short says whether memory is short, after it was or was not.
func short(before bool, live, limit uint64) bool {
	percent := uint64(shortAbove)
	if before {
		percent = wellBelow
	}
	return live > limit/100*percent
}

// live is what the last collection found in use, and what stacks take. state.looking is held.
func live() uint64 {
	if state.samples == nil {
		state.samples = []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	}
	metrics.Read(state.samples)
	return state.samples[0].Value.Uint64() + state.samples[1].Value.Uint64()
}

// ShortError says that memory is short.
type ShortError struct {
	Live  uint64 // bytes
	Limit int64
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("memory is short: %d MiB are in use, of %d MiB that the process may take; give it more, or lower in_flight", e.Live>>20, e.Limit>>20)
}
