package pipeline

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

// TestDivide divides what reads became: every message leaves once and in order, no transaction is too
// large, and what one message of the read became is parted only where it fits no transaction.
func TestDivide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const most, hard = 20, 50
		read := make(event.Batch, rapid.IntRange(1, 8).Draw(t, "messages"))
		for i := range read {
			read[i] = event.New([]byte{byte(i)})
		}
		event.TrackTagged(read, nil, func(event.Outcomes) {})
		var all []sized
		total := map[int]int{}
		for i, m := range read {
			for _, c := range m.Split(make([][]byte, rapid.IntRange(1, 12).Draw(t, "became"))...) {
				size := rapid.IntRange(1, 15).Draw(t, "bytes")
				all = append(all, sized{m: c, size: size})
				total[i] += size
			}
		}
		of := func(m *event.Message) (x sized, root int) {
			_, root, _, _ = event.Root(m)
			return all[slices.IndexFunc(all, func(x sized) bool { return x.m == m })], root
		}
		n := 0
		last := -1 // the message of the read that ended the batch before
		for _, b := range divide(all, most, hard) {
			bytes, first, several := 0, -1, false
			for k, m := range b {
				x, root := of(m)
				if all[n].m != m {
					t.Fatalf("message %d of %d is another", n, len(all))
				}
				if k == 0 {
					first = root
				}
				n, bytes = n+1, bytes+x.size
				several = several || root != first
			}
			if len(b) == 0 || bytes > hard || several && bytes > most {
				t.Fatalf("a batch of %d messages has %d bytes", len(b), bytes)
			}
			if first == last && total[first] <= hard {
				t.Fatalf("what message %d became, of %d bytes, is parted", first, total[first])
			}
			_, last = of(b[len(b)-1])
		}
		if n != len(all) {
			t.Fatalf("%d of %d messages have left", n, len(all))
		}
		for _, x := range all {
			event.Settle(x.m, nil)
		}
	})
}
