package partition

import (
	"context"
	"slices"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestSpan reads of a lane only what lies between the first and the last ID that is searched
// for, so that many searches for a few each read a lane once, together.
func TestSpan(t *testing.T) {
	t.Parallel()
	const jobs, each = 1000, 10
	var all []Side
	for i := range jobs {
		record := queue.AppendRecord(nil, &queue.Job{Queue: "q", Msg: event.New([]byte("x"))})
		all = append(all, Side{ID: queue.ID{Lane: 7, Seq: uint64(i + 1)}, State: Dead, Record: record})
	}
	read := 0
	reader := Reader{Sides: func(_ context.Context, from, to queue.ID) (page []Side, _ error) {
		for _, r := range all {
			if !r.ID.Before(from) && !to.Before(r.ID) && len(page) < 300 {
				page = append(page, r)
			}
		}
		read += len(page)
		return page, nil
	}}
	var found []queue.ID
	for chunk := range slices.Chunk(all, each) {
		var ids []queue.ID
		for _, r := range chunk {
			ids = append(ids, r.ID)
		}
		for after := (queue.ID{}); ; {
			l := Lister{Search: queue.Search{State: queue.Buried, IDs: ids}, After: after, Limit: each - 3}
			for _, lane := range []uint64{6, 7, 8} {
				if err := l.Lane(t.Context(), Lane{ID: lane, Queue: "q"}, reader); err != nil {
					t.Fatal(err)
				}
			}
			for _, j := range l.Page.Jobs {
				found = append(found, j.ID)
			}
			if after = l.Page.Next; after == (queue.ID{}) {
				break
			}
		}
	}
	if len(found) != jobs || !slices.IsSortedFunc(found, func(a, b queue.ID) int {
		if a.Before(b) {
			return -1
		}
		return 1
	}) {
		t.Errorf("%d of %d jobs were found", len(found), jobs)
	}
	if read > 2*jobs {
		t.Errorf("%d rows were read for %d jobs", read, jobs)
	}
}
