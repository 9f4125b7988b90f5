package admin

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// maxLanes is how many lanes a walk looks at in each state.
const maxLanes = 2000

// scopes is where jobs were found: values of an axis, by queue.
type scopes map[string]map[string]bool

// walk finds the queues that hold jobs, whatever the config declares, and the values of an
// axis in them. It takes the first job of each lane and goes on with the next lane.
func (l Local) walk(ctx context.Context, by queue.Axis) (found scopes, complete bool, err error) {
	found = scopes{}
	a, err := l.admin()
	if err != nil {
		return found, false, err
	}
	for _, state := range []queue.State{queue.Open, queue.Buried} {
		after := queue.ID{}
		for lanes := 0; ; lanes++ {
			if lanes == maxLanes {
				return found, false, nil
			}
			p, err := a.List(ctx, queue.Search{State: state}, after, 1)
			if err != nil {
				return found, false, err
			}
			if len(p.Jobs) == 0 {
				break
			}
			j := &p.Jobs[0]
			if found[j.Queue] == nil {
				found[j.Queue] = map[string]bool{}
			}
			found[j.Queue][by.Of(j.Scope)] = true
			if p.Next == (queue.ID{}) {
				break
			}
			after = queue.ID{Lane: j.ID.Lane, Seq: math.MaxInt64}
		}
	}
	return found, true, nil
}

// attention is what of the store rests, which queues nobody reads, and which ones other processes do.
func (l Local) attention(ctx context.Context) (rests map[string][]Rest, unread map[string]bool, elsewhere func(string) bool, err error) {
	pauses, err := queue.PausesOf(ctx, l.Store)
	if err != nil {
		return nil, nil, nil, err
	}
	rests, unread = map[string][]Rest{}, map[string]bool{}
	for i := range pauses {
		rests[pauses[i].Queue] = append(rests[pauses[i].Queue], restOf(&pauses[i]))
	}
	if sub, can := l.Store.(queue.Subscriber); can && l.Reads == nil {
		found, err := sub.Unread(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		for _, b := range found {
			unread[b.Queue] = true
		}
	}
	elsewhere = func(string) bool { return false }
	if shared, can := l.Store.(queue.Shared); can {
		if elsewhere, err = shared.ReadByOthers(ctx); err != nil {
			return nil, nil, nil, err
		}
	}
	return rests, unread, elsewhere, nil
}

// queues are the names of the queues that the config declares or that were found.
func (s scopes) queues(declared []connector.Queue) []string {
	names := map[string]bool{}
	for name := range s {
		names[name] = true
	}
	for _, q := range declared {
		names[q.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// values are those of a queue that were found or are active.
func (s scopes) values(name string, active []string) []string {
	values := map[string]bool{}
	maps.Copy(values, s[name])
	for _, v := range active {
		values[v] = true
	}
	return slices.Sorted(maps.Keys(values))
}
