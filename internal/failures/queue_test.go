package failures

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

func openStore(t *testing.T) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// failed is a job with the row of a payload that transforms made "made" of.
func failed(t *testing.T, payload, cause string) queue.Job {
	t.Helper()
	m := event.New([]byte(payload))
	m.Key, m.Meta.Headers = "key of "+payload, event.HeadersOf(map[string]string{"h": payload})
	m.Replace([]byte("made"))
	row, err := generic.Invalid(readAt, m.Raw(), m.Data, errors.New(cause), 0)
	if err != nil {
		t.Fatal(err)
	}
	m.Replace(row)
	return queue.Job{Queue: "q", Msg: m, Scope: queue.Scope{Source: payload}}
}

func add(t *testing.T, s queue.Store, jobs ...queue.Job) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// leased takes everything that may be handed out.
func leased(t *testing.T, s queue.Store) []queue.Job {
	t.Helper()
	jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q"}})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func source(s queue.Store, sel Selection) (*QueueSource, *Tally) {
	tally := &Tally{}
	return &QueueSource{Plan: Plan{Selection: sel, Tally: tally}, Name: "q", Store: func() queue.Store { return s }}, tally
}

// TestQueuesGiveUpWhatIsSettled: of what is chosen only what was settled leaves the queue,
// and what is not chosen stays as it was, to be handed out at once.
func TestQueuesGiveUpWhatIsSettled(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for i := range 30 {
		add(t, s, failed(t, fmt.Sprintf("no %d\xff", i), "no"), failed(t, fmt.Sprintf("yes %d\xff", i), "yes"))
	}
	add(t, s, queue.Job{Queue: "q", Msg: event.New([]byte("no row"))})
	cause, _ := ParseCause("yes")
	q, tally := source(s, Selection{Cause: cause})
	kept := fmt.Sprintf("yes %d\xff", 7)
	got := replay(t, q, func(p string) error {
		if p == kept {
			return event.ErrUnsettled
		}
		return nil
	})
	slices.Sort(got)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("yes %d\xff", i))
	}
	slices.Sort(want)
	equal(t, "sent", got, want...)
	if tally.Sent.Load() != 30 || tally.AsRead.Load() != 30 || tally.Settled.Load() != 29 || tally.Skipped().Other != 1 {
		t.Errorf("%d sent, %d as read, %d settled, skipped %+v", tally.Sent.Load(), tally.AsRead.Load(), tally.Settled.Load(), tally.Skipped())
	}
	jobs := leased(t, s)
	if len(jobs) != 32 {
		t.Errorf("%d jobs are left, want 30 that were not chosen, one that was not settled and one that is no row", len(jobs))
	}
	for _, j := range jobs {
		if raw := string(j.Msg.Raw()); j.Attempt != 0 || strings.HasPrefix(raw, "yes") && raw != kept {
			t.Errorf("left: %q with %d attempts", raw, j.Attempt)
		}
	}
}

// TestMessagesOfQueuesAreWhole: key, headers and scope come back with the payload.
func TestMessagesOfQueuesAreWhole(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	add(t, s, failed(t, "a", "no"))
	q, _ := source(s, Selection{})
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, ack, err := q.Read(t.Context(), connector.Room{})
	if err != nil || len(b) != 1 {
		t.Fatal(len(b), err)
	}
	if m := b[0]; string(m.Data) != "a" || string(m.Raw()) != "a" || m.Key != "key of a" || m.Meta.Headers.Text("h") != "a" || m.Meta.Scope == nil || m.Meta.Scope.Source != "a" {
		t.Errorf("%q %q %+v", m.Data, m.Key, m.Meta)
	}
	// What comes meanwhile, as a failure of this very replay would, is not read.
	add(t, s, failed(t, "later", "no"))
	if err := ack(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if b, _, err := q.Read(t.Context(), connector.Room{}); err == nil {
		t.Errorf("then %q", b[0].Data)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if jobs := leased(t, s); len(jobs) != 1 || string(jobs[0].Msg.Raw()) != "later" {
		t.Errorf("left: %+v", jobs)
	}
}

// TestDeadFailuresAreReplayedToo: those that the failure target refused, and only the chosen.
func TestDeadFailuresAreReplayedToo(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	add(t, s, failed(t, "dead", "no"), failed(t, "other", "else"))
	for _, j := range leased(t, s) {
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(j.Dead("413 too large")) }); err != nil {
			t.Fatal(err)
		}
	}
	add(t, s, failed(t, "open", "no"))
	cause, _ := ParseCause("no")
	q, tally := source(s, Selection{Cause: cause})
	got := replay(t, q, nil)
	slices.Sort(got)
	equal(t, "sent", got, "dead", "open")
	if tally.Settled.Load() != 2 || tally.Gone.Load() != 0 {
		t.Errorf("%d settled, %d gone", tally.Settled.Load(), tally.Gone.Load())
	}
	st, err := s.Stats(t.Context(), queue.Filter{Queue: "q"})
	if err != nil || st.Open() != 0 || st.Dead != 1 {
		t.Errorf("left: %+v, %v", st, err)
	}
}

// TestFailuresThatAreDueLater are waited for.
func TestFailuresThatAreDueLater(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := failed(t, "late", "no")
	j.NotBefore = time.Now().Add(300 * time.Millisecond)
	add(t, s, j)
	q, _ := source(s, Selection{})
	equal(t, "sent", replay(t, q, nil), "late")
}

// TestAReplayThatIsStopped gives back what it has.
func TestAReplayThatIsStopped(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	add(t, s, failed(t, "a", "no"), failed(t, "b", "no"))
	q, tally := source(s, Selection{})
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, _, err := q.Read(t.Context(), connector.Room{})
	if err != nil || len(b) == 0 {
		t.Fatal(len(b), err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := q.Read(ctx, connector.Room{}); err == nil {
		t.Error("a read goes on without its context")
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(leased(t, s)); n != 2 || tally.Settled.Load() != 0 {
		t.Errorf("%d jobs are handed out again, want 2", n)
	}
}

// TestDeadFailuresStayWhereTheyAre until they are settled: a replay that ends in between, however
// it does, leaves them dead, with their IDs and their reasons, and the next one finds them by
// any of these.
func TestDeadFailuresStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for i := range 120 {
		add(t, s, failed(t, fmt.Sprint("dead ", i), "no"))
	}
	for _, j := range leased(t, s) {
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(j.Dead("413 too large")) }); err != nil {
			t.Fatal(err)
		}
	}
	buried := func() map[string]string {
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "q"}, State: queue.Buried}, queue.ID{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, j := range p.Jobs {
			all[j.ID.String()] = j.Cause
		}
		return all
	}
	before := buried()
	cause, _ := ParseCause("413")
	q, _ := source(s, Selection{Cause: cause})
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, _, err := q.Read(t.Context(), connector.Room{Messages: 70})
	if err != nil || len(b) == 0 {
		t.Fatal(len(b), err)
	}
	b2, ack, err := q.Read(t.Context(), connector.Room{Messages: 10})
	if err != nil || len(b2) != 10 {
		t.Fatal(len(b2), err)
	}
	if err := ack(t.Context(), nil); err != nil { // the first batch is never acknowledged
		t.Fatal(err)
	}
	after := buried()
	if len(before) != 120 || len(after) != 110 {
		t.Fatalf("%d dead before, %d after", len(before), len(after))
	}
	ids := map[string]bool{}
	for id, why := range after {
		if before[id] != why || why != "413 too large" {
			t.Errorf("job %s: %q, before %q", id, why, before[id])
		}
		ids[id] = true
	}
	again, tally := source(s, Selection{Cause: cause, IDs: ids})
	if got := replay(t, again, nil); len(got) != 110 || tally.Settled.Load() != 110 || len(buried()) != 0 {
		t.Errorf("%d were sent, %d settled, %d are left", len(got), tally.Settled.Load(), len(buried()))
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
