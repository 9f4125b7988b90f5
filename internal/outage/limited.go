package outage

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// freely is how often a line is written in [Every] before it is only counted, and troubled that of one
// that warns; apart is how many lines are told apart.
const (
	freely   = 20
	troubled = 5
	apart    = 2000
)

// remembered is how long a line that repeated itself is known after it came last: until then it is
// counted at once when it comes again.
const remembered = 10 * Every

// The keys of a line that was counted, and of the one that says that it comes no more.
const (
	keyRepeated = "repeated"
	keyLine     = "line"
	keyInAll    = "in_all"
)

// passes is the context of lines that are limited already.
var passes = meter.Unlimited(context.Background())

// Limited is next for lines that may repeat themselves. A line is known by its level, its text
// without numbers, and whom it is about. What repeats is written [freely] times, a warning [troubled]
// times, then at most once in [Every], and ever more seldom, with how often it came; of a warning
// one line tells when it has not come for that long. Lines of the level Debug are all
// written: who asks for them wants to see each.
type Limited struct {
	next  slog.Handler
	about string // what With has added
	net   *net
}

// net is what is known of the lines of a process.
type net struct {
	mu    sync.Mutex
	lines map[string]*line
	ended bool
}

// line is a line that may repeat itself.
type line struct {
	began   time.Time // of freely lines
	written int       // since then
	since   time.Time // it is only counted
	came    time.Time // last
	counted int64
	total   int64     // that was told
	lines   int       // that told how often
	again   time.Time // when the next may
	open    bool      // the last line told that it goes on
	last    slog.Record
	next    slog.Handler
	timer   *time.Timer
}

// Limit is next with a limit to what repeats itself.
func Limit(next slog.Handler) *Limited {
	return &Limited{next: next, net: &net{lines: map[string]*line{}}}
}

// Enabled implements slog.Handler.
func (h *Limited) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	var about strings.Builder
	about.WriteString(h.about)
	for _, a := range attrs {
		about.WriteString("\x00" + a.Key + "=" + a.Value.String())
	}
	return &Limited{h.next.WithAttrs(attrs), about.String(), h.net}
}

// WithGroup implements slog.Handler.
func (h *Limited) WithGroup(name string) slog.Handler {
	return &Limited{h.next.WithGroup(name), h.about + "\x00" + name, h.net}
}

// whom are the keys that say whom a line is about, and are bounded by the config.
func whom(key string) bool {
	switch key {
	case "pipeline", "component", "machine", "queue", "destination", "task", "setting", "signal":
		return true
	}
	return false
}

// key is what a line is known by.
func (h *Limited) key(r *slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String())
	for i := 0; i < len(r.Message) && i < 160; i++ {
		if c := r.Message[i]; c < '0' || c > '9' {
			b.WriteByte(c)
		}
	}
	b.WriteString(h.about)
	r.Attrs(func(a slog.Attr) bool {
		if whom(a.Key) {
			b.WriteString("\x00" + a.Key + "=" + a.Value.String())
		}
		return true
	})
	return b.String()
}

// Handle implements slog.Handler.
func (h *Limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo || meter.IsUnlimited(ctx) {
		return h.next.Handle(ctx, r)
	}
	if h.net.takes(h, &r) {
		return h.next.Handle(ctx, r)
	}
	return nil
}

// takes reports whether a line is to be written; else it is counted.
func (n *net) takes(h *Limited, r *slog.Record) bool {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return true
	}
	k := h.key(r)
	l := n.lines[k]
	if l == nil {
		if len(n.lines) >= apart {
			n.forget(now)
		}
		if len(n.lines) >= apart {
			k = h.about // those of one component share a line
			l = n.lines[k]
		}
		if l == nil {
			l = &line{began: now}
			n.lines[k] = l
		}
	}
	if l.timer == nil && now.Sub(l.began) >= Every {
		l.began, l.written = now, 0
	}
	most := freely
	if r.Level >= slog.LevelWarn {
		most = troubled
	}
	if l.timer == nil && l.written < most {
		l.written++
		return true
	}
	if l.counted == 0 && l.lines == 0 {
		l.since = now
	}
	l.counted++
	l.came = now
	l.last, l.next = r.Clone(), h.next
	if l.timer == nil {
		l.timer = time.AfterFunc(Every, func() { n.due(k, l) })
	}
	return false
}

// forget lets go of lines that did not come lately. The lock is held.
func (n *net) forget(now time.Time) {
	for k, l := range n.lines {
		if l.timer == nil && now.Sub(l.began) >= Every {
			delete(n.lines, k)
		}
	}
}

// due is called when a line that is counted may be written.
func (n *net) due(k string, l *line) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	now := time.Now()
	if l.counted > 0 && !now.Before(l.again) {
		l.tell()
		l.lines++
		l.again, l.open = now.Add(interval(l.lines)), true
	}
	if l.counted == 0 {
		if l.open && now.Sub(l.came) >= Every {
			l.tellWell(now)
			l.open = false
		}
		if !l.open && !now.Before(l.again) && now.Sub(l.came) >= remembered {
			delete(n.lines, k)
			return
		}
	}
	l.timer = time.AfterFunc(Every, func() { n.due(k, l) })
}

// tellWell writes that a warning comes no more.
func (l *line) tellWell(now time.Time) {
	if l.last.Level < slog.LevelWarn {
		return
	}
	r := slog.NewRecord(now, slog.LevelInfo, "what was told of has not come for a while", 0)
	l.last.Attrs(func(a slog.Attr) bool {
		if whom(a.Key) {
			r.AddAttrs(a)
		}
		return true
	})
	r.AddAttrs(slog.String(keyLine, l.last.Message), slog.Time(KeySince, l.since.UTC().Truncate(time.Second)), slog.Int64(keyInAll, l.total))
	_ = l.next.Handle(context.Background(), r) // as slog.Logger does
}

// tell writes the last line, and how often it came.
func (l *line) tell() {
	r := l.last.Clone()
	l.total += l.counted
	r.AddAttrs(slog.Int64(keyRepeated, l.counted), slog.Time(KeySince, l.since.UTC().Truncate(time.Second)))
	_ = l.next.Handle(context.Background(), r) // as slog.Logger does
	l.counted = 0
}

// End writes what was only counted. Every line is written from then on.
func (h *Limited) End() {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for _, l := range n.lines {
		if l.timer != nil {
			l.timer.Stop()
		}
		if l.counted > 0 {
			l.tell()
		}
	}
}
