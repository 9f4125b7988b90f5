package file

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// TestModel follows files through random histories: lines written in pieces, renamed, removed,
// truncated, rewritten, linked, compressed and copied files, reloads, failures, restarts and
// kills, with and without a position file, with a path that matches what is rotated and one
// that does not. Every complete line that stayed readable for one look is read exactly once, in
// the order of its content, until a kill, and at least once after one.
//
// WEIR_MODEL_RUNS is how many histories there are of each kind.
func TestModel(t *testing.T) {
	t.Parallel()
	runs := 8
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = n
	}
	for _, positions := range []bool{false, true} {
		for _, wide := range []bool{false, true} {
			t.Run(fmt.Sprintf("positions %t wide %t", positions, wide), func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(runs) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, seed, positions, wide)
						for w.step = range 50 {
							w.act()
							if t.Failed() {
								t.Fatalf("seed %d, step %d:\n%s", seed, w.step, strings.Join(w.history, "\n"))
							}
						}
						w.finish()
						if t.Failed() {
							t.Fatalf("seed %d:\n%s", seed, strings.Join(w.history, "\n"))
						}
					})
				}
			})
		}
	}
}

// fate is what became of a line.
type fate struct {
	read  int
	again int // how often it may be read more than once
	after int // the line before it in its content, 0: none
}

// log is a file that somebody writes.
type log struct {
	name    string
	f       *os.File
	partial string // of the line that is being written
	last    int    // the last line of its content
	append  bool   // the writer appends
	links   []string
	unread  bool // it may have lines that were not there for one look
	seen    bool // it was called app.log for one look
}

// world is the files, the source and what is known of both.
type world struct {
	t               *testing.T
	rng             *rand.Rand
	dir             string
	positions, wide bool
	s               *Source
	kept            *kept
	lines           []fate // by number, from 1
	now             *log   // app.log
	old             []*log // rotated, the newest last
	made            int
	step            int
	history         []string
	failures        bool // lines may come out of their order
}

func newWorld(t *testing.T, seed uint64, positions, wide bool) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 11)), dir: t.TempDir(), positions: positions, wide: wide, kept: &kept{}, lines: make([]fate, 1)}
	w.create()
	w.open()
	return w
}

func (w *world) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf("%2d ", w.step)+fmt.Sprintf(format, args...))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, strings.Join(w.history, "\n"))
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// create makes a new app.log.
func (w *world) create() {
	l := &log{name: "app.log", append: w.rng.IntN(4) > 0}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if l.append {
		flags |= os.O_APPEND
	}
	f, err := os.OpenFile(w.path(l.name), flags, 0o644)
	w.must(err)
	l.f, w.now = f, l
}

func (w *world) open() {
	path := "app.log"
	if w.wide {
		path = "app.log*"
	}
	w.s = source(w.dir, path, func(c *Config) {
		c.Follow, c.MaxBatchMessages = true, 1+w.rng.IntN(20)
		if w.positions {
			c.PositionFile = w.path("position")
		}
	})
	w.s.kept = w.kept
	w.must(w.s.Open(w.t.Context()))
}

// write adds to l: the rest of a line, whole ones, and the beginning of one.
func (w *world) write(l *log, whole bool) {
	var text strings.Builder
	if l.partial != "" {
		text.WriteString(l.partial + "\n")
		l.partial = ""
	}
	for range w.rng.IntN(6) {
		text.WriteString(w.line(l) + "\n")
	}
	if !whole && w.rng.IntN(2) == 0 {
		line := w.line(l)
		n := w.rng.IntN(len(line))
		text.WriteString(line[:n])
		l.partial = line[n:]
		if n == len(line) {
			l.partial = ""
		}
	}
	_, err := l.f.WriteString(text.String())
	w.must(err)
	l.unread = true
}

// line is a new line of l.
func (w *world) line(l *log) string {
	n := len(w.lines)
	w.lines = append(w.lines, fate{after: l.last})
	l.last = n
	text := fmt.Sprintf("%d|%s", n, strings.Repeat("x", w.rng.IntN(60)))
	if w.rng.IntN(40) == 0 {
		text += strings.Repeat("long", 2000)
	}
	return text
}

// whole ends the line that is being written to l.
func (w *world) whole(l *log) {
	if l.partial != "" {
		_, err := l.f.WriteString(l.partial + "\n")
		w.must(err)
		l.partial, l.unread = "", true
	}
}

// look reads what there is, for as long as a look takes, and settles it.
func (w *world) look(settle bool) {
	for {
		ctx, stop := context.WithTimeout(w.t.Context(), 450*time.Millisecond)
		b, ack, err := w.s.Read(ctx, connector.Room{})
		stop()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		w.must(err)
		o := make(event.Outcomes, len(b))
		for i, m := range b {
			if !settle && w.rng.IntN(3) == 0 {
				o[i] = event.ErrUnsettled
				continue
			}
			w.got(string(m.Data))
		}
		w.must(ack(w.t.Context(), o))
	}
	w.now.unread, w.now.seen = false, true
	for _, l := range w.old {
		l.unread = false
	}
}

// got notes that a line was read.
func (w *world) got(text string) {
	if text+"\n" == header {
		return
	}
	number, _, _ := strings.Cut(text, "|")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n >= len(w.lines) || strings.Contains(text, "\x00") {
		w.t.Errorf("read %q, which nobody has written as a line", text)
		return
	}
	l := &w.lines[n]
	if l.read++; l.read > 1+l.again {
		w.t.Errorf("line %d is read %d times", n, l.read)
	}
	if before := l.after; before != 0 && w.lines[before].read == 0 && !w.failures {
		w.t.Errorf("line %d is read before line %d", n, before)
	}
}

func (w *world) act() {
	switch w.rng.IntN(18) {
	case 0, 1, 2, 3:
		w.note("write")
		w.write(w.now, false)
	case 4, 5:
		w.note("look")
		w.look(true)
	case 6:
		w.rotate()
	case 7:
		w.truncate()
	case 8:
		w.compress()
	case 9:
		w.remove()
	case 10:
		w.link()
	case 11:
		w.copyTruncate()
	case 12:
		if len(w.old) > 0 {
			l := w.old[w.rng.IntN(len(w.old))]
			w.note("write late to %s", l.name)
			w.write(l, true)
		}
	case 13:
		w.note("wait")
		w.whole(w.now)
		w.look(true)
		for range 20 {
			w.look(true)
		}
	case 14:
		w.again()
	case 15:
		w.fail()
	case 16:
		w.kill()
	case 17:
		w.rewrite()
	}
}

// rotate renames app.log, as the youngest of the rotated ones. Its writer keeps it open.
func (w *world) rotate() {
	w.whole(w.now)
	if !w.wide && !w.now.seen {
		w.look(true)
	}
	w.made++
	name := fmt.Sprintf("app.log.%d", w.made)
	w.note("rotate to %s", name)
	w.must(os.Rename(w.path("app.log"), w.path(name)))
	w.now.name = name
	w.old = append(w.old, w.now)
	w.create()
	if w.rng.IntN(2) == 0 {
		w.write(w.now, false)
	}
}

// settled has everything be readable for one look.
func (w *world) settled(l *log) {
	w.whole(l)
	if l.unread {
		w.look(true)
	}
}

// truncate empties app.log, whose writer goes on where it was if it does not append.
func (w *world) truncate() {
	w.settled(w.now)
	w.note("truncate, appending %t", w.now.append)
	w.must(os.Truncate(w.path("app.log"), 0))
	w.now.last = 0
	if w.rng.IntN(2) == 0 {
		w.look(true)
	}
	w.write(w.now, true)
}

// rewrite replaces the content of app.log between two looks by one that begins as it did, and
// is longer.
func (w *world) rewrite() {
	w.settled(w.now)
	w.note("rewrite")
	if !w.now.append {
		return
	}
	for _, times := range []int{1, 20} {
		w.must(os.Truncate(w.path("app.log"), 0))
		w.now.last = 0
		_, err := w.now.f.WriteString(header)
		w.must(err)
		for range times {
			w.write(w.now, true)
		}
		if times == 1 {
			w.look(true)
		}
	}
}

// header is a line that many contents begin with.
var header = strings.Repeat("#", 1100) + "\n"

// compress compresses a rotated file, in pieces, and removes it.
func (w *world) compress() {
	if len(w.old) == 0 {
		return
	}
	i := w.rng.IntN(len(w.old))
	l := w.old[i]
	if !w.wide {
		w.settled(l)
	}
	kind := []string{"gzip", "zstd"}[w.rng.IntN(2)]
	w.note("compress %s (%s)", l.name, kind)
	content, err := os.ReadFile(w.path(l.name))
	w.must(err)
	whole := compressed(w.t, kind, string(content))
	f, err := os.Create(w.path(l.name + "." + kind))
	w.must(err)
	half := w.rng.IntN(len(whole))
	_, err = f.Write(whole[:half])
	w.must(err)
	if w.rng.IntN(2) == 0 {
		w.look(true)
	}
	_, err = f.Write(whole[half:])
	w.must(errors.Join(err, f.Close()))
	if w.rng.IntN(2) == 0 {
		w.look(true)
	}
	w.must(os.Remove(w.path(l.name)))
	for _, link := range l.links {
		w.must(os.Remove(w.path(link)))
	}
	_ = l.f.Close()
	w.old = slices.Delete(w.old, i, i+1)
}

// remove removes a rotated file.
func (w *world) remove() {
	if len(w.old) == 0 {
		return
	}
	i := w.rng.IntN(len(w.old))
	l := w.old[i]
	w.settled(l)
	w.note("remove %s", l.name)
	w.must(os.Remove(w.path(l.name)))
	for _, link := range l.links {
		w.must(os.Remove(w.path(link)))
	}
	_ = l.f.Close()
	w.old = slices.Delete(w.old, i, i+1)
}

// link gives a file another name that path may match.
func (w *world) link() {
	l := w.now
	if len(w.old) > 0 && w.rng.IntN(2) == 0 {
		l = w.old[w.rng.IntN(len(w.old))]
	}
	w.made++
	name := fmt.Sprintf("app.log-link%d", w.made)
	w.note("link %s to %s", name, l.name)
	if l == w.now || w.rng.IntN(2) == 0 {
		w.must(os.Link(w.path(l.name), w.path(name)))
	} else {
		w.must(os.Symlink(l.name, w.path(name)))
	}
	l.links = append(l.links, name)
}

// copyTruncate copies app.log and empties it.
func (w *world) copyTruncate() {
	w.whole(w.now)
	if !w.wide {
		w.settled(w.now)
	}
	w.made++
	name := fmt.Sprintf("app.log.copy%d", w.made)
	content, err := os.ReadFile(w.path("app.log"))
	w.must(err)
	if len(content) == 0 {
		return
	}
	if w.wide {
		w.look(true) // what nobody has read of the old content is a file of its own
	}
	w.note("copy to %s and truncate", name)
	w.must(os.WriteFile(w.path(name), content, 0o644))
	if w.rng.IntN(2) == 0 {
		w.look(true)
	}
	w.must(os.Truncate(w.path("app.log"), 0))
	w.now.last = 0
	w.write(w.now, true)
}

// again has another source go on, as after a reload, or after a restart where there are positions.
func (w *world) again() {
	w.note("reload")
	w.must(w.s.Close(w.t.Context()))
	if w.positions && w.rng.IntN(2) == 0 {
		w.kept = &kept{}
		w.note("restart")
		if w.rng.IntN(2) == 0 {
			w.write(w.now, false)
		}
		if w.rng.IntN(3) == 0 && (w.wide || w.now.seen) {
			w.rotate()
		}
		if len(w.old) > 0 && w.rng.IntN(3) == 0 {
			w.write(w.old[0], true)
		}
	}
	w.open()
}

// fail lets go of some lines and starts again, with the same source.
func (w *world) fail() {
	w.note("fail")
	w.write(w.now, false)
	w.failures = true
	w.look(false)
	w.must(w.s.Close(w.t.Context()))
	w.must(w.s.Open(w.t.Context()))
	w.look(true)
	w.failures = false
}

// kill ends the source when lines were delivered and not acknowledged.
func (w *world) kill() {
	if !w.positions {
		return
	}
	w.note("kill")
	w.look(true)
	w.write(w.now, false)
	ctx, stop := context.WithTimeout(w.t.Context(), 450*time.Millisecond)
	defer stop()
	b, _, err := w.s.Read(ctx, connector.Room{})
	if err == nil {
		for _, m := range b {
			w.got(string(m.Data))
			number, _, _ := strings.Cut(string(m.Data), "|")
			n, _ := strconv.Atoi(number)
			w.lines[n].again++
		}
	}
	w.s.letGo()
	w.kept = &kept{}
	w.open()
}

// finish demands that everything was read.
func (w *world) finish() {
	w.note("finish")
	w.whole(w.now)
	for _, l := range w.old {
		w.whole(l)
	}
	for range 60 {
		w.look(true)
	}
	w.must(w.s.Close(w.t.Context()))
	var never []int
	for n, l := range w.lines[1:] {
		if l.read == 0 {
			never = append(never, n+1)
		}
	}
	if len(never) > 0 {
		w.t.Errorf("lines %v were never read", never)
	}
	for _, l := range append(w.old, w.now) {
		_ = l.f.Close()
	}
	if len(w.lines) < 20 {
		w.t.Log("hardly anything was written")
	}
}
