package suppression

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func opened(t testing.TB, o Options, a Access) *Set {
	t.Helper()
	s := New(o)
	if err := s.Open(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// until waits for something that another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	late := time.After(3 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: it did not come", what)
		}
	}
}

type fate struct{ workspace, user, source string }

// TestFollow compares a set with a model, and with one that polls it: users and sources come and are
// taken back at random, and either is closed and opened again.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		at := filepath.Join(dir, fmt.Sprint(run))
		a := Access{Token: "secret", Poll: time.Millisecond, Timeout: time.Minute, PageSize: rapid.IntRange(1, 4).Draw(rt, "page")}
		first := New(Options{Path: at + "-first"})
		if err := first.Open(t.Context(), a); err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = first.Close() }()
		door := httptest.NewServer(first.Handler("secret"))
		defer door.Close()
		follow := func() *Set {
			return New(Options{Path: at + "-second", Plane: &Plane{URL: door.URL, Workspace: "w"}})
		}
		model := map[fate]bool{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			f := fate{rapid.SampledFrom([]string{"w", "x"}).Draw(rt, "workspace"), rapid.SampledFrom([]string{"ann", "b/ö", "c d"}).Draw(rt, "user"), rapid.SampledFrom([]string{every, "s1", "s2"}).Draw(rt, "source")}
			method := rapid.SampledFrom([]string{http.MethodPut, http.MethodDelete}).Draw(rt, "method")
			ask(rt, door.URL, method, f)
			model[f] = method == http.MethodPut
			if rapid.IntRange(0, 3).Draw(rt, "restart") == 0 {
				if err := first.Close(); err != nil {
					rt.Fatal(err)
				}
				if err := first.Open(t.Context(), a); err != nil {
					rt.Fatal(err)
				}
			}
		}
		second := follow()
		if err := second.Open(t.Context(), a); err != nil {
			rt.Fatal(err)
		}
		is := func(s *Set, workspaces ...string) bool {
			users := map[[2]string]bool{}
			for f, on := range model {
				if on && slices.Contains(workspaces, f.workspace) {
					users[[2]string{f.workspace, f.user}] = true
				}
			}
			for _, w := range []string{"w", "x"} {
				for _, u := range []string{"ann", "b/ö", "c d", "nobody"} {
					for _, source := range []string{"s1", "s2", "s3"} {
						want := slices.Contains(workspaces, w) && (model[fate{w, u, every}] || model[fate{w, u, source}])
						if got, err := s.Suppressed(w, source, u); err != nil || got != want {
							return false
						}
					}
				}
			}
			return s.Count() == int64(len(users))
		}
		if !is(first, "w", "x") {
			rt.Fatalf("the first is not as the model: %v", model)
		}
		until(t, "the second is as the first", func() bool { return is(second, "w") })
		if err := second.Close(); err != nil {
			rt.Fatal(err)
		}
		f := fate{"w", "ann", "s1"}
		ask(rt, door.URL, http.MethodPut, f)
		model[f] = true
		again := follow()
		if err := again.Open(t.Context(), a); err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		until(t, "the second is as the first, opened again", func() bool { return is(again, "w") })
	})
}

func ask(t *rapid.T, at, method string, f fate) {
	at = fmt.Sprintf("%s/dataplane/workspaces/%s/suppressions/%s", at, f.workspace, url.PathEscape(f.user))
	if f.source != every {
		at += "?sourceId=" + f.source
	}
	r, err := http.NewRequest(method, at, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("secret", "")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s: %s", method, at, resp.Status)
	}
}

// TestPlane: what a control plane may answer otherwise. What is known stays, and a set that was never
// complete lets nobody through.
func TestPlane(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[string]
	var status atomic.Int64
	var asked atomic.Pointer[string]
	say := func(code int, text string) {
		answer.Store(&text)
		status.Store(int64(code))
	}
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		text := user + " " + r.URL.String()
		asked.Store(&text)
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(*answer.Load()))
	}))
	t.Cleanup(plane.Close)
	path := filepath.Join(t.TempDir(), "set")
	o := Options{Path: path, Plane: &Plane{URL: plane.URL, Namespace: "n"}}
	a := Access{Token: "hush", Poll: time.Millisecond, Timeout: time.Minute, PageSize: 2}
	for name, bad := range map[string]struct {
		code int
		text string
	}{
		"no token": {200, `{"items":[],"token":""}`}, "no answer": {200, ``}, "half": {200, `{"items":[{"userId":"a"`},
		"refused": {401, `{}`}, "broken": {500, `{"items":[],"token":"t"}`},
	} {
		say(bad.code, bad.text)
		s := New(o)
		asked.Store(nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for {
				s.telling.Lock()
				told := s.trouble
				s.telling.Unlock()
				if told != "" {
					cancel()
					return
				}
				if !sleep(ctx, time.Millisecond) {
					return
				}
			}
		}()
		err := s.Open(ctx, a)
		cancel()
		if err == nil {
			t.Fatalf("%s: it is open", name)
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	page := func(token string, users ...string) string {
		var p = page{Items: []Item{}, Token: token}
		for _, u := range users {
			p.Items = append(p.Items, Item{Workspace: "w", User: u, Sources: nil})
		}
		text, _ := json.Marshal(p)
		return string(text)
	}
	say(200, page("one", "a"))
	s := opened(t, o, a)
	if yes, err := s.Suppressed("w", "any", "a"); !yes || err != nil {
		t.Errorf("a is suppressed: %t, %v", yes, err)
	}
	until(t, "the token is sent", func() bool {
		p := asked.Load()
		return p != nil && *p == "hush /dataplane/namespaces/n/regulations/suppressions?pageSize=2&pageToken=one"
	})
	say(200, `{"items":[{"workspaceId":"w","userId":"a","canceled":true}],"token":""}`)
	until(t, "an empty token is trouble", func() bool {
		s.telling.Lock()
		defer s.telling.Unlock()
		return strings.Contains(s.trouble, "without a token")
	})
	if yes, _ := s.Suppressed("w", "any", "a"); !yes {
		t.Error("a page without a token was applied")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Suppressed("w", "any", "a"); err == nil {
		t.Error("a closed set answers")
	}
	say(500, "")
	again := opened(t, o, a) // it was complete: it needs no plane
	if yes, err := again.Suppressed("w", "any", "a"); !yes || err != nil {
		t.Errorf("a is suppressed after a start without the plane: %t, %v", yes, err)
	}
	other := New(Options{Path: path, File: "x"})
	_ = again.Close()
	if err := other.Open(t.Context(), a); err == nil || !strings.Contains(err.Error(), "control plane") {
		t.Errorf("the folder of another plane: %v", err)
	}
}

// TestFile: the users of a file are those that count, as it is now; one that cannot be read changes nothing.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := filepath.Join(dir, "users")
	n := 0
	write := func(text string) {
		n++
		part := filepath.Join(dir, fmt.Sprint("part", n))
		if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(part, time.Time{}, time.Unix(1_700_000_000+int64(n), 0)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(part, at); err != nil {
			t.Fatal(err)
		}
	}
	write("ann\n\n  bob  \n" + `{"workspaceId":"w","userId":"cat","sourceIds":["s"]}` + "\n")
	s := opened(t, Options{Path: filepath.Join(dir, "set"), File: at}, Access{})
	want := func(count int64, yes ...fate) {
		t.Helper()
		if s.Count() != count {
			t.Errorf("%d users are suppressed, want %d", s.Count(), count)
		}
		for _, f := range []fate{{"w", "ann", "s"}, {"v", "bob", "z"}, {"w", "cat", "s"}, {"w", "cat", "z"}, {"v", "cat", "s"}} {
			got, err := s.Suppressed(f.workspace, f.source, f.user)
			if err != nil || got != slices.Contains(yes, f) {
				t.Errorf("%v is suppressed: %t, %v", f, got, err)
			}
		}
	}
	want(3, fate{"w", "ann", "s"}, fate{"v", "bob", "z"}, fate{"w", "cat", "s"})
	write("bob\n" + `{"workspaceId":"w","userId":"cat","sourceIds":["z"]}`)
	if err := s.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(2, fate{"v", "bob", "z"}, fate{"w", "cat", "z"})
	write("ann\n{broken\n")
	if err := s.look(t.Context()); err == nil || !strings.Contains(err.Error(), "users:2") {
		t.Errorf("a broken line: %v", err)
	}
	want(2, fate{"v", "bob", "z"}, fate{"w", "cat", "z"})
	if err := s.Put(t.Context(), Item{Workspace: "w", User: "u"}); err == nil {
		t.Error("a user was put into a set that is a file's")
	}
	write("")
	if err := s.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(0)
}

// BenchmarkUsers loads b.N users, and says what a question costs, and how much memory all of it takes:
// with -benchtime=10000000x that of ten million.
func BenchmarkUsers(b *testing.B) {
	s := opened(b, Options{Path: filepath.Join(b.TempDir(), "set")}, Access{})
	name := func(i int) string { return fmt.Sprintf("user-%012d", i*7919%1_000_000_007) }
	const group = 50_000
	for from := 0; from < b.N; from += group {
		if err := s.change(func(c *change) error {
			for i := from; i < min(from+group, b.N); i++ {
				if err := c.apply(&Item{Workspace: "workspace", User: name(i)}, 0); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	until(b, "the filter is made", func() bool { f := s.filter.Load(); return f != nil && s.Count() <= f.room })
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/user")
	const questions = 200_000
	ask := func(from int, want bool) float64 {
		began := time.Now()
		for i := range questions {
			if yes, err := s.Suppressed("workspace", "source", name(from+i%b.N)); err != nil || yes != want {
				b.Fatalf("user %d: %t, %v", from+i, yes, err)
			}
		}
		return float64(time.Since(began).Nanoseconds()) / questions
	}
	b.ReportMetric(ask(100_000_000, false), "ns/no")
	b.ReportMetric(ask(0, true), "ns/yes")
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("there is no /proc/self/statm here")
	}
	var all, pages float64
	if _, err := fmt.Sscan(string(text), &all, &pages); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(pages*float64(os.Getpagesize())/(1<<20), "MiB-resident")
}
