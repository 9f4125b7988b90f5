package outage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
)

// TestWhatRepeatsIsCounted: a line that comes without end is some lines, which say how often it
// came; lines of others are all there, and so is each of them.
func TestWhatRepeatsIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		h := outage.Limit(slog.NewJSONHandler(&text, nil))
		log := slog.New(h)
		one, two := log.With("pipeline", "one"), log.With("pipeline", "two")
		const repeats = 6 * 3600 * 10
		for i := range repeats {
			one.Warn(fmt.Sprintf("connection %d broke", i), "error", errors.New("no route"), "attempt", i) //nolint:sloglint // numbers in the text are what is tested
			if i%36000 == 5 {
				two.Warn("connection 1 broke")
				log.Info("the new config runs")
				log.Info("this process has taken over partitions", "partitions", i)
			}
			time.Sleep(100 * time.Millisecond)
		}
		h.End()
		count, lines := map[string]int{}, map[string]int{}
		for l := range strings.Lines(text.String()) {
			var x struct {
				Msg, Pipeline, Since string
				Repeated             int
			}
			if err := json.Unmarshal([]byte(l), &x); err != nil {
				t.Fatal(err)
			}
			if (x.Repeated > 0) != (x.Since != "") {
				t.Errorf("%s", l)
			}
			key := x.Pipeline
			if key == "" {
				key = x.Msg
			}
			lines[key]++
			count[key] += max(x.Repeated, 1)
		}
		if count["one"] != repeats || lines["one"] > 60 {
			t.Errorf("%d of %d lines are counted, in %d", count["one"], repeats, lines["one"])
		}
		for _, rare := range []string{"two", "the new config runs", "this process has taken over partitions"} {
			if lines[rare] != 6 || count[rare] != 6 {
				t.Errorf("%s: %d lines for %d, want 6", rare, lines[rare], count[rare])
			}
		}
	})
}

// TestManyDestinationsFail: 3,000 destinations that fail for six hours are a bounded number of
// lines, each of them is named, and the end of all of it is told.
func TestManyDestinationsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		const all, hours = 3000, 2
		for range hours * 120 {
			for d := range all {
				b.Note(passes, fmt.Sprint("d", d), 2, errors.New("HTTP 503"))
			}
			time.Sleep(30 * time.Second)
		}
		failing := len(b.text.String())
		named := map[string]bool{}
		for _, l := range b.lines(t) {
			named[l.Destination] = true
		}
		if len(named) < all || failing > hours*2_000_000 {
			t.Errorf("%d destinations of %d are named, in %d bytes", len(named), all, failing)
		}
		for d := range all {
			b.Well(fmt.Sprint("d", d))
		}
		time.Sleep(2 * time.Hour)
		well := 0
		for _, l := range b.lines(t) {
			if l.Msg == "writes succeed again" {
				well++
			}
		}
		if well != all || b.Passing() {
			t.Errorf("%d of %d are told to be well again", well, all)
		}
		b.End()
	})
}

// TestADestinationThatFlaps: one that fails and is well again and again is no flood, and the last
// line says how it is.
func TestADestinationThatFlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		for range 6 * 3600 {
			b.Note(passes, "shop", 1, errors.New("HTTP 503"))
			time.Sleep(500 * time.Millisecond)
			b.Well("shop")
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(3 * time.Hour)
		got := b.lines(t)
		if len(got) > 60 || got[len(got)-1].Msg != "writes succeed again" {
			t.Errorf("%d lines, the last is %+v", len(got), got[len(got)-1])
		}
		b.End()
	})
}

// TestCausesAreToldApart: two causes at one destination are a line each, and one end.
func TestCausesAreToldApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		for i := range 10 {
			b.NoteAs(passes, "shop", []string{"503", "timeout"}[i%2], 1, errors.New("no"))
		}
		time.Sleep(time.Second)
		b.Well("shop")
		got := b.lines(t)
		if len(got) != 3 || got[0].Messages != 5 || got[1].Messages != 5 || got[2].Messages != 10 {
			t.Errorf("%+v", got)
		}
		b.End()
	})
}

// TestUnlimited: what a user's own program says is all written.
func TestUnlimited(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(outage.Limit(slog.NewJSONHandler(&text, nil)))
	for range 100 {
		log.InfoContext(meter.Unlimited(context.Background()), "it says so")
	}
	if n := strings.Count(text.String(), "\n"); n != 100 {
		t.Errorf("%d lines", n)
	}
}

// said is a log that is read while it is written.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// take is what was written since the last call.
func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buf.Reset()
	return s.buf.String()
}

// TestWhatComesNoMoreIsTold: a warning that has repeated itself, and stops, is told of once more; one
// that comes in bursts is no flood, and a line that is no warning ends in silence.
func TestWhatComesNoMoreIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text said
		log := slog.New(outage.Limit(slog.NewTextHandler(&text, nil))).With("pipeline", "p")
		took := func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSpace(text.take()), "\n")
		}
		for range 300 {
			log.Warn("the stream cannot be opened, trying again", "component", "source", "error", "no route")
			time.Sleep(time.Second)
		}
		if got := took(); len(got) > 5+5 || !strings.Contains(got[len(got)-1], "repeated=") {
			t.Errorf("five minutes of it are %d lines:\n%s", len(got), strings.Join(got, "\n"))
		}
		time.Sleep(time.Hour)
		got := took()
		last := got[len(got)-1]
		if len(got) > 2 || !strings.Contains(last, "level=INFO") || !strings.Contains(last, `line="the stream cannot be opened, trying again"`) ||
			!strings.Contains(last, "pipeline=p") || !strings.Contains(last, "component=source") || !strings.Contains(last, "in_all=295") || !strings.Contains(last, "since=") {
			t.Errorf("an hour of silence is\n%s", strings.Join(got, "\n"))
		}
		for range 120 { // six hours of bursts
			for range 200 {
				log.Warn("the stream cannot be opened, trying again", "component", "source")
			}
			time.Sleep(3 * time.Minute)
		}
		time.Sleep(2 * time.Hour)
		if got := took(); len(got) > 60 || !strings.Contains(got[len(got)-1], "has not come for a while") {
			t.Errorf("bursts are %d lines, the last is %s", len(got), got[len(got)-1])
		}
		for range 100 {
			log.Info("a file is read")
		}
		time.Sleep(time.Hour)
		if got := took(); len(got) != 21 || strings.Contains(strings.Join(got, "\n"), "has not come") {
			t.Errorf("what is no trouble is %d lines:\n%s", len(got), strings.Join(got, "\n"))
		}
	})
}
