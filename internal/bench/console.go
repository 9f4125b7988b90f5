package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// consoleGroup is what the console costs while nobody looks, and while somebody does.
func consoleGroup() group {
	return group{
		name:  "console",
		title: "What the console costs",
		intro: `The same work with and without the block console, in pairs that are interleaved with pairs of two
runs without it; and a process of 50 pipelines and 51 queues, 100 edges in its drawing, in which nothing
moves, with and without a page that is open. CPU is user plus system time of the whole process.`,
		notes: `A pair is two runs one after the other, and its figure their CPU by each other; which of the two
comes first changes from pair to pair. The spread is the distance of the quartiles of the identical pairs.`,
		run: consoleSections,
	}
}

// consolePairs is how many pairs of each kind there are.
const consolePairs = 10

const consoleWork = `admin {
  address = %q
  %s
}
transform {
  use "js" {
    script = "` + `function main(x) { var e = JSON.parse(x.Data); e.seen = e.seen + 1; return { Data: JSON.stringify(e) } }` + `"
  }
}
` + dataOnly

func consoleSections(b *bench) ([]section, error) {
	var out []section
	if b.wanted("console pairs") {
		s, err := b.consolePaired()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if b.wanted("console viewer") {
		s, err := b.consoleViewed()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (b *bench) consolePaired() (section, error) {
	s := section{title: "While nobody looks", head: []string{"pairs", "number", "lower quartile", "median", "upper quartile", "aim for the median"}}
	input := filepath.Join(b.dir, "input")
	if err := jsonLines(input, b.scaled(100_000)); err != nil {
		return s, err
	}
	address, err := freeAddress()
	if err != nil {
		return s, err
	}
	run := func(console bool) (time.Duration, error) {
		block := ""
		if console {
			block = "console {}"
		}
		work, err := b.fresh(map[string]string{"bench.hcl": fmt.Sprintf(consoleWork, address, block)})
		if err != nil {
			return 0, err
		}
		c, err := child(b.command("", b.weir, "run", "--no-progress", "--log-level", "error", "bench.hcl"), work, input)
		return c.cpu, err
	}
	pair := func(of bool, turned bool) (float64, error) {
		var took [2]time.Duration
		for i := range 2 {
			k := i
			if turned {
				k = 1 - i
			}
			var err error
			if took[k], err = run(of && k == 0); err != nil {
				return 0, err
			}
		}
		return float64(took[0]) / float64(took[1]), nil
	}
	if _, err := run(true); err != nil { // the files are in memory then
		return s, err
	}
	var with, same []float64
	for i := range consolePairs {
		for _, x := range []struct {
			of   bool
			into *[]float64
		}{{true, &with}, {false, &same}} {
			r, err := pair(x.of, i%2 == 1)
			if err != nil {
				return s, err
			}
			*x.into = append(*x.into, r)
		}
		b.say("console pair %d: %.3f, identical %.3f", i+1, with[i], same[i])
	}
	slices.Sort(with)
	slices.Sort(same)
	quartile := func(all []float64, k int) float64 { return all[(len(all)-1)*k/4] }
	middle := func(all []float64) float64 { return (all[(len(all)-1)/2] + all[len(all)/2]) / 2 }
	spread := quartile(same, 3) - quartile(same, 1)
	for _, x := range []struct {
		name string
		all  []float64
		aim  string
	}{{"with the console by without", with, fmt.Sprintf("at most %.3f, which is the median of the identical ones, their spread and 0.01", middle(same)+spread+0.01)}, {"without by without", same, "-"}} {
		s.rows = append(s.rows, []string{x.name, strconv.Itoa(len(x.all)), fmt.Sprintf("%.3f", quartile(x.all, 1)), fmt.Sprintf("%.3f", middle(x.all)), fmt.Sprintf("%.3f", quartile(x.all, 3)), x.aim})
	}
	return s, nil
}

// consoleChain is a config with 100 edges.
func consoleChain(address string) string {
	const pipelines = 50
	var text strings.Builder
	fmt.Fprintf(&text, "admin {\n  address = %q\n  console {}\n}\nstore {\n  use \"embedded\" {\n    path = \"store\"\n  }\n}\nqueue \"q0\" {}\n", address)
	for i := range pipelines {
		fmt.Fprintf(&text, "queue \"q%d\" {}\npipeline \"p%d\" {\n  source {\n    use \"queue\" {\n      name = \"q%d\"\n    }\n  }\n  target {\n    use \"queue\" {\n      name = \"q%d\"\n    }\n  }\n}\n", i+1, i, i, i+1)
	}
	return text.String()
}

// consoleLook is how long one watches.
const consoleLook = 30 * time.Second

func (b *bench) consoleViewed() (section, error) {
	s := section{title: "While somebody looks", head: []string{"pages", "% of a core", "frames a second", "peak MB", "aim"}}
	address, err := freeAddress()
	if err != nil {
		return s, err
	}
	work, err := b.fresh(map[string]string{"bench.hcl": consoleChain(address)})
	if err != nil {
		return s, err
	}
	w, err := serve(b.command("", b.weir, "run", "--no-progress", "--log-level", "error", "bench.hcl"), work)
	if err != nil {
		return s, err
	}
	defer func() { _ = w.stop() }() // what was measured is measured
	if err := w.listening(address); err != nil {
		return s, err
	}
	var idle, viewed []float64
	frames, peak := 0, int64(0)
	for range b.rounds {
		for _, pages := range []int{0, 1} {
			share, n, most, err := w.watched("http://"+address+"/v1/live", pages)
			if err != nil {
				return s, err
			}
			if peak = max(peak, most); pages == 0 {
				idle = append(idle, share)
				continue
			}
			viewed, frames = append(viewed, share), frames+n
		}
	}
	same := func(v float64) float64 { return v }
	none, one := median(idle, same), median(viewed, same)
	b.say("console viewer: %.2f %% of a core, %.2f without", one, none)
	s.rows = [][]string{
		{"none", fmt.Sprintf("%.2f", none), "-", strconv.FormatInt(peak/1024, 10), "-"},
		{"one", fmt.Sprintf("%.2f", one), fmt.Sprintf("%.2f", float64(frames)/float64(b.rounds)/consoleLook.Seconds()), strconv.FormatInt(peak/1024, 10), fmt.Sprintf("below %.2f, which is 1 more than without", none+1)},
	}
	return s, nil
}

// watched is how much of a core, in percent, the process takes while pages are open, and how many frames
// they got.
func (s *server) watched(url string, pages int) (share float64, frames int, peak int64, err error) {
	before, err := s.used()
	if err != nil {
		return 0, 0, 0, err
	}
	ctx, done := context.WithTimeout(context.Background(), consoleLook)
	defer done()
	if pages == 0 {
		<-ctx.Done()
	} else if frames, err = framesOf(ctx, url); err != nil {
		return 0, 0, 0, err
	}
	after, err := s.used()
	return 100 * float64(after.cpu-before.cpu) / float64(consoleLook), frames, after.rss, err
}

// framesOf reads a stream of events until ctx ends.
func framesOf(ctx context.Context, url string) (frames int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = a.Body.Close() }()
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if lines.Text() == "event: now" {
			frames++
		}
	}
	if ctx.Err() == nil {
		return frames, errors.Join(errors.New("the stream ended"), lines.Err())
	}
	return frames, nil
}
