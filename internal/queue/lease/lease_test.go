package lease

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// desk is a store as far as leases go: which jobs are leased, and until when.
type desk struct {
	queue.Store
	mu       sync.Mutex
	until    map[queue.ID]time.Time
	renewals int
	away     error // what the store answers, when it is set
	waiting  chan struct{}
}

func newDesk() *desk { return &desk{until: map[queue.ID]time.Time{}} }

func (d *desk) lease(lasts time.Duration, seqs ...uint64) (jobs []queue.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, seq := range seqs {
		j := queue.Job{ID: queue.ID{Lane: 1, Seq: seq}, Lease: queue.Lease{Token: 7}}
		d.until[j.ID] = time.Now().Add(lasts)
		jobs = append(jobs, j)
	}
	return jobs
}

func (d *desk) leased(id queue.ID) bool { return d.until[id].After(time.Now()) }

func (d *desk) Renew(_ context.Context, jobs []queue.Job, lasts time.Duration) (lost error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renewals++
	for _, j := range jobs {
		if !d.leased(j.ID) {
			lost = queue.ErrLeaseLost
			continue
		}
		d.until[j.ID] = time.Now().Add(lasts)
	}
	return lost
}

func (d *desk) Release(_ context.Context, jobs []queue.Job) (lost error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range jobs {
		if !d.leased(j.ID) {
			lost = queue.ErrLeaseLost
		}
		delete(d.until, j.ID)
	}
	return errors.Join(lost, d.away)
}

type deskTx struct {
	queue.Tx
	rs []queue.Result
}

func (t *deskTx) Settle(rs ...queue.Result) error { t.rs = append(t.rs, rs...); return nil }

func (d *desk) Update(_ context.Context, fn func(queue.Tx) error) error {
	if d.waiting != nil {
		<-d.waiting
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	tx := &deskTx{}
	if err := errors.Join(fn(tx), d.away); err != nil {
		return err
	}
	for _, r := range tx.rs {
		if !d.leased(r.ID) {
			return queue.ErrLeaseLost
		}
	}
	for _, r := range tx.rs {
		delete(d.until, r.ID)
	}
	return nil
}

func (d *desk) open() (seqs []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.until {
		if d.leased(id) {
			seqs = append(seqs, id.Seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

const lasts = 30 * time.Second

func results(jobs []queue.Job) (rs []queue.Result) {
	for i := range jobs {
		rs = append(rs, jobs[i].Done())
	}
	return rs
}

func wantOpen(t *testing.T, d *desk, want ...uint64) {
	t.Helper()
	synctest.Wait()
	if got := d.open(); !slices.Equal(got, want) {
		t.Fatalf("leased are %v, want %v", got, want)
	}
}

func TestRenewedUntilSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := New(func() queue.Store { return d }, lasts)
		time.Sleep(time.Hour)
		if d.renewals != 0 {
			t.Fatalf("%d renewals of nothing", d.renewals)
		}
		jobs := d.lease(lasts, 1, 2, 3, 4)
		h.Hold(jobs...)
		time.Sleep(10 * lasts)
		wantOpen(t, d, 1, 2, 3, 4)
		if d.renewals != 30 || h.Len() != 4 {
			t.Fatalf("%d renewals of %d jobs, want 30 of 4", d.renewals, h.Len())
		}
		// The commit takes longer than a lease lasts.
		d.waiting = make(chan struct{})
		time.AfterFunc(3*lasts, func() { close(d.waiting) })
		if done, err := h.Settle(t.Context(), results(jobs[:1]), nil); err != nil || len(done) != 1 {
			t.Fatalf("Settle = %v, %v", done, err)
		}
		h.Forget(jobs[1])
		if err := h.Release(t.Context(), jobs[2:3]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lasts)
		wantOpen(t, d, 2, 4) // the second has the lease of the fourth
		if n, err := h.Close(t.Context()); n != 1 || err != nil {
			t.Fatalf("Close released %d jobs, want 1: %v", n, err)
		}
		wantOpen(t, d)
		renewals := d.renewals
		time.Sleep(10 * lasts)
		if n, err := h.Close(t.Context()); n != 0 || err != nil || d.renewals != renewals {
			t.Fatalf("second Close released %d jobs, and %d renewals came after the first: %v", n, d.renewals-renewals, err)
		}
	})
}

func TestSettleLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := New(func() queue.Store { return d }, lasts)
		defer h.Close(context.Background())
		jobs := d.lease(lasts, 1, 2, 3)
		h.Hold(jobs...)
		delete(d.until, jobs[1].ID)
		done, err := h.Settle(t.Context(), results(jobs), nil)
		if !errors.Is(err, queue.ErrLeaseLost) || len(done) != 2 || done[1].ID != jobs[2].ID || h.Len() != 0 {
			t.Fatalf("Settle with a lost lease settled %v and left %d: %v", done, h.Len(), err)
		}
		jobs = d.lease(lasts, 4)
		h.Hold(jobs...)
		d.away = errors.New("away")
		if done, err := h.Settle(t.Context(), results(jobs), nil); err != d.away && !errors.Is(err, d.away) || len(done) != 0 || h.Len() != 0 {
			t.Fatalf("Settle while the store is away settled %v and holds %d: %v", done, h.Len(), err)
		}
		h.Hold(jobs...)
		if n, err := h.Close(t.Context()); n != 1 || !errors.Is(err, d.away) {
			t.Fatalf("Close = %d, %v", n, err)
		}
	})
}
