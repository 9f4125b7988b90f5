package runs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/postgres"
	"github.com/weirdata/weir/internal/runs"
)

// shifted is a store whose clock a test moves.
type shifted struct {
	queue.Store
	by time.Duration
}

func (s *shifted) Now() time.Time { return s.Store.Now().Add(s.by) }

func store(t *testing.T) *shifted {
	t.Helper()
	s, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &shifted{Store: s}
}

func book(s queue.Store) *runs.Book { return runs.New(func() queue.Store { return s }, nil) }

// sent is an event that a run has sent.
func sent(run, task, source, destination, payload string) *event.Message {
	m := event.New([]byte(payload))
	m.Meta.Descriptor = &event.Descriptor{JobRun: run, TaskRun: task}
	m.Meta.Scope = &event.Scope{Workspace: "w", Source: source, Destination: destination}
	return m
}

func appended(t fatal, b *runs.Book, s queue.Store, stage string, ms ...*event.Message) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return b.Appended(tx, stage, ms) }); err != nil {
		t.Fatal(err)
	}
}

func ended(t fatal, b *runs.Book, s queue.Store, stage string, why error, ms ...*event.Message) {
	t.Helper()
	var ends []runs.End
	for _, m := range ms {
		ends = append(ends, runs.End{Job: &queue.Job{Msg: m, Scope: *m.Meta.Scope}, Why: why})
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return b.Ended(tx, stage, ends) }); err != nil {
		t.Fatal(err)
	}
}

type fatal interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
}

func coded(code string) error {
	return fault.Describe(fault.Invalid, errors.New("no"), fault.Detail{Code: code})
}

func ask(t *testing.T, h http.Handler, method, path string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Result().Header, string(text)
}

// TestAnswers: the literal answers of the interface, as the reference has them.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := store(t)
	b := book(s)
	h := b.Handler()
	is := func(method, path string, code int, want string) {
		t.Helper()
		got, header, text := ask(t, h, method, runs.Path+path)
		if got != code || text != want {
			t.Errorf("%s %s: %d %s\nwant %d %s", method, path, got, text, code, want)
		}
		if code == http.StatusOK && (header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s %s: %v", method, path, header)
		}
	}
	is("GET", "run", 404, "status not found\n")
	is("DELETE", "run", 404, "status not found\n")
	is("GET", "run/failed-records", 200, `{"id":"run","tasks":null}`)
	is("DELETE", "run/failed-records", 204, "")

	one, two := sent("run", "task", "src", "ignored", `{"recordId":7}`), sent("run", "task", "src", "", `{"recordId":{"a":1}}`)
	appended(t, b, s, runs.Sources, one, two)
	is("GET", "run", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","completed":false,"stats":{"in":2,"out":0,"failed":0},"destinations":null}]}]}`)
	is("DELETE", "run", 400, "source not completed\n")
	ended(t, b, s, runs.Sources, nil, one, two)
	to := []*event.Message{sent("run", "task", "src", "d", `{"recordId":7}`), sent("run", "task", "src", "d", `{"recordId":{"a":1}}`)}
	appended(t, b, s, runs.Destinations, to...)
	is("GET", "run", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","completed":false,"stats":{"in":2,"out":2,"failed":0},"destinations":[{"id":"d","completed":false,"stats":{"in":2,"out":0,"failed":0}}]}]}]}`)
	ended(t, b, s, runs.Destinations, coded("400 Bad Request"), to[0])
	ended(t, b, s, runs.Destinations, coded("TypeError"), to[1])
	is("GET", "run", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","completed":true,"stats":{"in":2,"out":2,"failed":0},"destinations":[{"id":"d","completed":true,"stats":{"in":2,"out":0,"failed":2}}]}]}]}`)
	is("GET", "run?task_run_id=other", 404, "status not found\n")
	is("GET", "run?task_run_id=other&task_run_id=task&source_id=src", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","completed":true,"stats":{"in":2,"out":2,"failed":0},"destinations":[{"id":"d","completed":true,"stats":{"in":2,"out":0,"failed":2}}]}]}]}`)
	is("GET", "run/failed-records", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","records":null,"destinations":[{"id":"d","records":[{"record":7,"code":400},{"record":{"a":1},"code":0}]}]}]}]}`)
	is("GET", "run/failed-records?pageSize=0", 400, "pageSize is no number above 0\n")
	is("GET", "run/failed-records?pageToken=%7B", 400, "page token: illegal base64 data at input byte 0\n")
	is("GET", "run/failed-records?source_id=other", 200, `{"id":"run","tasks":null}`)
	is("DELETE", "run/failed-records", 204, "")
	is("GET", "run/failed-records", 200, `{"id":"run","tasks":null}`)

	// What failed is sent again, and passes: what came in is raised.
	ended(t, b, s, runs.Destinations, nil, to[0])
	is("GET", "run", 200, `{"id":"run","tasks":[{"id":"task","sources":[{"id":"src","completed":true,"stats":{"in":2,"out":2,"failed":0},"destinations":[{"id":"d","completed":true,"stats":{"in":3,"out":1,"failed":2}}]}]}]}`)
	is("DELETE", "run", 204, "")
	is("GET", "run", 404, "status not found\n")
	if code, _, text := ask(t, h, "PUT", runs.DrainPath+"gone"); code != http.StatusCreated || text != "" || !b.Cancelled("gone") || b.Cancelled("run") {
		t.Errorf("cancel: %d %s", code, text)
	}
	for _, method := range []string{"POST", "PUT"} {
		if code, _, _ := ask(t, h, method, runs.Path+"run"); code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, code)
		}
	}
}

// TestPages: every record that failed is on one page, in whatever sizes they are asked for.
func TestPages(t *testing.T) {
	t.Parallel()
	s := store(t)
	b := book(s)
	h := b.Handler()
	want := map[string]bool{}
	long := strings.Repeat("x", 900)
	for i, id := range []string{`1`, `"a"`, `"` + long + `"`, `"` + long + `y"`, `{"k":[1,2]}`, `true`, `"/+ä"`} {
		for d := range 3 {
			m := sent("r/1 ä", fmt.Sprint("t", i%2), "s", fmt.Sprint("d", d), `{"recordId":`+id+`}`)
			ended(t, b, s, runs.Destinations, coded("409"), m)
			want[fmt.Sprint("t", i%2, " d", d, " ", id)] = true
		}
	}
	for _, none := range []string{`{}`, `{"recordId":null}`, `{"recordId":""}`, `no JSON`, `{"recordId":"` + strings.Repeat("x", 5000) + `"}`} {
		ended(t, b, s, runs.Destinations, coded("409"), sent("r/1 ä", "t0", "s", "d0", none))
	}
	for _, size := range []int{1, 2, 5, 7, 100} {
		got := map[string]bool{}
		for token, pages := "", 0; ; pages++ {
			path := fmt.Sprintf("%sr%%2F1%%20%%C3%%A4/failed-records?pageSize=%d", runs.Path, size)
			if token != "" {
				path += "&pageToken=" + token
			}
			code, _, text := ask(t, h, "GET", path)
			var f runs.Failures
			if err := json.Unmarshal([]byte(text), &f); err != nil || code != 200 || pages > len(want) {
				t.Fatal(code, text, err)
			}
			n := 0
			for _, task := range f.Tasks {
				for _, d := range task.Sources[0].Destinations {
					for _, r := range d.Records {
						key := task.ID + " " + d.ID + " " + string(r.Record)
						if got[key] || r.Code != 409 {
							t.Errorf("size %d: %s again, or %d", size, key, r.Code)
						}
						got[key] = true
						n++
					}
				}
			}
			if f.Paging == nil {
				break
			}
			if f.Paging.Size != size || n != size {
				t.Errorf("a page of %d has %d and says %d", size, n, f.Paging.Size)
			}
			token = f.Paging.Next
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("size %d: %s", size, diff)
		}
	}
}

// TestFoldIsSum compares statuses with a model, whatever is counted, folded by whom, and forgotten when.
func TestFoldIsSum(t *testing.T) {
	t.Parallel()
	s := store(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		s.by = 0
		books := []*runs.Book{book(s), book(s)}
		type place struct{ run, task, source, destination string }
		type counts struct{ in, out, failed int64 }
		model := map[place]counts{}
		last := map[string]time.Duration{}
		text := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, name) }
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			b := books[rapid.IntRange(0, 1).Draw(rt, "book")]
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2, 3, 4, 5:
				stage := text("stage", runs.Stages...)
				var ms []*event.Message
				for range rapid.IntRange(1, 5).Draw(rt, "events") {
					ms = append(ms, sent(fmt.Sprint(round, text("run", "a", "b")), text("task", "", "t"), text("source", "s", "ss"), text("destination", "", "d"), `{}`))
				}
				what := rapid.IntRange(0, 2).Draw(rt, "what")
				for _, m := range ms {
					p := place{m.Meta.Descriptor.JobRun, m.Meta.Descriptor.TaskRun, m.Meta.Scope.Source, m.Meta.Scope.Destination}
					if stage == runs.Sources {
						p.destination = ""
					}
					c := model[p]
					switch what {
					case 0:
						c.in++
					case 1:
						c.out++
					case 2:
						c.failed++
					}
					model[p], last[p.run] = c, s.by
				}
				switch what {
				case 0:
					appended(rt, b, s, stage, ms...)
				case 1:
					ended(rt, b, s, stage, nil, ms...)
				case 2:
					ended(rt, b, s, stage, coded("400"), ms...)
				}
			case 6, 7:
				if err := b.Fold(rt.Context()); err != nil {
					rt.Fatal(err)
				}
			case 8:
				// Never just as long as a run is kept: real time passes, too.
				s.by += time.Duration(rapid.IntRange(1, 50).Draw(rt, "hours"))*time.Hour + 7*time.Minute
			case 9:
				if err := errors.Join(b.Fold(rt.Context()), b.Forget(rt.Context())); err != nil {
					rt.Fatal(err)
				}
				for run, at := range last {
					if s.by-at > runs.Retention {
						maps.DeleteFunc(model, func(p place, _ counts) bool { return p.run == run })
						delete(last, run)
					}
				}
			}
			for _, run := range []string{fmt.Sprint(round, "a"), fmt.Sprint(round, "b")} {
				got := map[place]counts{}
				st, err := b.Status(rt.Context(), run, runs.Filter{})
				if err != nil && !errors.Is(err, runs.ErrNotFound) {
					rt.Fatal(err)
				}
				if st != nil {
					for _, task := range st.Tasks {
						for _, source := range task.Sources {
							p := place{run, task.ID, source.ID, ""}
							if c := (counts{source.Stats.In, source.Stats.Out, source.Stats.Failed}); c != (counts{}) {
								got[p] = c
							}
							for _, d := range source.Destinations {
								p.destination = d.ID
								got[p] = counts{d.Stats.In, d.Stats.Out, d.Stats.Failed}
							}
						}
					}
				}
				want := map[place]counts{}
				for p, c := range model {
					if p.run == run {
						c.in = max(c.in, c.out+c.failed)
						want[p] = c
					}
				}
				if !maps.Equal(got, want) {
					rt.Fatalf("run %s: %v, want %v", run, got, want)
				}
			}
		}
	})
}

// TestForgotten: nothing of a run is left in the store when it is old, also where only its failed
// records are.
func TestForgotten(t *testing.T) {
	t.Parallel()
	s := store(t)
	b := book(s)
	for i := range 1300 {
		ended(t, b, s, runs.Destinations, coded("400"), sent("old", "t", "s", fmt.Sprint("d", i), fmt.Sprintf(`{"recordId":%d}`, i)))
	}
	if err := errors.Join(b.Fold(t.Context()), b.DeleteStatus(t.Context(), "old", runs.Filter{})); err != nil {
		t.Fatal(err)
	}
	s.by = runs.Retention + time.Hour
	appended(t, b, s, runs.Sources, sent("new", "t", "s", "", `{}`))
	if err := errors.Join(b.Fold(t.Context()), b.Forget(t.Context())); err != nil {
		t.Fatal(err)
	}
	var left []string
	if err := s.View(t.Context(), func(r queue.Reader) error {
		left = left[:0]
		for rec, err := range r.Scan([]byte("runs/"), nil) {
			if err != nil {
				return err
			}
			left = append(left, string(rec.Key[:len("runs/s/")]))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"runs/k/", "runs/s/"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

// TestTogether: of counts that several processes write and fold at once in one store in PostgreSQL none
// is lost and none doubled.
func TestTogether(t *testing.T) {
	t.Parallel()
	url := enginetest.Postgres(t)
	const processes, rounds = 3, 40
	var wg sync.WaitGroup
	var all []*runs.Book
	for n := range processes {
		s, err := postgres.New(postgres.Options{DSN: url, Name: fmt.Sprint("process-", n)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		b := book(s)
		all = append(all, b)
		wg.Go(func() {
			for range rounds {
				if err := s.Update(t.Context(), func(tx queue.Tx) error {
					m := sent("run", "t", "s", "d", `{}`)
					err := b.Appended(tx, runs.Destinations, event.Batch{m, m})
					return cmp.Or(err, b.Ended(tx, runs.Destinations, []runs.End{{Job: &queue.Job{Msg: m, Scope: *m.Meta.Scope}}}))
				}); err != nil {
					t.Error(err)
				}
				if err := b.Fold(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, b := range all {
		st, err := b.Status(t.Context(), "run", runs.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := st.Tasks[0].Sources[0].Destinations[0].Stats, (runs.Stats{In: 2 * processes * rounds, Out: processes * rounds}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// FuzzToken: no text of a token makes it panic.
func FuzzToken(f *testing.F) {
	f.Add("eyJpZCI6IjAxIiwicmVjb3JkX2lkIjoiMSJ9")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := runs.ParseToken(text); err == nil {
			if again, err := runs.ParseToken(token.String()); err != nil || again.String() != token.String() {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
