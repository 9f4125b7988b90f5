package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

func testAtomic(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"))
	leased := b.lease("a")
	boom := errors.New("boom")
	err := b.s.Update(b.ctx, func(tx queue.Tx) error {
		if err := errors.Join(tx.Append(job("a", "2"), job("b", "3")), tx.Settle(leased[0].Done()), tx.Put([]byte("k"), []byte("v"))); err != nil {
			return err
		}
		return boom
	})
	if err != boom {
		t.Fatalf("Update = %v, want the error of its function as it is", err)
	}
	b.wantStats("a", queue.Stats{Leased: 1})
	b.wantStats("b", queue.Stats{})
	b.update(func(tx queue.Tx) error {
		v, err := tx.Get([]byte("k"))
		if v != nil {
			t.Errorf("record of a failed Update: %q", v)
		}
		return err
	})
}

func testDurable(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1", scoped("w", "s", "d")), job("a", "2"), job("b", "3"))
	leased := b.lease("a", limit(10))
	b.want(leased, "1", "2")
	b.update(func(tx queue.Tx) error {
		for i := range leased {
			if string(leased[i].Msg.Data) == "1" {
				if err := tx.Settle(leased[i].Done()); err != nil {
					return err
				}
			}
		}
		return tx.Put([]byte("k"), []byte("v"))
	})
	b.reopen()
	b.want(b.lease("a"), "2")
	b.want(b.lease("b"), "3")
	b.update(func(tx queue.Tx) error {
		v, err := tx.Get([]byte("k"))
		if string(v) != "v" {
			t.Errorf("record after reopening = %q, want %q", v, "v")
		}
		return err
	})
}

func testBytes(t *testing.T, b *bundle) {
	b.open()
	m := event.New([]byte{0, 255, '\n', 0xc3, 0x28})
	m.Key, m.Meta.ID = "k\x00ey", "id\xff"
	m.Meta.Headers = event.Headers{{Name: "b", Value: []byte("1")}, {Name: "", Value: []byte{0, 255}}, {Name: "b", Value: []byte("2")}, {Name: "a", Value: []byte{}}}
	m.Meta.Origin = &event.Origin{Stream: "topic", Partition: "7", Position: []byte{0, 1, 255}, Sub: 3, At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	m.Meta.Descriptor = &event.Descriptor{JobRun: "run", TaskRun: "task", Type: "track", Name: "Order Completed", Transient: true}
	m.Times.Created = time.Date(1969, 7, 20, 20, 17, 40, 5, time.UTC)
	m.Times.Read = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	m.Replace([]byte("now"))
	nothing := event.New(nil)
	empty := event.New([]byte{})
	b.append(queue.Job{Queue: "a", Msg: m, Scope: queue.Scope{Workspace: "w\x00", Source: "ü"}})
	b.append(queue.Job{Queue: "nil", Msg: nothing}, queue.Job{Queue: "empty", Msg: empty})
	b.reopen()
	got := b.lease("a")
	if len(got) != 1 {
		t.Fatalf("leased %d jobs, want 1", len(got))
	}
	g := got[0].Msg
	type view struct {
		Data, Raw, Key, ID string
		Headers            event.Headers
		Created, Read      time.Time
		Scope              queue.Scope
		Origin             *event.Origin
		Descriptor         *event.Descriptor
	}
	of := func(m *event.Message, s queue.Scope) view {
		return view{string(m.Data), string(m.Raw()), m.Key, m.Meta.ID, m.Meta.Headers, m.Times.Created, m.Times.Read, s, m.Meta.Origin, m.Meta.Descriptor}
	}
	if diff := cmp.Diff(of(m, queue.Scope{Workspace: "w\x00", Source: "ü"}), of(g, got[0].Scope)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if g.Meta.Scope == nil || *g.Meta.Scope != got[0].Scope {
		t.Errorf("scope of the message = %v, want %v", g.Meta.Scope, got[0].Scope)
	}
	if j := b.lease("nil"); len(j) != 1 || j[0].Msg.Data != nil {
		t.Errorf("a message without payload came back as %v", j)
	}
	if j := b.lease("empty"); len(j) != 1 || j[0].Msg.Data == nil || len(j[0].Msg.Data) != 0 {
		t.Errorf("a message with an empty payload came back as %v", j)
	}
}

func testLargest(t *testing.T, b *bundle) {
	b.open()
	big := bytes.Repeat([]byte{7, 0, 255}, queue.MaxPayload/3+1)[:queue.MaxPayload]
	b.append(queue.Job{Queue: "a", Msg: event.New(big)}, job("a", "small"))
	got := b.lease("a", limit(1))
	if len(got) != 1 || !bytes.Equal(got[0].Msg.Data, big) {
		t.Fatalf("the largest payload did not come back")
	}
	b.settle(got[0].Again(time.Time{}, "once more"))
	b.reopen()
	got = b.lease("a", limit(1))
	if len(got) != 1 || !bytes.Equal(got[0].Msg.Data, big) || got[0].Attempt != 1 {
		t.Fatalf("the largest payload did not come back from its second attempt")
	}
	b.settle(got[0].Dead("enough"))
	b.want(b.lease("a"), "small")
}

func testRefused(t *testing.T, b *bundle) {
	b.open()
	big := make([]byte, queue.MaxPayload+1)
	replaced := event.New(big)
	replaced.Replace([]byte("x"))
	for name, j := range map[string]queue.Job{
		"no queue":      {Msg: event.New(nil)},
		"no message":    {Queue: "a"},
		"too large":     {Queue: "a", Msg: event.New(big)},
		"raw":           {Queue: "a", Msg: replaced},
		"key":           {Queue: "a", Msg: &event.Message{Key: strings.Repeat("k", queue.MaxKey+1)}},
		"scope":         {Queue: "a", Msg: event.New(nil), Scope: queue.Scope{Source: strings.Repeat("s", queue.MaxName+1)}},
		"queue name":    {Queue: strings.Repeat("q", queue.MaxName+1), Msg: event.New(nil)},
		"headers":       {Queue: "a", Msg: &event.Message{Meta: event.Meta{Headers: event.HeadersOf(map[string]string{"h": strings.Repeat("v", queue.MaxMeta+1)})}}},
		"empty headers": {Queue: "a", Msg: &event.Message{Meta: event.Meta{Headers: make(event.Headers, queue.MaxMeta+1)}}},
		"origin":        {Queue: "a", Msg: &event.Message{Meta: event.Meta{Origin: &event.Origin{Stream: strings.Repeat("s", queue.MaxOrigin+1)}}}},
		"descriptor":    {Queue: "a", Msg: &event.Message{Meta: event.Meta{Descriptor: &event.Descriptor{Name: strings.Repeat("n", queue.MaxOrigin+1)}}}},
	} {
		err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Append(job("a", "good"), j) })
		if fault.Of(err) != fault.Invalid || err == nil {
			t.Errorf("%s: Update = %v, want an Invalid error", name, err)
		}
	}
	for name, fn := range map[string]func(queue.Tx) error{
		"empty key":   func(tx queue.Tx) error { return tx.Put(nil, []byte("v")) },
		"long key":    func(tx queue.Tx) error { return tx.Put(make([]byte, 1025), nil) },
		"large value": func(tx queue.Tx) error { return tx.Put([]byte("k"), make([]byte, queue.MaxRecord+1)) },
		"large tx": func(tx queue.Tx) error {
			for range queue.MaxTxBytes/queue.MaxPayload + 1 {
				if err := tx.Append(queue.Job{Queue: "a", Msg: event.New(big[:queue.MaxPayload])}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := b.s.Update(b.ctx, fn); fault.Of(err) != fault.Invalid || err == nil {
			t.Errorf("%s: Update = %v, want an Invalid error", name, err)
		}
	}
	b.wantStats("a", queue.Stats{})
	if _, err := b.s.Lease(b.ctx, queue.Query{Filter: queue.Filter{Queue: "unknown"}}); err != nil {
		t.Errorf("Lease of a queue without jobs: %v", err)
	}
}

func testExpiry(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"), job("a", "2"))
	first := b.lease("a", limit(1), lasting(10*time.Second))
	b.want(first, "1")
	b.want(b.lease("a", limit(5), lasting(time.Hour)), "2")
	b.clock.Advance(10*time.Second - 1)
	b.want(b.lease("a"))
	b.clock.Advance(1)
	again := b.lease("a")
	b.want(again, "1")
	if again[0].Attempt != 0 {
		t.Errorf("an expired lease counts as attempt %d", again[0].Attempt)
	}
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(first[0].Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle with an expired lease = %v, want ErrLeaseLost", err)
	}
	b.settle(again[0].Done())
	b.wantStats("a", queue.Stats{Leased: 1})
}

func testRenew(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"), job("a", "2"))
	jobs := b.lease("a", lasting(10*time.Second))
	for range 5 {
		b.clock.Advance(9 * time.Second)
		if err := b.s.Renew(b.ctx, jobs, 10*time.Second); err != nil {
			t.Fatalf("Renew: %v", err)
		}
	}
	b.want(b.lease("a"))
	b.settle(jobs[0].Done())
	if err := b.s.Renew(b.ctx, jobs, time.Hour); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Renew of a settled job = %v, want ErrLeaseLost", err)
	}
	b.clock.Advance(30 * time.Minute)
	b.want(b.lease("a"))
	b.clock.Advance(30 * time.Minute)
	if err := b.s.Renew(b.ctx, jobs[1:], time.Hour); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Renew of an expired lease = %v, want ErrLeaseLost", err)
	}
	b.want(b.lease("a"), "2")
}

func testLostLease(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"), job("a", "2"))
	one := b.lease("a", limit(1), lasting(time.Second))
	two := b.lease("a", limit(1), lasting(time.Hour))
	b.clock.Advance(time.Minute)
	err := b.s.Update(b.ctx, func(tx queue.Tx) error {
		return errors.Join(tx.Append(job("b", "x")), tx.Settle(two[0].Done(), one[0].Done()), tx.Put([]byte("k"), []byte("v")))
	})
	if !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Update = %v, want ErrLeaseLost", err)
	}
	b.wantStats("b", queue.Stats{})
	b.settle(two[0].Done())
	// The same result twice in one Update, and once more after it.
	b.clock.Advance(time.Minute)
	three := b.lease("a")
	b.want(three, "1")
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(three[0].Done(), three[0].Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle twice in one Update = %v, want ErrLeaseLost", err)
	}
	b.settle(three[0].Done())
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(three[0].Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle a settled job = %v, want ErrLeaseLost", err)
	}
	forged := queue.Job{ID: queue.ID{Lane: 99, Seq: 1}, Lease: queue.Lease{Token: 1}}
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(forged.Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle a job that never was = %v, want ErrLeaseLost", err)
	}
}

func testReopenLeases(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"), job("a", "2"))
	jobs := b.lease("a", lasting(time.Hour))
	b.settle(jobs[1].Again(time.Time{}, "later"))
	b.want(b.lease("a"), "2")
	b.reopen()
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(jobs[0].Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle with a lease of before = %v, want ErrLeaseLost", err)
	}
	b.want(b.lease("a"), "1", "2")
}

func testNotBefore(t *testing.T, b *bundle) {
	b.open()
	at := b.clock.Now().Add(time.Minute)
	b.append(job("a", "later", notBefore(at)), job("a", "now"), job("a", "past", notBefore(b.clock.Now().Add(-time.Hour))))
	b.want(b.lease("a", lasting(time.Hour)), "now", "past")
	b.reopen()
	b.clock.Advance(time.Minute - 1)
	b.want(b.lease("a"), "now", "past")
	b.clock.Advance(1)
	got := b.lease("a")
	b.want(got, "later")
	if !got[0].NotBefore.Equal(at) {
		t.Errorf("NotBefore = %v, want %v", got[0].NotBefore, at)
	}
}

func testAfter(t *testing.T, b *bundle) {
	b.open()
	at := b.clock.Now().Add(time.Minute)
	b.append(job("a", "later", func(j *queue.Job) { j.After, j.NotBefore = time.Minute, at.Add(time.Hour) }), job("a", "now"))
	page, err := b.s.List(b.ctx, queue.Search{Filter: queue.Filter{Queue: "a"}}, queue.ID{}, 10)
	if err != nil || len(page.Jobs) != 2 || page.Jobs[0].NotBefore.Sub(at).Abs() > time.Second {
		t.Fatalf("listed %+v, %v: want one that waits until %s", page.Jobs, err, at)
	}
	b.want(b.lease("a", lasting(time.Hour)), "now")
	b.reopen()
	b.clock.Advance(time.Minute - 1)
	b.want(b.lease("a"), "now")
	b.clock.Advance(1)
	b.want(b.lease("a"), "later")
}

func testAgain(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"), job("a", "2"), job("a", "3"))
	appended := b.clock.Now()
	for attempt := range 3 {
		jobs := b.lease("a", limit(1))
		b.want(jobs, "1")
		if jobs[0].Attempt != attempt || attempt > 0 && jobs[0].Cause != fmt.Sprint("cause ", attempt-1) || !jobs[0].At.Equal(appended) {
			t.Fatalf("job = %+v at attempt %d", jobs[0], attempt)
		}
		at := b.clock.Now().Add(time.Second)
		b.settle(jobs[0].Again(at, fmt.Sprint("cause ", attempt)))
		b.wantStats("a", queue.Stats{Waiting: 2, Retrying: 1})
		b.reopen()
		b.clock.Advance(time.Second)
	}
	b.want(b.lease("a"), "1", "2", "3")
	b.wantStats("a", queue.Stats{Leased: 3})
}

func testOrder(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "x1", ordered("x")), job("a", "y1", ordered("y")), job("a", "x2", ordered("x")), job("a", "x3", ordered("x")), job("a", "free"))
	b.append(job("a", "other lane", ordered("x"), scoped("w", "", "")))
	first := b.lease("a")
	b.want(first, "x1", "y1", "free", "other lane")
	x1 := find(b, first, "x1")
	b.settle(x1.Again(b.clock.Now().Add(time.Minute), "down"))
	b.append(job("a", "x4", ordered("x")), job("a", "y2", ordered("y")), job("a", "z1", ordered("z")))
	b.want(b.lease("a"), "z1")
	y1 := find(b, first, "y1")
	b.settle(y1.Done())
	b.want(b.lease("a"), "y2")
	b.clock.Advance(time.Minute)
	b.clock.Advance(-time.Second) // leases of one minute have not ended
	b.want(b.lease("a"))
	b.clock.Advance(time.Second)
	got := b.lease("a", lasting(time.Hour))
	b.want(got, "x1", "free", "other lane", "z1", "y2")
	b.settle(find(b, got, "x1").Dead("given up"))
	for _, next := range []string{"x2", "x3", "x4"} {
		got = b.lease("a")
		b.want(got, next)
		b.settle(got[0].Done())
	}
}

func find(b *bundle, jobs []queue.Job, payload string) *queue.Job {
	b.Helper()
	for i := range jobs {
		if string(jobs[i].Msg.Data) == payload {
			return &jobs[i]
		}
	}
	b.Fatalf("no job %q among %q", payload, payloads(jobs))
	return nil
}

func testOrderReopen(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "x1", ordered("x")), job("a", "x2", ordered("x")), job("a", "y1", ordered("y")))
	jobs := b.lease("a")
	b.want(jobs, "x1", "y1")
	b.settle(find(b, jobs, "x1").Again(b.clock.Now().Add(time.Hour), "down"), find(b, jobs, "y1").Done())
	b.reopen()
	b.append(job("a", "x3", ordered("x")))
	b.want(b.lease("a"))
	b.clock.Advance(time.Hour)
	for _, next := range []string{"x1", "x2", "x3"} {
		got := b.lease("a")
		b.want(got, next)
		b.settle(got[0].Done())
		b.reopen()
	}
	b.wantStats("a", queue.Stats{})
}

// testOrderWindow has far more withheld jobs than the window holds.
func testOrderWindow(t *testing.T, b *bundle) {
	b.cfg.Window = 16
	b.open()
	const n = 200
	for i := range n {
		b.append(job("a", fmt.Sprintf("x%03d", i), ordered("x")), job("a", fmt.Sprintf("y%03d", i), ordered(fmt.Sprint("y", i))))
	}
	first := b.lease("a", limit(1))
	b.want(first, "x000")
	b.settle(first[0].Again(b.clock.Now().Add(time.Hour), "down"))
	seen := map[string]bool{}
	for range 10 * n {
		jobs := b.lease("a", limit(7))
		if len(jobs) == 0 {
			break
		}
		for i := range jobs {
			seen[string(jobs[i].Msg.Data)] = true
			b.settle(jobs[i].Done())
		}
	}
	if len(seen) != n || seen["x001"] {
		t.Fatalf("%d jobs of other keys went on, want %d", len(seen), n)
	}
	b.reopen()
	b.clock.Advance(time.Hour)
	for i := range n {
		jobs := b.lease("a", lasting(time.Hour))
		b.want(jobs, fmt.Sprintf("x%03d", i))
		b.settle(jobs[0].Done())
		if i%50 == 49 {
			b.reopen()
		}
	}
	b.wantStats("a", queue.Stats{})
}

func testOrderDelayed(t *testing.T, b *bundle) {
	b.open()
	at := b.clock.Now().Add(time.Minute)
	b.append(job("a", "x1", ordered("x")), job("a", "x2", ordered("x"), notBefore(at)), job("a", "x3", ordered("x")), job("a", "y1", ordered("y"), notBefore(at)), job("a", "y2", ordered("y")))
	jobs := b.lease("a", lasting(time.Hour))
	b.want(jobs, "x1")
	b.settle(jobs[0].Done())
	b.want(b.lease("a"))
	b.reopen()
	b.want(b.lease("a"))
	b.clock.Advance(time.Minute)
	jobs = b.lease("a")
	b.want(jobs, "x2", "y1")
	b.settle(jobs[0].Done(), jobs[1].Done())
	b.want(b.lease("a"), "x3", "y2")
}
