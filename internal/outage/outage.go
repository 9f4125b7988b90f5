// Package outage tells of trouble that repeats, in lines that a person can read at night. What
// went wrong for a destination is told once when it begins, with how many messages it met;
// after that at most once in a while, with the messages since the last line and since when it
// goes on; and once when the destination is well again. A thousand messages that fail are one
// line, and a thousand destinations do not hide each other.
//
// # Invariants
//
//   - Every message that was noted is counted in a line, at the latest when [Teller.End] is called.
//   - What is kept in memory is bounded: destinations beyond [most] share one line.
package outage

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// The keys of lines, beside those of package meter.
const (
	KeyDestination = "destination"
	KeySince       = "since"
	KeyCommand     = "command"
)

// Every is how far apart the lines of one kind for one destination are.
const Every = time.Minute

// most is how many troubles are told apart.
const most = 1000

// others stands for the destinations that are too many.
const others = "(others)"

// Kind is one kind of trouble.
type Kind struct {
	Level slog.Level
	Text  string
	// Gather is how long after the first message its line is written: what meets many messages
	// meets them within a moment.
	Gather time.Duration
	// Count is the key of how many there were; empty: messages.
	Count string
	// Passes says that the trouble is over once the destination takes something.
	Passes bool
	// Shown says that what it met is kept: the line has the command that shows it.
	Shown bool
}

func (k *Kind) count() string { return cmp.Or(k.Count, meter.KeyMessages) }

// Teller tells of the troubles of one component.
type Teller struct {
	log       *slog.Logger
	component string
	command   string

	passing atomic.Int64 // troubles that pass and have not
	mu      sync.Mutex
	all     map[key]*trouble
	kinds   []*Kind // that pass, and were noted
	ended   bool
}

type key struct {
	kind        *Kind
	destination string
}

// trouble is what is known of one kind at one destination.
type trouble struct {
	key
	now      bool      // it goes on, or has no end
	since    time.Time // of what goes on
	messages int64     // not told yet
	met      int64     // since it began
	told     time.Time // of the last line; zero: none
	open     bool      // a line has told that it began
	err      error     // the latest
	timer    *time.Timer
}

// New makes a Teller that writes to log. Command is the command line that shows what was kept, empty
// where nothing is.
func New(log *slog.Logger, component, command string) *Teller {
	return &Teller{log: log, component: component, command: command, all: map[key]*trouble{}}
}

// Note notes that n messages for a destination met a trouble; err is its cause.
func (t *Teller) Note(kind *Kind, destination string, n int, err error) {
	if n <= 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.of(key{kind, destination})
	if !x.now {
		x.now, x.since, x.met, x.open = true, now, 0, false
		if kind.Passes {
			t.passing.Add(1)
			if !slices.Contains(t.kinds, kind) {
				t.kinds = append(t.kinds, kind)
			}
		}
	}
	x.messages, x.met, x.err = x.messages+int64(n), x.met+int64(n), err
	switch {
	case t.ended:
		t.tell(x, now)
	case x.timer == nil:
		wait := kind.Gather
		if !x.told.IsZero() {
			wait = max(wait, Every-now.Sub(x.told))
		}
		x.timer = time.AfterFunc(wait, func() { t.due(x) })
	}
}

// of is the trouble of a key. The lock is held.
func (t *Teller) of(k key) *trouble {
	if x := t.all[k]; x != nil {
		return x
	}
	if len(t.all) >= most {
		k.destination = others
		if x := t.all[k]; x != nil {
			return x
		}
	}
	x := &trouble{key: k}
	t.all[k] = x
	return x
}

// due is called when a line may be written again.
func (t *Teller) due(x *trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.timer = nil; t.ended {
		return
	}
	switch now := time.Now(); {
	case x.messages > 0:
		t.tell(x, now)
		x.timer = time.AfterFunc(Every, func() { t.due(x) })
	case !x.now || !x.kind.Passes:
		delete(t.all, x.key) // it was quiet for long enough to be new when it comes again
	}
}

// tell writes the line of what was not told. The lock is held.
func (t *Teller) tell(x *trouble, now time.Time) {
	attrs := append(t.attrs(x), slog.Int64(x.kind.count(), x.messages), slog.Any(meter.KeyError, x.err))
	if !x.told.IsZero() {
		attrs = append(attrs, slog.Time(KeySince, x.since.UTC().Truncate(time.Second)))
	}
	if x.kind.Shown && t.command != "" {
		attrs = append(attrs, slog.String(KeyCommand, t.shows(x.destination)))
	}
	t.log.LogAttrs(context.Background(), x.kind.Level, x.kind.Text, attrs...) //nolint:sloglint // the texts of kinds are constants
	x.messages, x.told, x.open = 0, now, true
}

func (t *Teller) attrs(x *trouble) []slog.Attr {
	attrs := make([]slog.Attr, 0, 6)
	if t.component != "" {
		attrs = append(attrs, slog.String(meter.KeyComponent, t.component))
	}
	if x.destination != "" {
		attrs = append(attrs, slog.String(KeyDestination, x.destination))
	}
	return attrs
}

// shows is the command that shows what was kept for a destination.
func (t *Teller) shows(destination string) string {
	if destination == "" || destination == others {
		return t.command
	}
	return t.command + " --destination " + Quote(destination)
}

// Each calls f with the destinations that have a trouble which passes, and since when.
func (t *Teller) Each(f func(destination string, since time.Time)) {
	if !t.Passing() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.all {
		if x.now && x.kind.Passes {
			f(x.destination, x.since)
		}
	}
}

// Passing reports whether a destination has a trouble that [Teller.Well] would end.
func (t *Teller) Passing() bool { return t != nil && t.passing.Load() > 0 }

// Well notes that a destination takes messages.
func (t *Teller) Well(destination string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range t.kinds {
		for _, name := range [...]string{destination, others} {
			if x := t.all[key{kind, name}]; x != nil && x.now {
				t.over(x)
			}
		}
	}
}

// over ends a trouble that passes. The lock is held.
func (t *Teller) over(x *trouble) {
	if x.told.IsZero() {
		t.tell(x, time.Now())
		x.rearm(func() { t.due(x) })
	}
	t.passing.Add(-1)
	x.now = false
	if x.open {
		t.log.LogAttrs(context.Background(), slog.LevelInfo, "writes succeed again", append(t.attrs(x),
			slog.Time(KeySince, x.since.UTC().Truncate(time.Second)), slog.Int64(x.kind.count(), x.met))...)
		x.messages = 0 // they are in met
	}
	if x.timer == nil {
		delete(t.all, x.key)
	}
}

// rearm has the next line wait for its time.
func (x *trouble) rearm(due func()) {
	if x.timer != nil {
		x.timer.Stop()
	}
	x.timer = time.AfterFunc(Every, due)
}

// End tells what was not told yet.
func (t *Teller) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, x := range t.all {
		if x.timer != nil {
			x.timer.Stop()
		}
		if x.messages > 0 {
			t.tell(x, time.Now())
		}
	}
}
