package catalog

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/blob"
)

// another is takeLease by a process of another machine.
func another(t testing.TB, b blob.Bucket, key, host string) (*lease, error) {
	t.Helper()
	l, err := takeLease(t.Context(), elsewhere{b, host}, "s3://lake", key)
	return l, err
}

// elsewhere is a bucket whose owners are on another machine than this one.
type elsewhere struct {
	blob.Bucket
	host string
}

func (e elsewhere) rename(data []byte) []byte {
	host, _ := os.Hostname()
	return []byte(strings.ReplaceAll(string(data), `"host":"`+host+`"`, `"host":"`+e.host+`"`))
}

func (e elsewhere) Create(ctx context.Context, name string, data []byte) (blob.Version, error) {
	return e.Bucket.Create(ctx, name, e.rename(data))
}

func (e elsewhere) Replace(ctx context.Context, name string, seen blob.Version, data []byte) (blob.Version, error) {
	return e.Bucket.Replace(ctx, name, seen, e.rename(data))
}

func calmly() fate { return well }

// TestLease: a second process waits as long as the first renews, takes over when that has ended
// or has died, and the first finds out when it was only asleep.
func TestLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
		first, second := &hand{m: m, fate: calmly}, &hand{m: m, fate: calmly}
		hold := func(h *hand, host string) (*Dataset, *lease, error) {
			l, err := another(t, h.bucket(true), t.Name()+host, host)
			if err != nil {
				return nil, nil, err
			}
			d, err := openIn(t.Context(), h.bucket(true), "s3://lake", false, Options{MaxLanded: 10})
			if err != nil {
				t.Fatal(err)
			}
			l.watch(d)
			return d, l, nil
		}
		_, l, err := hold(first, "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 100 { // the first renews
			if _, _, err := hold(second, "b"); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "of a, as s3://lake/_weir/owner.json says") {
				t.Fatalf("a second one: %v", err)
			}
			time.Sleep(2 * time.Second)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		d, l, err := hold(second, "b")
		if err != nil {
			t.Fatalf("after the first has ended: %v", err)
		}
		// It is stopped beyond its lease, and the first takes over.
		second.fate = func() fate { return fails }
		begun := time.Now()
		var over *Dataset
		var overLease *lease
		for over == nil {
			if over, overLease, err = hold(first, "a"); err != nil && !errors.Is(err, ErrHeld) {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		if took := time.Since(begun); took < leaseTime || took > leaseTime+leaseRenew+10*time.Second {
			t.Errorf("a dead owner was waited for during %s", took)
		}
		second.fate = calmly
		time.Sleep(leaseRenew)
		synctest.Wait()
		if err := d.log.lostBy(); !errors.Is(err, ErrTaken) {
			t.Errorf("who was asleep has lost the dataset, and knows of %v", err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseRenew)
		if err := over.log.lostBy(); err != nil {
			t.Errorf("the end of who was asleep took the dataset from the other: %v", err)
		}
		if err := overLease.Release(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLeaseOfTheDead: what a process of this machine has left behind is not waited for.
func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
	b := (&hand{m: m, fate: calmly}).bucket(true)
	for range 3 { // none of them says that it has ended
		l, err := takeLease(t.Context(), b, "s3://lake", t.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := takeLease(t.Context(), b, "s3://lake", t.Name()); !errors.Is(err, ErrHeld) {
			t.Fatalf("a second opening of one process: %v", err)
		}
		living.Delete(l.mine.Writer)
	}
	m.objects[ownerName] = []byte("{")
	if _, err := takeLease(t.Context(), b, "s3://lake", t.Name()); err == nil || !strings.Contains(err.Error(), "delete it while nothing writes") {
		t.Errorf("a damaged one: %v", err)
	}
}

// TestOneOwner: of those that take a lease at once, with answers that are lost, one has it, and
// keeps it while it renews.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
		draw := func() fate {
			return fate(rapid.SampledFrom([]int{int(well), int(well), int(well), int(lost), int(fails)}).Draw(rt, "fate"))
		}
		var owners []*lease
		for _, host := range []string{"a", "b", "c"} {
			l, err := another(t, (&hand{m: m, fate: draw}).bucket(true), rt.Name()+host, host)
			if err == nil {
				l.taken = func() error { return ErrTaken }
				owners = append(owners, l)
			}
		}
		if len(owners) > 1 {
			rt.Fatalf("%d are the owner", len(owners))
		}
		for _, l := range owners {
			for range 5 {
				if err := l.renew(t.Context(), false); errors.Is(err, ErrTaken) {
					rt.Fatal("nobody else has taken it")
				}
			}
		}
	})
}

// lostBy is why the dataset is lost to another writer, if it is.
func (j *journal) lostBy() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lost
}
