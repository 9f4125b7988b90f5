package lease

import (
	"testing"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
)

// TestFaultsOnTheWire: whatever the way to DynamoDB does, positions only grow, children wait for
// their parents, and when it is well again everything is read. That no lease is lost meanwhile is
// shown in virtual time; here it is said how many were.
func TestFaultsOnTheWire(t *testing.T) {
	t.Parallel()
	third := func(a faultproxy.Action) faultproxy.Rule {
		return func(c *faultproxy.Call) faultproxy.Action {
			if c.N%3 == 0 {
				return a
			}
			return nil
		}
	}
	began := time.Now()
	for name, rule := range map[string]faultproxy.Rule{
		"throttled 3 s of 5": func(*faultproxy.Call) faultproxy.Action {
			if time.Since(began)%(5*time.Second) < 3*time.Second {
				return faultproxy.Throttled
			}
			return nil
		},
		"answers lost":   third(faultproxy.Lost),
		"answers frozen": third(faultproxy.FrozenAnswer),
		"cut":            third(faultproxy.Cut),
		"slow":           third(faultproxy.Late(700*time.Millisecond, faultproxy.Lost)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
			k := NewKCL(dynamoAt(proxy.URL), KCLOptions{Name: newName(t), Fault: aws.Fault})
			if err := k.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, 6, nil)
			w.table = newBook(t, k)
			w.join("a")
			w.join("b")
			patiently(t, w)
			before := w.table.total()
			var held []*Lease
			for _, in := range w.live() {
				held = append(held, in.holding()...)
			}
			calls := proxy.Calls("UpdateItem")
			proxy.On("UpdateItem", rule)
			proxy.On("Scan", rule)
			until(t, "many calls were made", func() bool { return proxy.Calls("UpdateItem") > calls+45 })
			lost := 0
			for _, l := range held {
				if !l.Held() {
					lost++
				}
			}
			t.Logf("%d of %d leases were lost, %d shards moved", lost, len(held), w.table.total()-before)
			w.river.split(w.river.open()[0].ID)
			until(t, "more calls were made", func() bool { return proxy.Calls("UpdateItem") > calls+75 })
			proxy.Heal()
			patiently(t, w)
			w.end()
		})
	}
}

// TestFaultsAreSaid: an error of DynamoDB keeps its kind on its way to who opens a coordinator.
func TestFaultsAreSaid(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
	proxy.On("CreateTable", faultproxy.Always(faultproxy.Error(0, "AccessDeniedException", "not authorized")))
	c, err := New(Settings{Table: NewKCL(dynamoAt(proxy.URL), KCLOptions{Name: newName(t), Fault: aws.Fault}), Stream: newRiver(1), Start: Start{Position: Latest}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Open(t.Context()); fault.Of(err) != fault.Setup {
		t.Errorf("open is %v, of kind %s", err, fault.Of(err))
	} else {
		t.Log(err)
	}
}
