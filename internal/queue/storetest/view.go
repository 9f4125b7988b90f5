package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// testRelease gives some jobs of a lease back: they are handed out again at once, with the
// attempts they had, and the others stay.
func testRelease(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "0", ordered("k")))
	first := b.lease("a")
	b.settle(first[0].Again(time.Time{}, "once"))
	b.append(job("a", "1", ordered("k")), job("a", "2"), job("a", "3"), job("a", "4", scoped("", "", "d")))
	jobs := b.lease("a", lasting(time.Minute))
	b.want(jobs, "0", "2", "3", "4")
	byName := map[string]queue.Job{}
	for _, j := range jobs {
		byName[string(j.Msg.Data)] = j
	}
	if err := b.s.Release(b.ctx, []queue.Job{byName["0"], byName["2"]}); err != nil {
		t.Fatalf("Release: %v", err)
	}
	b.wantStats("a", queue.Stats{Waiting: 2, Leased: 2, Retrying: 1})
	if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(new(byName["2"]).Done()) }); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("settle a job that was released = %v, want ErrLeaseLost", err)
	}
	again := b.lease("a")
	b.want(again, "0", "2")
	for _, j := range again {
		if want := byName[string(j.Msg.Data)].Attempt; j.Attempt != want || j.Lease.Token == jobs[0].Lease.Token {
			t.Errorf("job %s came with attempt %d and token %d, want %d and another than %d", j.Msg.Data, j.Attempt, j.Lease.Token, want, jobs[0].Lease.Token)
		}
	}
	// The lease of the others goes on, and is renewed for them, though not for those released.
	if err := b.s.Renew(b.ctx, jobs, time.Hour); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Renew with a job that was released = %v, want ErrLeaseLost", err)
	}
	b.clock.Advance(30 * time.Minute)
	b.want(b.lease("a"), "0", "2")
	// A job that is not leased, among one that is.
	three, four := byName["3"], byName["4"]
	b.settle(three.Done())
	if err := b.s.Release(b.ctx, []queue.Job{three, four}); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Release of a job that was settled = %v, want ErrLeaseLost", err)
	}
	b.want(b.lease("a"), "4")
	if err := b.s.Release(b.ctx, []queue.Job{four}); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Release of what was released, and leased again = %v, want ErrLeaseLost", err)
	}
}

func testView(t *testing.T, b *bundle) {
	b.open()
	b.update(func(tx queue.Tx) error {
		var errs []error
		for i := range 1200 {
			errs = append(errs, tx.Put(fmt.Appendf(nil, "p/%04d", i), fmt.Append(nil, i)))
		}
		return errors.Join(append(errs, tx.Put([]byte("one"), []byte("1")), tx.Put([]byte("empty"), nil))...)
	})
	boom := errors.New("boom")
	err := b.s.View(b.ctx, func(r queue.Reader) error {
		one, err1 := r.Get([]byte("one"))
		empty, err2 := r.Get([]byte("empty"))
		none, err3 := r.Get([]byte("none"))
		if string(one) != "1" || empty == nil || len(empty) != 0 || none != nil || errors.Join(err1, err2, err3) != nil {
			t.Errorf("Get = %q, %v, %v (%v)", one, empty, none, errors.Join(err1, err2, err3))
		}
		n := 0
		for rec, err := range r.Scan([]byte("p/"), []byte("p/0099")) {
			if want := fmt.Sprint(100 + n); err != nil || string(rec.Value) != want || string(rec.Key) != fmt.Sprintf("p/%04d", 100+n) {
				t.Fatalf("record %d of the scan is %q = %q, %v", n, rec.Key, rec.Value, err)
			}
			if n++; n == 1050 {
				break
			}
		}
		if n != 1050 {
			t.Errorf("a scan of 1100 records ended after %d", n)
		}
		return boom
	})
	if err != boom {
		t.Errorf("View = %v, want the error of its function", err)
	}
}

// testViewMoment reads two records that are always changed together.
func testViewMoment(t *testing.T, b *bundle) {
	b.open()
	write := func(i int) {
		b.update(func(tx queue.Tx) error {
			v := fmt.Append(nil, i)
			return errors.Join(tx.Put([]byte("x"), v), tx.Put([]byte("y"), v))
		})
	}
	write(0)
	var writer sync.WaitGroup
	done := make(chan struct{})
	writer.Go(func() {
		defer close(done)
		for i := range 200 {
			write(i)
		}
	})
	for i, more := 0, true; more; i++ {
		select {
		case <-done:
			more = false
		default:
		}
		var x, y []byte
		scanned := map[string]string{}
		err := b.s.View(b.ctx, func(r queue.Reader) error {
			clear(scanned)
			var err1, err2 error
			x, err1 = r.Get([]byte("x"))
			if i%2 == 0 {
				y, err2 = r.Get([]byte("y"))
				return errors.Join(err1, err2)
			}
			for rec, err := range r.Scan(nil, nil) {
				if err != nil {
					return err
				}
				scanned[string(rec.Key)] = string(rec.Value)
			}
			y = []byte(scanned["y"])
			return err1
		})
		if err != nil || !bytes.Equal(x, y) || i%2 == 1 && scanned["x"] != string(x) {
			t.Fatalf("x is %q, y %q, in one view: %v", x, y, err)
		}
	}
	writer.Wait()
}
