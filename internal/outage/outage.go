// Package outage tells of trouble that repeats, in lines that a person can read at night. What
// went wrong for a destination, by one cause, is told once when it begins, with how many messages
// it met; after that at most once in a while, with the messages since the last line and since when
// it goes on, and the more seldom the longer it goes on; and once when the destination is well
// again. A thousand messages that fail are one line, and a thousand destinations do not hide each
// other. A [Teller] does this for one component, which knows what its trouble is about.
//
// [Limited] is the net below: a handler of logs that every line of the process goes through. A
// line that comes again and again without a Teller is written some times, and then counted.
//
// # Invariants
//
//   - Every message that was noted is counted in a line, at the latest when [Teller.End] is called,
//     but for those of a lazy kind.
//   - What is kept in memory is bounded: destinations beyond [most] share one line.
//   - A Teller writes no more than [mostLines] lines about troubles in [Every]; those that find no
//     room are told of later, and meanwhile one line says how many they are.
//   - Lines with different texts, or of different components, never keep each other from the log.
package outage

import (
	"cmp"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// The keys of lines, beside those of package meter.
const (
	KeyDestination = "destination"
	KeySince       = "since"
	KeyCommand     = "command"
)

// Every is how far apart the lines of one kind for one destination are. After Often of them the
// waits double, up to Seldom, while it goes on; they begin anew once it was quiet for as long as the last.
const (
	Every  = time.Minute
	Often  = 12
	Seldom = time.Hour
)

const (
	most      = 5000 // troubles that are told apart
	mostLines = 100  // lines about them in Every, of which half may be about what was told of before
)

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
	// Passes says that the trouble is over once the destination takes something, and Over is what
	// is told then; empty: that writes succeed again.
	Passes bool
	Over   string
	// Lazy says that what came since a line is told of with the next that comes when a line may be
	// written again, and not by itself: it ended nothing, and is counted elsewhere.
	Lazy bool
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
	ill     map[string][]*trouble // that go on and pass, by destination
	window  time.Time             // mostLines counts from here
	lines   int
	late    int // troubles that found no room in the window
	ended   bool
}

type key struct {
	kind               *Kind
	destination, cause string
}

// trouble is what is known of one kind at one destination.
type trouble struct {
	key
	now      bool      // it goes on, or has no end
	since    time.Time // of what goes on
	messages int64     // not told yet
	met      int64     // since it began
	told     time.Time // of the last line; zero: none
	lines    int       // that told of it, without a long quiet between them
	open     bool      // a line has told that it began
	well     bool      // it is over, and that is to be told
	again    bool      // of a lazy kind: a line may be written again
	err      error     // the latest
	more     []slog.Attr
	timer    *time.Timer
	turn     int // of timer: one that was replaced may have fired already
}

// every is how far the next line is from the last.
func (x *trouble) every() time.Duration { return interval(x.lines) }

// interval is the wait after so many lines.
func interval(lines int) time.Duration {
	return min(Every<<min(max(lines-Often, 0), 10), Seldom)
}

// New makes a Teller that writes to log. Command is the command line that shows what was kept, empty
// where nothing is.
func New(log *slog.Logger, component, command string) *Teller {
	return &Teller{log: log, component: component, command: command, all: map[key]*trouble{}, ill: map[string][]*trouble{}}
}

// Note notes that n messages for a destination met a trouble; err is its cause.
func (t *Teller) Note(kind *Kind, destination string, n int, err error) {
	t.NoteAs(kind, destination, causeOf(err), n, err)
}

// causeOf tells one cause from another, not one text from another: texts name messages and ports.
func causeOf(err error) string {
	d := fault.DetailOf(err)
	return fault.Of(err).String() + " " + d.Type + " " + d.Code
}

// NoteAs is Note for a cause that has a name. What more there is to say is said of the latest.
func (t *Teller) NoteAs(kind *Kind, destination, cause string, n int, err error, more ...slog.Attr) {
	if n <= 0 {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.of(key{kind, destination, cause})
	if !x.now {
		if !x.well { // else it has never been away
			x.since, x.met, x.open = now, 0, false
		}
		x.now, x.well = true, false
		if kind.Passes {
			t.passing.Add(1)
			t.ill[x.destination] = append(t.ill[x.destination], x)
		}
	}
	x.messages, x.met, x.err, x.more = x.messages+int64(n), x.met+int64(n), err, more
	switch {
	case t.ended:
		t.tell(x, now)
	case kind.Lazy && !x.told.IsZero() && now.Sub(x.told) >= x.every():
		x.again = true
		x.rearm(t, 0)
	case x.timer == nil:
		wait := kind.Gather
		if !x.told.IsZero() {
			wait = max(wait, x.every()-now.Sub(x.told))
		}
		x.rearm(t, wait)
	}
}

// of is the trouble of a key. The lock is held.
func (t *Teller) of(k key) *trouble {
	if x := t.all[k]; x != nil {
		return x
	}
	if len(t.all) >= most {
		k.destination, k.cause = others, ""
		if x := t.all[k]; x != nil {
			return x
		}
	}
	x := &trouble{key: k}
	t.all[k] = x
	return x
}

// rearm has the next line wait for its time. The lock is held.
func (x *trouble) rearm(t *Teller, wait time.Duration) {
	if x.timer != nil {
		x.timer.Stop()
	}
	x.turn++
	turn := x.turn
	x.timer = time.AfterFunc(wait, func() { t.due(x, turn) })
}

// due is called when a line may be written again.
func (t *Teller) due(x *trouble, turn int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if turn != x.turn {
		return
	}
	if x.timer = nil; t.ended {
		return
	}
	now := time.Now()
	if x.kind.Lazy && !x.told.IsZero() && !x.again {
		x.again = true // the next is told at once
		return
	}
	if x.messages == 0 && !x.well {
		if !x.now || !x.kind.Passes {
			delete(t.all, x.key) // it was quiet for long enough to be new when it comes again
		}
		return
	}
	if !t.room(now, x.lines > 0) {
		t.late++
		x.rearm(t, t.window.Add(Every).Sub(now))
		return
	}
	if x.messages > 0 {
		t.tell(x, now)
	}
	if x.well {
		t.tellWell(x)
	}
	x.rearm(t, x.every())
}

// room reports whether another line may be written now, and counts it. again says that it is about
// what was told of before. The lock is held.
func (t *Teller) room(now time.Time, again bool) bool {
	if now.Sub(t.window) >= Every {
		if t.late > 0 {
			t.log.LogAttrs(passes, slog.LevelWarn, "more is in trouble than lines are written of: the rest is told of later", append(t.attrs(&trouble{}), slog.Int(keyTroubles, t.late))...)
		}
		t.window, t.lines, t.late = now, 0, 0
	}
	if t.lines >= mostLines || again && t.lines >= mostLines/2 {
		return false
	}
	t.lines++
	return true
}

const keyTroubles = "troubles"

// tell writes the line of what was not told. The lock is held.
func (t *Teller) tell(x *trouble, now time.Time) {
	attrs := append(t.attrs(x), slog.Int64(x.kind.count(), x.messages), slog.Any(meter.KeyError, x.err))
	attrs = append(attrs, x.more...)
	if !x.told.IsZero() {
		attrs = append(attrs, slog.Time(KeySince, x.since.UTC().Truncate(time.Second)))
	}
	if x.kind.Shown && t.command != "" {
		attrs = append(attrs, slog.String(KeyCommand, t.shows(x.destination)))
	}
	t.log.LogAttrs(passes, x.kind.Level, x.kind.Text, attrs...) //nolint:sloglint // the texts of kinds are constants
	x.messages, x.told, x.open, x.again = 0, now, true, false
	x.lines++
}

// tellWell writes the line of its end. The lock is held.
func (t *Teller) tellWell(x *trouble) {
	t.log.LogAttrs(passes, slog.LevelInfo, cmp.Or(x.kind.Over, "writes succeed again"), append(t.attrs(x), //nolint:sloglint // as above
		slog.Time(KeySince, x.since.UTC().Truncate(time.Second)), slog.Int64(x.kind.count(), x.met))...)
	x.well, x.messages = false, 0 // they are in met
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

// Well notes that a destination takes messages: whatever its troubles were, one line tells that.
func (t *Teller) Well(destination string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, name := range [...]string{destination, others} {
		ill := t.ill[name]
		if len(ill) == 0 {
			continue
		}
		delete(t.ill, name)
		t.passing.Add(int64(-len(ill)))
		var first *trouble // that a line has told of; the others are counted with it
		for _, x := range ill {
			x.now = false
			switch fresh := x.told.IsZero() && t.room(now, false); {
			case fresh:
				t.tell(x, now)
				x.rearm(t, x.every())
			case !x.open && x.told.IsZero(): // there is no room: both is told later
				x.well = true
				continue
			case !x.open: // told of before, when it was not well for long
				x.well = true
				continue
			}
			if first == nil || first.kind.Over != x.kind.Over || first.kind.count() != x.kind.count() {
				if first != nil {
					t.end(first, now)
				}
				first = x
				continue
			}
			first.met += x.met
			if x.since.Before(first.since) {
				first.since = x.since
			}
			x.messages = 0
			t.leave(x)
		}
		if first != nil {
			t.end(first, now)
		}
	}
}

// end tells that a trouble is over, now or when there is room. The lock is held.
func (t *Teller) end(x *trouble, now time.Time) {
	if x.well = !t.room(now, false); !x.well {
		t.tellWell(x)
	}
	t.leave(x)
}

// leave has a trouble that is over forgotten when it stays so. The lock is held.
func (t *Teller) leave(x *trouble) {
	if x.timer == nil {
		x.rearm(t, max(x.every()-time.Since(x.told), 0))
	}
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
		if x.messages > 0 && (!x.kind.Lazy || x.told.IsZero()) {
			t.tell(x, time.Now())
		}
	}
}
