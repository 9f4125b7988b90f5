//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/parquet"
)

// entry is one event as a sink has it.
type entry struct {
	ID   string // empty when the event is damaged
	Twin string // the id once more, from another place of the event
	Text string
}

// read calls f for each event of a sink.
func (q *quickstart) read(s sink, f func(entry)) error {
	switch s {
	case webhook, archive:
		return eachLine(q.path("files", string(s)+".jsonl"), func(text []byte) {
			var e struct {
				ID         string `json:"messageId"`
				Properties struct{ Twin string }
			}
			if json.Unmarshal(text, &e) != nil {
				e.ID = ""
			}
			f(entry{e.ID, e.Properties.Twin, string(text)})
		})
	case replica:
		return eachLine(q.path("files", "replica.log"), func(text []byte) {
			id, _, _ := strings.Cut(string(text), " ")
			_, twin, _ := strings.Cut(string(text), " twin=")
			f(entry{id, twin, string(text)})
		})
	case lake:
		return q.readLake(f)
	}
	return q.readOrders(s, f)
}

func eachLine(path string, f func([]byte)) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for l := range bytes.Lines(text) {
		f(bytes.TrimSuffix(l, []byte("\n")))
	}
	return nil
}

func (q *quickstart) readOrders(s sink, f func(entry)) error {
	names, err := filepath.Glob(q.path(string(s), "*.json"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var o entry
		if json.Unmarshal(text, &o) != nil || o.ID+".json" != filepath.Base(name) {
			o.ID = ""
		}
		o.Text = string(text)
		f(o)
	}
	return nil
}

func (q *quickstart) readLake(f func(entry)) error {
	return filepath.WalkDir(q.path("lake"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		r, err := parquet.Open(path)
		if err != nil {
			return err
		}
		defer r.Close()
		for {
			row, err := r.Next(nil)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			var e struct {
				ID   string `json:"event_uuid"`
				Twin string `json:"twin"`
			}
			if json.Unmarshal(row, &e) != nil {
				e.ID = ""
			}
			f(entry{e.ID, e.Twin, string(row)})
		}
	})
}

// count is how often each event is in a sink.
func (q *quickstart) count(s sink) map[string]int {
	q.t.Helper()
	n := map[string]int{}
	if err := q.read(s, func(e entry) { n[e.ID]++ }); err != nil {
		q.t.Fatalf("read %s: %v", s, err)
	}
	return n
}

// missing are the acknowledged events that a sink does not have, sorted.
func (l *ledger) missing(s sink, found map[string]int) (ids []string) {
	for id := range l.acknowledged[s] {
		if found[id] == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// drain waits until every acknowledged event is in its sinks, and returns what has not come
// when nothing has come for a while.
func (q *quickstart) drain(p *process, l *ledger) map[sink][]string {
	q.t.Helper()
	least, since := -1, time.Now()
	for {
		p.alive()
		missing, sum := map[sink][]string{}, 0
		for _, s := range sinks {
			if ids := l.missing(s, q.count(s)); len(ids) > 0 {
				missing[s] = ids
				sum += len(ids)
			}
		}
		if least < 0 || sum < least {
			least, since = sum, time.Now()
		}
		if sum == 0 || time.Since(since) > patience {
			return missing
		}
		pause(context.Background(), 500*time.Millisecond)
	}
}

// report logs, for each sink, what was acknowledged, found, and found more than once.
func (q *quickstart) report(l *ledger, kills, early int) {
	q.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "killed %d times, %d of them before it was ready; %d requests acknowledged, %d events posted more than once\n", kills, early, l.requests, l.repeated)
	for _, s := range sinks {
		found := q.count(s)
		entries := 0
		for _, n := range found {
			entries += n
		}
		fmt.Fprintf(&b, "%-14s acknowledged %6d  found %6d  lost %d  duplicates %d\n",
			s, len(l.acknowledged[s]), len(found), len(l.missing(s, found)), entries-len(found))
	}
	q.t.Log(b.String())
}

// most is how many lost events a failure shows for each sink.
const most = 10

// obituary says of each lost event when it was acknowledged, and where it still is.
func (q *quickstart) obituary(l *ledger, missing map[sink][]string) string {
	places := q.places()
	var b strings.Builder
	for _, s := range slices.Sorted(maps.Keys(missing)) {
		ids := missing[s]
		fmt.Fprintf(&b, "%s: %d events\n", s, len(ids))
		for _, id := range ids[:min(len(ids), most)] {
			var seen []string
			for _, place := range slices.Sorted(maps.Keys(places)) {
				if strings.Contains(places[place], `"`+id+`"`) || strings.Contains(places[place], id+" ") || strings.Contains(places[place], id+`\"`) {
					seen = append(seen, place)
				}
			}
			if len(seen) == 0 {
				seen = []string{"nowhere"}
			}
			fmt.Fprintf(&b, "  %s %s, last seen: %s\n", id, l.acknowledged[s][id], strings.Join(seen, ", "))
		}
	}
	return b.String() + q.tail()
}

// places is the text of everything that may hold an event: sinks, failures, queues.
func (q *quickstart) places() map[string]string {
	texts := map[string]string{}
	for _, s := range sinks {
		var b strings.Builder
		if err := q.read(s, func(e entry) { b.WriteString(e.Text + "\n") }); err != nil {
			fmt.Fprintf(&b, "%v", err)
		}
		texts[string(s)] = b.String()
	}
	failed, _ := filepath.Glob(q.path("failed", "*")) // the pattern is well formed
	for _, name := range failed {
		if text, err := os.ReadFile(name); err == nil {
			texts["failed/"+filepath.Base(name)] = string(text)
		}
	}
	for _, name := range []string{"events", "deliveries", "orders", "lessons", "stream", "machine/orders", "machine/orders/steps"} {
		for state, more := range map[string][]string{"open": nil, "dead": {"--dead"}} {
			text, err := q.ask(append([]string{"queue", "export", name}, more...)...)
			if err != nil {
				text = err.Error()
			}
			texts["queue "+name+" ("+state+")"] = text
		}
	}
	return texts
}

// verify checks what must hold besides that nothing is lost: no event is damaged or in a sink
// that is not its own, the lake has each once, nothing failed, and nothing is left.
func (q *quickstart) verify(l *ledger) {
	q.t.Helper()
	home := map[string]sink{}
	for _, s := range []sink{valid, failing, orphan} {
		for id := range l.acknowledged[s] {
			home[id] = s
		}
	}
	for _, s := range sinks {
		if len(l.acknowledged[s]) == 0 {
			q.t.Errorf("%s: nothing was acknowledged: the test shows nothing", s)
		}
		damaged, times := 0, map[string]int{}
		err := q.read(s, func(e entry) {
			if e.ID == "" || e.Twin != e.ID {
				if damaged++; damaged <= most {
					q.t.Errorf("%s: a damaged event: %.300s", s, e.Text)
				}
			}
			if h, known := home[e.ID]; known && h != s {
				q.t.Errorf("%s: the order %s belongs to %s: %s", s, e.ID, h, e.Text)
			}
			times[e.ID]++
		})
		if err != nil {
			q.t.Errorf("read %s: %v", s, err)
		}
		for id, n := range times {
			if s == lake && n > 1 {
				q.t.Errorf("the lake has %s %d times", id, n)
			}
		}
	}
	failed, err := filepath.Glob(q.path("failed", "*"))
	if err != nil || len(failed) == 0 {
		q.t.Errorf("the files for failures are not there: %v", err)
	}
	for _, name := range failed {
		if text, err := os.ReadFile(name); err != nil || len(text) > 0 {
			q.t.Errorf("%s: %v: %.1000s", filepath.Base(name), err, text)
		}
	}
	q.verifyQueues()
}

// verifyQueues finds nothing in any queue once everything has arrived.
func (q *quickstart) verifyQueues() {
	q.t.Helper()
	out, err := q.ask("queue", "ls", "--json")
	var list struct {
		Queues []struct {
			Name       string `json:"name"`
			Open, Dead int
		} `json:"queues"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	if err != nil || len(list.Queues) < 5 {
		q.t.Errorf("list the queues: %v: %s", err, out)
	}
	for _, x := range list.Queues {
		if x.Dead > 0 {
			q.t.Errorf("queue %s has %d dead messages", x.Name, x.Dead)
		}
	}
}
