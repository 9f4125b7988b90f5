package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/blob"
)

// memory is a bucket in memory whose answers may be lost, and whose callers may die at any
// call: see hand.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	marks   map[string]string // that a store keeps beside them
}

// errDead is what a hand answers after its death, errLost when an answer was lost.
var (
	errDead = errors.New("dead")
	errLost = errors.New("the answer is lost")
)

// hand is the bucket as one process has it. Before each call that changes something, fate says
// what becomes of it.
type hand struct {
	m    *memory
	fate func() fate
	dead bool
}

type fate int

const (
	well  fate = iota
	lost       // it is done, and nobody is told
	fails      // it is not done
	dies       // it is not done, nor anything after it
	last       // it is done, and nothing after it
)

func (h *hand) do(name string, change func() error) error {
	if h.dead {
		return errDead
	}
	f := h.fate()
	if f == dies {
		h.dead = true
		return errDead
	}
	if f == fails {
		return errors.New("it fails")
	}
	h.m.mu.Lock()
	err := change()
	h.m.mu.Unlock()
	switch {
	case f == last:
		h.dead = true
		return errDead
	case f == lost:
		return errLost
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (h *hand) Create(_ context.Context, name string, data []byte) (blob.Version, error) {
	return blob.Version(data), h.do(name, func() error { return h.put(name, data) })
}

func (h *hand) put(name string, data []byte) error {
	if _, there := h.m.objects[name]; there {
		return blob.ErrExists
	}
	h.m.objects[name] = slices.Clone(data)
	return nil
}

func (h *hand) Replace(_ context.Context, name string, seen blob.Version, data []byte) (blob.Version, error) {
	return blob.Version(data), h.do(name, func() error {
		have, there := h.m.objects[name]
		switch {
		case !there:
			return blob.ErrNotFound
		case blob.Version(have) != seen:
			return blob.ErrChanged
		}
		h.m.objects[name] = slices.Clone(data)
		return nil
	})
}

type upload struct {
	h    *hand
	name string
	data []byte
}

func (u *upload) Write(p []byte) (int, error) { u.data = append(u.data, p...); return len(p), nil }
func (u *upload) Abort() error                { return nil }
func (u *upload) Commit(context.Context) error {
	return u.h.do(u.name, func() error { return u.h.put(u.name, u.data) })
}

func (h *hand) Writer(_ context.Context, name string) (blob.Writer, error) {
	return &upload{h: h, name: name}, nil
}

func (h *hand) Get(_ context.Context, name string) ([]byte, blob.Version, error) {
	if h.dead {
		return nil, "", errDead
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	data, there := h.m.objects[name]
	if !there {
		return nil, "", fmt.Errorf("%s: %w", name, blob.ErrNotFound)
	}
	return data, blob.Version(data), nil
}

func (h *hand) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	data, _, err := h.Get(ctx, name)
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(strings.NewReader(string(data))), err
}

func (h *hand) Head(ctx context.Context, name string) (blob.Info, error) {
	data, _, err := h.Get(ctx, name)
	return blob.Info{Name: name, Size: int64(len(data))}, err
}

func (h *hand) List(_ context.Context, q blob.Query) ([]blob.Info, error) {
	if h.dead {
		return nil, errDead
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	found := map[string]blob.Info{}
	for name, data := range h.m.objects {
		if !strings.HasPrefix(name, q.Prefix) {
			continue
		}
		if i := strings.IndexByte(name[len(q.Prefix):], '/'); q.Folders && i >= 0 {
			name, data = name[:len(q.Prefix)+i+1], nil
		}
		if name > q.After {
			found[name] = blob.Info{Name: name, Size: int64(len(data))}
		}
	}
	var out []blob.Info
	for _, info := range found {
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b blob.Info) int { return strings.Compare(a.Name, b.Name) })
	return out[:min(len(out), q.Max())], nil
}

func (h *hand) Delete(_ context.Context, names ...string) error {
	for _, name := range names { // one after the other: some may be gone when it fails
		if err := h.do(name, func() error { delete(h.m.objects, name); return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (h *hand) Sweep(context.Context, time.Time) error { return nil }
func (h *hand) Close() error                           { return nil }

// actor is one process that lands events.
type actor struct {
	h *hand
	d *Dataset
}

// event is the id of the i-th event.
func eventID(i int) (id ID) {
	binary.LittleEndian.PutUint64(id[:], uint64(i+1)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint64(id[8:], uint64(i))
	return id
}

// lanesOf is where events lie: those with even and odd numbers each in a partition.
func lanesOf(events []int) (lanes []Lane) {
	at := map[int]int{}
	for i, e := range events {
		place := Place{Position: []byte{byte(e)}}
		k, known := at[e%2]
		if !known {
			k = len(lanes)
			at[e%2] = k
			lanes = append(lanes, Lane{Stream: "s", Partition: fmt.Sprint(e % 2), First: place, Last: place, Rising: true})
		}
		l := &lanes[k]
		if known && place.Compare(l.Last) <= 0 {
			l.Rising = false
		} else {
			l.Last = place
		}
		l.Runs = append(l.Runs, [2]int{i, i + 1})
	}
	return lanes
}

// land lands events of a source, each in the partition of its number, and reports whether all
// of them are acknowledged.
func (a *actor) land(ctx context.Context, events []int) error {
	ids := make([]ID, len(events))
	for i, e := range events {
		ids[i] = eventID(e)
	}
	lanes := lanesOf(events)
	held, err := a.d.Reserve(ctx, ids, lanes)
	if err != nil {
		return err
	}
	defer held.Release()
	var partitions []string
	rows := map[string][]int{}
	for i, e := range events {
		if _, twin := held.Twin(i); twin || held.Landed(i) {
			continue
		}
		p := fmt.Sprintf("year=%04d", 2000+e%3)
		if rows[p] == nil {
			partitions = append(partitions, p)
		}
		rows[p] = append(rows[p], e)
	}
	if len(partitions) == 0 {
		return nil
	}
	l, err := a.d.Plan(ctx, partitions)
	if err != nil {
		return err
	}
	<-l.planned // so that the calls of a history have one order
	var landed []ID
	failed := map[int]error{}
	for i, p := range partitions {
		failed[i] = l.Write(ctx, i, File{Partition: p, Write: func(w io.Writer) error {
			_, err := fmt.Fprint(w, rows[p])
			return err
		}})
		for _, e := range rows[p] {
			if failed[i] == nil {
				landed = append(landed, eventID(e))
			}
		}
	}
	if err := l.Commit(ctx, func(i int) bool { return failed[i] != nil }, landed, lanes); err != nil {
		return err
	}
	for i := range partitions {
		if failed[i] != nil {
			return failed[i] // some of the events have landed, and all of them come again
		}
	}
	return nil
}

// count is how often each event is in the data files that belong to the dataset.
func (m *memory) count(t *rapid.T, everything bool) map[int]int {
	h := &hand{m: m, fate: func() fate { return well }}
	absent, err := unsettledFiles(context.Background(), h, "lake")
	if err != nil {
		t.Fatal(err)
	}
	n := map[int]int{}
	for name, data := range m.objects {
		if !strings.HasSuffix(name, suffix) || absent[name] && !everything {
			continue
		}
		var e int
		for text := range strings.FieldsSeq(strings.Trim(string(data), "[]")) {
			if _, err := fmt.Sscan(text, &e); err != nil {
				t.Fatal(err)
			}
			n[e]++
		}
	}
	return n
}

// TestLandsOnce is a random history of writers that land what a source delivers: in random
// groups, some of it again, with calls that fail, answers that are lost and deaths at every call.
// At any time an event is there at most once, and at least once when it is acknowledged; and
// when the source has delivered all, once. With a lock, there is one writer at a time, and
// no file is left that does not belong; without one, others begin while the first is at
// it, which has lost then. A store is asked by requests, each of which may be lost, refused for
// now, or done without an answer, and is then sent again.
func TestLandsOnce(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct{ lock, distant bool }{"locked": {lock: true}, "unlocked": {}, "store": {distant: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { landsOnce(t, how.lock, how.distant) })
		})
	}
}

func landsOnce(t *rapid.T, lock, distant bool) {
	ctx := context.Background()
	m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
	const events = 30
	acked := map[int]bool{}
	calm := false
	kept := rapid.SampledFrom([]int{2 * events, 10 * events}).Draw(t, "kept")
	var others func()
	draw := func() fate {
		if others != nil && !calm && rapid.IntRange(0, 9).Draw(t, "another") == 0 {
			others()
		}
		if calm || rapid.IntRange(0, 5).Draw(t, "trouble") > 0 {
			return well
		}
		return fate(rapid.IntRange(0, int(last)).Draw(t, "fate"))
	}
	begin := func() *actor {
		a := &actor{h: &hand{m: m, fate: draw}}
		d, err := openIn(ctx, a.h.bucket(distant), "lake", lock, Options{MaxLanded: kept})
		if err != nil {
			return nil
		}
		a.d = d
		return a
	}
	var actors []*actor
	check := func() {
		n := m.count(t, false)
		for e := range events {
			if n[e] > 1 || n[e] == 0 && acked[e] {
				t.Fatalf("event %d is there %d times; it is acknowledged: %t", e, n[e], acked[e])
			}
		}
	}
	step := func(a *actor) {
		var some []int
		for range rapid.IntRange(1, 6).Draw(t, "size") {
			some = append(some, rapid.IntRange(0, events-1).Draw(t, "event"))
		}
		if rapid.Bool().Draw(t, "sorted") {
			slices.Sort(some)
		}
		if a.land(ctx, some) == nil {
			for _, e := range some {
				acked[e] = true
			}
		}
	}
	if !lock {
		within := false
		others = func() { // one begins, and lands something, within a call of another
			if within {
				return
			}
			within = true
			defer func() { within = false }()
			if a := begin(); a != nil {
				actors = append(actors, a)
				step(a)
			}
		}
	}
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		most := 1
		if !lock {
			most = 3
		}
		actors = slices.DeleteFunc(actors, func(a *actor) bool { return a.h.dead || errors.Is(a.d.log.lost, ErrTaken) })
		if len(actors) < most {
			if a := begin(); a != nil {
				actors = append(actors, a)
			}
		}
		if len(actors) > 0 {
			step(rapid.SampledFrom(actors).Draw(t, "actor"))
		}
		check()
	}
	calm = true
	a := begin()
	if a == nil {
		t.Fatal("a writer without trouble cannot begin")
	}
	for e := range events {
		if err := a.land(ctx, []int{e, (e + 7) % events}); err != nil {
			t.Fatal(err)
		}
		acked[e] = true
	}
	check()
	if lock {
		for e, n := range m.count(t, true) {
			if n != 1 {
				t.Errorf("event %d is in %d files", e, n)
			}
		}
	}
}
