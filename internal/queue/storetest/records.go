package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/queue"
)

// testTogether moves units between records that are read at once, by several workers: none is lost
// or made, whichever of the records are there.
func testTogether(t *testing.T, b *bundle) {
	b.open()
	b.update(func(tx queue.Tx) error {
		if err := errors.Join(tx.Put([]byte("a"), []byte("1")), tx.Put([]byte("empty"), nil), tx.Put([]byte("gone"), nil)); err != nil {
			return err
		}
		return tx.Delete([]byte("gone"))
	})
	b.update(func(tx queue.Tx) error {
		if err := tx.Put([]byte("mine"), []byte("2")); err != nil {
			return err
		}
		got, err := tx.GetAll([][]byte{[]byte("none"), []byte("mine"), []byte("a"), []byte("gone"), []byte("empty"), []byte("a")})
		if err != nil {
			return err
		}
		if got[0] != nil || string(got[1]) != "2" || string(got[2]) != "1" || got[3] != nil || got[4] == nil || len(got[4]) != 0 || string(got[5]) != "1" {
			t.Errorf("GetAll = %q", got)
		}
		if none, err := tx.GetAll(nil); err != nil || len(none) != 0 {
			t.Errorf("GetAll of nothing = %q, %v", none, err)
		}
		if _, err := tx.GetAll([][]byte{nil}); err == nil {
			t.Error("a key without a byte was read")
		}
		return nil
	})
	const accounts, workers, rounds, all = 12, 4, 40, 1000
	account := func(i int) []byte { return fmt.Appendf(nil, "account/%d", i) }
	number := func(v []byte) int {
		n, _ := strconv.Atoi(string(v)) // none is 0
		return n
	}
	b.update(func(tx queue.Tx) error { return tx.Put(account(0), strconv.AppendInt(nil, all, 10)) })
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				order := random.Perm(accounts)[:4]
				err := b.s.Update(b.ctx, func(tx queue.Tx) error {
					var keys [][]byte
					for _, i := range order {
						keys = append(keys, account(i))
					}
					got, err := tx.GetAll(keys)
					if err != nil {
						return err
					}
					sum := 0
					for _, v := range got {
						sum += number(v)
					}
					for i := range keys {
						part := sum / (len(keys) - i)
						if sum -= part; part == 0 {
							err = errors.Join(err, tx.Delete(account(order[i])))
							continue
						}
						err = errors.Join(err, tx.Put(account(order[i]), strconv.AppendInt(nil, int64(part), 10)))
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	rs, err := Records(b.ctx, b.s, []byte("account/"), nil, accounts+1)
	sum := 0
	for _, r := range rs {
		sum += number(r.Value)
	}
	if err != nil || sum != all {
		t.Errorf("of %d units there are %d: %v", all, sum, err)
	}
}
