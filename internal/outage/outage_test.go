package outage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/outage"
)

var (
	passes = &outage.Kind{Level: slog.LevelWarn, Text: "later", Gather: 100 * time.Millisecond, Passes: true}
	dies   = &outage.Kind{Level: slog.LevelError, Text: "dead", Gather: time.Second, Shown: true}
)

// line is a line of the log.
type line struct {
	Level, Msg, Destination, Error, Command, Component string
	Messages                                           int
	Since                                              time.Time
	Time                                               time.Time
}

type book struct {
	*outage.Teller
	text locked
}

// locked is a text that a timer may write into while it is read.
type locked struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newBook() *book {
	b := &book{}
	b.Teller = outage.New(slog.New(slog.NewJSONHandler(&b.text, &slog.HandlerOptions{Level: slog.LevelDebug})), "target", "weir failures ls p.hcl")
	return b
}

func (b *book) lines(t interface{ Fatal(...any) }) []line {
	var all []line
	for text := range strings.SplitSeq(strings.TrimSpace(b.text.String()), "\n") {
		var l line
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// TestAnOutageIsThreeLines: it begins, goes on and ends, whatever number of writes fails.
func TestAnOutageIsThreeLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		begin := time.Now()
		for range 90 {
			b.Note(passes, "shop", 10, errors.New("refused"))
			b.Well("other")
			time.Sleep(time.Second)
		}
		if !b.Passing() {
			t.Error("another destination has ended the outage")
		}
		b.Well("shop")
		b.Well("shop")
		got := b.lines(t)
		if len(got) != 3 || b.Passing() {
			t.Fatalf("%d lines:\n%s", len(got), b.text.String())
		}
		if l := got[0]; l.Level != "WARN" || l.Msg != "later" || l.Destination != "shop" || l.Messages != 10 || l.Error != "refused" || l.Command != "" || l.Component != "target" {
			t.Errorf("the first: %+v", l)
		}
		if l := got[1]; l.Msg != "later" || l.Messages < 590 || l.Messages > 610 || !l.Since.Equal(begin.Truncate(time.Second)) {
			t.Errorf("the second: %+v", l)
		}
		if l := got[2]; l.Level != "INFO" || l.Msg != "writes succeed again" || l.Messages != 900 || l.Destination != "shop" {
			t.Errorf("the last: %+v", l)
		}
		b.End()
	})
}

// TestADestinationThatIsWellAtOnce: its trouble is told before its end.
func TestADestinationThatIsWellAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		b.Note(passes, "", 1, errors.New("no answer"))
		b.Well("")
		if got := b.lines(t); len(got) != 2 || got[0].Msg != "later" || got[1].Msg != "writes succeed again" {
			t.Errorf("%+v", got)
		}
		b.End()
	})
}

// TestTheCommandShowsWhatDied names the destination as a shell takes it.
func TestTheCommandShowsWhatDied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		for _, d := range []string{"", "shop-1", "it's; rm -rf"} {
			b.Note(dies, d, 2, errors.New("refused"))
			time.Sleep(time.Minute)
		}
		b.End()
		var got []string
		for _, l := range b.lines(t) {
			got = append(got, l.Level+" "+l.Command)
		}
		want := []string{"ERROR weir failures ls p.hcl", "ERROR weir failures ls p.hcl --destination shop-1", `ERROR weir failures ls p.hcl --destination 'it'\''s; rm -rf'`}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestNothingIsUncounted: whatever happens when, every message is in a line, lines of one kind
// and destination are a minute apart, and there are no more destinations than can be kept.
func TestNothingIsUncounted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Destination, Messages int
			Dead, Well            bool
			Wait                  time.Duration
		}
		many := rapid.SampledFrom([]int{2, 2000}).Draw(rt, "destinations")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, many).Draw(rt, "destination"), rapid.IntRange(1, 5).Draw(rt, "messages"), rapid.Bool().Draw(rt, "dead"),
				rapid.IntRange(0, 3).Draw(rt, "well") == 0, time.Duration(rapid.SampledFrom([]int{0, 10, 500, 20_000, 130_000}).Draw(rt, "ms")) * time.Millisecond}
		}), 1, 200).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			died, met := 0, 0
			for _, s := range steps {
				name := fmt.Sprint(s.Destination)
				switch {
				case s.Well:
					b.Well(name)
				case s.Dead:
					b.Note(dies, name, s.Messages, errors.New("refused"))
					died += s.Messages
				default:
					b.Note(passes, name, s.Messages, errors.New("refused"))
					met += s.Messages
				}
				time.Sleep(s.Wait)
			}
			b.End()
			toldDead, toldLater := 0, 0
			last := map[string]time.Time{}
			lines := b.lines(rt)
			for i, l := range lines {
				switch l.Msg {
				case "dead":
					toldDead += l.Messages
				case "later":
					toldLater += l.Messages
				default:
					continue
				}
				id := l.Msg + l.Destination
				// Only the end of all may come sooner.
				if before, ok := last[id]; ok && l.Time.Sub(before) < outage.Every && l.Time.Before(lines[len(lines)-1].Time) {
					rt.Fatalf("line %d of %q came %s after the one before", i, id, l.Time.Sub(before))
				}
				last[id] = l.Time
			}
			if toldDead != died {
				rt.Fatalf("%d dead messages are in lines, %d died", toldDead, died)
			}
			if toldLater > met {
				rt.Fatalf("%d messages that are due again are in lines, there were %d", toldLater, met)
			}
		})
	})
}

// TestLazyAtOneInstant: messages that come at the very instant at which a line may be written again
// are counted, and make no line more.
func TestLazyAtOneInstant(t *testing.T) {
	t.Parallel()
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			kind := &outage.Kind{Level: slog.LevelWarn, Text: "again", Lazy: true}
			teller := b.Teller
			for range 61 { // ten minutes
				teller.Note(kind, "", 1, errors.New("down"))
				time.Sleep(10 * time.Second)
			}
			synctest.Wait()
			teller.End()
			if told := b.lines(t); len(told) < 9 || len(told) > 11 {
				t.Fatalf("in ten minutes of a failure every ten seconds: %d lines: %v", len(told), told)
			}
		})
	}
}
