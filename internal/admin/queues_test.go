package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// kept is an embedded store with the abilities that operators use.
type kept struct{ *embedded.Store }

func (k kept) Usage(context.Context) (map[string]int64, error) {
	return map[string]int64{"log_bytes": 7}, nil
}

func (k kept) Verify(_ context.Context, progress func(done, total int64)) (map[string]int64, error) {
	progress(1, 2)
	return map[string]int64{"records": 3}, nil
}

func (k kept) Backup(_ context.Context, dir string, progress func(done, total int64)) error {
	progress(4, 5)
	if dir != "/backup/of it" {
		return fmt.Errorf("to %q", dir)
	}
	return nil
}

func openStore(t testing.TB) kept {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return kept{s}
}

var configured = []connector.Queue{{Name: "a"}, {Name: "b", Ordered: true}}

// operators are the two ways to operate on s: directly and over HTTP.
func operators(t *testing.T, s queue.Store) map[string]Operator {
	t.Helper()
	local := Local{Store: s, Name: "memory", Config: configured}
	server := httptest.NewServer(handler(Options{
		Pipelines: &meter.Registry{}, Ready: func() error { return nil },
		Store: func() (queue.Store, string, []connector.Queue) { return s, "memory", configured },
	}))
	t.Cleanup(server.Close)
	c, err := Dial(t.Context(), Where{Address: strings.TrimPrefix(server.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return map[string]Operator{"local": local, "client": c}
}

// both runs a test on a fresh store, in both ways.
func both(t *testing.T, f func(t *testing.T, s kept, o Operator)) {
	t.Helper()
	for _, name := range []string{"local", "client"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			f(t, s, operators(t, s)[name])
		})
	}
}

func appendJobs(t testing.TB, s queue.Store, jobs ...queue.Job) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

func job(name, payload, destination string) queue.Job {
	return queue.Job{Queue: name, Msg: event.New([]byte(payload)), Scope: queue.Scope{Destination: destination}}
}

// kill makes every open job of a queue dead; its cause is "cause of" and its payload.
func kill(t *testing.T, s queue.Store, name string) {
	t.Helper()
	for {
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: name}})
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 0 {
			return
		}
		rs := make([]queue.Result, len(jobs))
		for i := range jobs {
			rs[i] = jobs[i].Dead("cause of " + string(jobs[i].Msg.Data))
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(rs...) }); err != nil {
			t.Fatal(err)
		}
	}
}

func payloads(p Page) (out []string) {
	for _, j := range p.Jobs {
		out = append(out, string(*j.Payload))
	}
	return out
}

func TestQueues(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		appendJobs(t, s, job("b", "dies", "x"))
		kill(t, s, "b")
		appendJobs(t, s, job("a", "1", "x"), job("a", "2", "y"), job("gone", "3", ""))
		got, err := o.Queues(t.Context(), queue.ByDestination)
		if err != nil {
			t.Fatal(err)
		}
		one, dead := Counts{Open: 1, Waiting: 1}, Counts{Dead: 1}
		want := Overview{Queues: []QueueCounts{
			{Name: "a", Unread: true, Counts: Counts{Open: 2, Waiting: 2}, Values: []ValueCounts{{"x", one}, {"y", one}}},
			{Name: "b", Counts: dead, Values: []ValueCounts{{"x", dead}}},
			{Name: "gone", Undeclared: true, Unread: true, Counts: one, Values: []ValueCounts{{"", one}}},
		}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Counts{}, "Bytes")); diff != "" {
			t.Errorf("queues (-want +got):\n%s", diff)
		}
		if got.Queues[0].Bytes == 0 || o.Identity() != "memory" {
			t.Errorf("bytes %d, identity %q", got.Queues[0].Bytes, o.Identity())
		}
	})
}

func TestJobs(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		for i := range 25 {
			appendJobs(t, s, job("a", fmt.Sprint(i), "x"))
		}
		var all []string
		after := ""
		for {
			p, err := o.Jobs(t.Context(), "a", Selection{}, after, 10)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, payloads(p)...)
			if after = p.Next; after == "" {
				break
			}
		}
		if len(all) != 25 || all[24] != "24" {
			t.Errorf("jobs %q", all)
		}
		if n, err := o.Count(t.Context(), "a", Selection{}); err != nil || n != 25 {
			t.Errorf("count %d, %v", n, err)
		}
		p, err := o.Jobs(t.Context(), "a", Selection{Before: time.Now().Add(-time.Hour)}, "", 10)
		if err != nil || len(p.Jobs) != 0 {
			t.Errorf("older than an hour: %q, %v", payloads(p), err)
		}
		if p, err = o.Jobs(t.Context(), "a", Selection{By: queue.ByDestination, Value: "y"}, "", 10); err != nil || len(p.Jobs) != 0 {
			t.Errorf("of destination y: %q, %v", payloads(p), err)
		}
	})
}

// TestLargePages keeps a page small when jobs are large.
func TestLargePages(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for range 8 {
		appendJobs(t, s, job("a", strings.Repeat("x", 3<<20), ""))
	}
	p, err := Local{Store: s, Name: "memory", Config: configured}.Jobs(t.Context(), "a", Selection{}, "", 1000)
	if err != nil || len(p.Jobs) > 4 || p.Next == "" {
		t.Errorf("%d jobs of 3 MiB on a page, next %q, %v", len(p.Jobs), p.Next, err)
	}
	if n, err := (Local{Store: s, Name: "memory", Config: configured}).Count(t.Context(), "a", Selection{}); n != 8 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
}

func TestRetryAndDrop(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		appendJobs(t, s, job("a", "timeout", "x"), job("a", "refused", "x"), job("a", "other", "y"))
		kill(t, s, "a")
		if _, err := o.Retry(t.Context(), "a", Selection{}); err == nil || !strings.Contains(err.Error(), "nothing says which") {
			t.Errorf("retry of nothing chosen: %v", err)
		}
		if n, err := o.Retry(t.Context(), "a", Selection{Cause: "timeout"}); n != 1 || err != nil {
			t.Errorf("retry by cause: %d, %v", n, err)
		}
		p, err := o.Jobs(t.Context(), "a", Selection{Dead: true}, "", 10)
		if err != nil || len(p.Jobs) != 2 || p.Jobs[0].Attempts != 1 || p.Jobs[0].Cause != "cause of refused" {
			t.Fatalf("dead: %+v, %v", p.Jobs, err)
		}
		if n, err := o.Drop(t.Context(), "a", Selection{IDs: []string{p.Jobs[0].ID}}); n != 1 || err != nil {
			t.Errorf("drop by ID: %d, %v", n, err)
		}
		if n, err := o.Drop(t.Context(), "a", Selection{All: true}); n != 1 || err != nil {
			t.Errorf("drop all: %d, %v", n, err)
		}
		if p, err := o.Jobs(t.Context(), "a", Selection{}, "", 10); err != nil || fmt.Sprint(payloads(p)) != "[timeout]" {
			t.Errorf("open: %q, %v", payloads(p), err)
		}
	})
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ kept, o Operator) {
		for what, f := range map[string]func() error{
			"there is no such queue; the config has a, b": func() error { _, err := o.Jobs(t.Context(), "c", Selection{}, "", 1); return err },
			"not of the form lane-seq-index":              func() error { _, err := o.Count(t.Context(), "a", Selection{IDs: []string{"7"}}); return err },
			`cannot be chosen by "tenant"`:                func() error { _, err := o.Queues(t.Context(), "tenant"); return err },
			"no such queue":                               func() error { _, err := o.Export(t.Context(), "c", Selection{}, io.Discard, nil); return err },
			"the config has a":                            func() error { _, err := o.Import(t.Context(), "c", strings.NewReader("{}"), nil); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("error %v, want one with %q", err, what)
			}
		}
		if _, err := o.Drop(t.Context(), "c", Selection{All: true}); !errors.Is(err, ErrNoQueue) {
			t.Errorf("drop from no queue: %v", err)
		}
	})
}

// TestRoundTrip exports random jobs and imports them into another store: they are the same.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	bytesOf := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) string { return s }),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		var jobs []queue.Job
		for range rapid.IntRange(1, 5).Draw(t, "jobs") {
			m := event.New([]byte(bytesOf.Draw(t, "payload")))
			switch rapid.IntRange(0, 3).Draw(t, "form") {
			case 0:
				m.Replace([]byte(bytesOf.Draw(t, "changed")))
			case 1:
				m.Replace(nil)
			}
			m.Key, m.Meta.ID = bytesOf.Draw(t, "key"), bytesOf.Draw(t, "id")
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				m.Meta.Headers = m.Meta.Headers.Add(bytesOf.Draw(t, "name"), []byte(bytesOf.Draw(t, "value")))
			}
			if rapid.Bool().Draw(t, "origin") {
				m.Meta.Origin = &event.Origin{Stream: bytesOf.Draw(t, "stream"), Partition: bytesOf.Draw(t, "partition"), Position: []byte(bytesOf.Draw(t, "position")),
					Sub: rapid.Uint64().Draw(t, "sub"), At: m.Times.Created}
			}
			if rapid.Bool().Draw(t, "descriptor") {
				m.Meta.Descriptor = &event.Descriptor{JobRun: bytesOf.Draw(t, "job"), TaskRun: bytesOf.Draw(t, "task"), Type: bytesOf.Draw(t, "type"),
					Name: bytesOf.Draw(t, "event name"), Transient: rapid.Bool().Draw(t, "transient")}
			}
			j := queue.Job{Queue: "a", Msg: m, Ordered: m.Key != "" && rapid.Bool().Draw(t, "ordered"),
				Scope: queue.Scope{Workspace: bytesOf.Draw(t, "workspace"), Destination: bytesOf.Draw(t, "destination")}}
			if rapid.Bool().Draw(t, "later") {
				j.NotBefore = time.Now().Add(time.Hour).UTC()
			}
			jobs = append(jobs, j)
		}
		from, to := memory(t), memory(t)
		defer from.Close()
		defer to.Close()
		if err := from.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
			t.Fatal(err)
		}
		var lines bytes.Buffer
		n, err := Local{Store: from, Config: configured}.Export(context.Background(), "a", Selection{}, &lines, nil)
		if err != nil || n != len(jobs) || bytes.Count(lines.Bytes(), []byte("\n")) != n {
			t.Fatalf("exported %d of %d, %v", n, len(jobs), err)
		}
		text := lines.String()
		if n, err = (Local{Store: to, Config: configured}).Import(context.Background(), "a", &lines, nil); err != nil || n != len(jobs) {
			t.Fatalf("imported %d, %v: %s", n, err, text)
		}
		before, after := listed(t, from), listed(t, to)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("round trip (-exported +imported):\n%s\n%s", diff, text)
		}
	})
}

func memory(t *rapid.T) *embedded.Store {
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same is what an export keeps of a job.
type same struct {
	Data, Raw     []byte
	Key, ID       string
	Headers       event.Headers
	Origin        string
	Descriptor    *event.Descriptor
	Created, Read time.Time
	Scope         queue.Scope
	Ordered       bool
	NotBefore     time.Time
}

func listed(t *rapid.T, s *embedded.Store) (out []same) {
	p, err := s.List(context.Background(), queue.Search{Filter: queue.Filter{Queue: "a"}}, queue.ID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Jobs {
		j := &p.Jobs[i]
		m := j.Msg
		out = append(out, same{m.Data, m.Raw(), m.Key, m.Meta.ID, m.Meta.Headers, origin(m), m.Meta.Descriptor, m.Times.Created, m.Times.Read, j.Scope, j.Ordered, j.NotBefore})
	}
	return out
}

// TestImportMistakes imports what is before a wrong line, and says with which line to go on.
func TestImportMistakes(t *testing.T) {
	t.Parallel()
	good := "{\"payload\":\"x\"}\n"
	for _, row := range []struct {
		name, lines string
		imported    int64
		err         string
	}{
		{"nothing", "", 0, ""},
		{"empty lines", "\n" + good + "\n  \n" + good, 2, ""},
		{"no line end", good + `{"payload":"y"}`, 2, ""},
		{"no payload", `{"payload":null,"key":"k"}`, 1, ""},
		{"not JSON", good + "hello\n" + good, 1, "line 2: not a message of an export"},
		{"first line", "hello\n", 0, "line 1: not a message of an export: invalid character 'h' looking for beginning of value (nothing was imported)"},
		{"unknown field", good + `{"paylod":"y"}`, 1, `line 2: not a message of an export: json: unknown field "paylod" (1 messages were imported, up to line 1: import the rest with tail -n +2)`},
		{"two objects", `{"payload":"y"} {"payload":"z"}`, 0, "something after the object"},
		{"not base64", `{"payload":{"base64":"%"}}`, 0, "want a string"},
		{"a number", `{"payload":7}`, 0, "want a string"},
		{"too large", good + good + `{"payload":"` + strings.Repeat("x", queue.MaxPayload+1) + `"}`, 2, "line 3: append job to queue \"a\": the payload has"},
		{"many", strings.Repeat(good, 2500) + "{", 2500, "line 2501"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, s kept, o Operator) {
				n, err := o.Import(t.Context(), "a", strings.NewReader(row.lines), func(int) {})
				if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
					t.Errorf("error %.300v, want %q", err, row.err)
				}
				st, serr := s.Stats(t.Context(), queue.Filter{Queue: "a"})
				if serr != nil || int64(n) != row.imported || st.Waiting != row.imported {
					t.Errorf("imported %d, the queue has %+v (%v), want %d", n, st, serr, row.imported)
				}
			})
		})
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ kept, o Operator) {
		if u, err := o.Usage(t.Context()); err != nil || u["log_bytes"] != 7 {
			t.Errorf("usage %v, %v", u, err)
		}
		var seen [2]int64
		figures, err := o.Verify(t.Context(), func(done, total int64) { seen = [2]int64{done, total} })
		if err != nil || figures["records"] != 3 || seen != [2]int64{1, 2} {
			t.Errorf("verify %v, %v, progress %v", figures, err, seen)
		}
		if err := o.Compact(t.Context()); err != nil {
			t.Error(err)
		}
		err = o.Backup(t.Context(), "/backup/of it", func(done, total int64) { seen = [2]int64{done, total} })
		if err != nil || seen != [2]int64{4, 5} {
			t.Errorf("backup: %v, progress %v", err, seen)
		}
		if err := o.Backup(t.Context(), "elsewhere", func(int64, int64) {}); err == nil {
			t.Error("a backup that failed is said to be there")
		}
	})
}

// plain is a store without any ability beyond queue.Store.
type plain struct{ queue.Store }

func TestUnsupported(t *testing.T) {
	t.Parallel()
	for name, o := range operators(t, plain{openStore(t)}) {
		if _, err := o.Verify(t.Context(), nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: verify: %v", name, err)
		}
		if err := o.Compact(t.Context()); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: compact: %v", name, err)
		}
		if err := o.Backup(t.Context(), "/backup", nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: backup: %v", name, err)
		}
		if _, err := o.Queues(t.Context(), ""); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: queues: %v", name, err)
		}
		if u, err := o.Usage(t.Context()); err != nil || len(u) != 0 {
			t.Errorf("%s: usage: %v, %v", name, u, err)
		}
	}
}

func TestServerWithoutStore(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(handler(Options{Pipelines: &meter.Registry{}, Ready: func() error { return errors.New("not started") },
		Store: func() (queue.Store, string, []connector.Queue) { return nil, "", nil }}))
	defer server.Close()
	if _, err := Dial(t.Context(), Where{Address: strings.TrimPrefix(server.URL, "http://")}); !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "no store is open in this process") {
		t.Errorf("Dial: %v", err)
	}
	for path, code := range map[string]int{"/v1/queues": 503, "/metrics": 200, "/healthz": 200, "/readyz": 503, "/v1/nothing": 404} {
		r, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != code {
			t.Errorf("GET %s: %d, want %d", path, r.StatusCode, code)
		}
	}
	if _, err := Dial(t.Context(), Where{Address: "127.0.0.1:0"}); !errors.Is(err, ErrNoServer) {
		t.Errorf("Dial port 0: %v", err)
	}
}

// TestOtherSites keeps a page of another site from dropping messages through the browser
// of somebody who can reach the server.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	appendJobs(t, s, job("a", "x", ""))
	kill(t, s, "a")
	h := handler(Options{Pipelines: &meter.Registry{}, Ready: func() error { return nil },
		Store: func() (queue.Store, string, []connector.Queue) { return s, "memory", configured }})
	r := httptest.NewRequest(http.MethodPost, "/v1/queues/a/drop", strings.NewReader(`{"all":true}`))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || w.Code != http.StatusForbidden || st.Dead != 1 {
		t.Errorf("answer %d, left %+v, %v", w.Code, st, err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	appendJobs(t, s, job("a", "x", ""), job("a", "y", ""))
	kill(t, s, "a")
	appendJobs(t, s, job("a", "z", ""), job("left", "x", ""))
	w := httptest.NewRecorder()
	handler(Options{Pipelines: &meter.Registry{}, Ready: func() error { return nil },
		Store: func() (queue.Store, string, []connector.Queue) { return s, "memory", configured }}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`weir_queue_jobs{queue="a",state="waiting"} 1`, `weir_queue_jobs{queue="a",state="dead"} 2`,
		`weir_queue_jobs{queue="b",state="leased"} 0`, `weir_queue_bytes{queue="b"} 0`,
		`weir_queue_unread{queue="left"} 1`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

// later is a store whose clock is ahead of that of the machine.
type later struct{ kept }

func (l later) Now() time.Time { return time.Now().Add(2 * time.Hour) }

// TestOlderThan: how old a message is goes by the clock of the store.
func TestOlderThan(t *testing.T) {
	t.Parallel()
	s := later{openStore(t)}
	appendJobs(t, s, job("a", "x", ""), job("a", "y", ""))
	for name, o := range operators(t, s) {
		for age, want := range map[time.Duration]int{time.Hour: 2, 3 * time.Hour: 0} {
			if n, err := o.Count(t.Context(), "a", Selection{OlderThan: age}); err != nil || n != want {
				t.Errorf("%s: %d messages are older than %s, want %d, %v", name, n, age, want, err)
			}
		}
		if n, err := o.Drop(t.Context(), "a", Selection{OlderThan: -time.Hour}); err == nil {
			t.Errorf("%s: a negative age has dropped %d messages", name, n)
		}
	}
}

// TestBrokenExport is never taken for a whole one.
func TestBrokenExport(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for range 10 {
		appendJobs(t, s, job("a", strings.Repeat("x", 1<<20), ""))
	}
	o := operators(t, &failing{kept: s, pages: 2})["client"]
	if n, err := o.Export(t.Context(), "a", Selection{}, io.Discard, nil); err == nil {
		t.Errorf("%d messages were exported without an error", n)
	}
}

// failing is a store whose lists fail after some pages.
type failing struct {
	kept
	pages int
}

func (f *failing) List(ctx context.Context, s queue.Search, after queue.ID, limit int) (queue.Page, error) {
	if f.pages--; f.pages < 0 {
		return queue.Page{}, queue.ErrCorrupt
	}
	return f.kept.List(ctx, s, after, limit)
}

// origin is where m was read, as text: a position without bytes is one without.
func origin(m *event.Message) string {
	o := m.Meta.Origin
	if o == nil {
		return ""
	}
	return fmt.Sprintf("%q %q %q %d %v", o.Stream, o.Partition, o.Position, o.Sub, o.At)
}
