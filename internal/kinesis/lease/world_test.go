package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// river is a stream that is split and merged.
type river struct {
	mu     sync.Mutex
	next   int
	shards map[string]Shard
	closed map[string]time.Time
	fails  error
}

func newRiver(n int) *river {
	r := &river{shards: map[string]Shard{}, closed: map[string]time.Time{}}
	step := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
	for i := range n {
		from := new(big.Int).Mul(step, big.NewInt(int64(i)))
		to := new(big.Int).Sub(new(big.Int).Add(from, step), big.NewInt(1)).String()
		if i == n-1 {
			to = lastHashKey
		}
		r.add(HashRange{From: from.String(), To: to})
	}
	return r
}

func (r *river) add(keys HashRange, parents ...string) string {
	id := fmt.Sprintf("shardId-%012d", r.next)
	r.shards[id] = Shard{ID: id, Parents: parents, Range: keys, First: fmt.Sprintf("4960000000000000%040d", r.next*1000)}
	r.next++
	return id
}

func (r *river) close(id string) {
	s := r.shards[id]
	s.Closed = true
	r.shards[id] = s
	r.closed[id] = time.Now()
}

func (r *river) split(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[id]
	r.close(id)
	mid := middle(s.Range)
	return []string{r.add(HashRange{From: s.Range.From, To: mid}, id), r.add(HashRange{From: increment(mid), To: s.Range.To}, id)}
}

func middle(keys HashRange) string {
	from, _ := new(big.Int).SetString(keys.From, 10)
	to, _ := new(big.Int).SetString(keys.To, 10)
	return new(big.Int).Rsh(new(big.Int).Add(from, to), 1).String()
}

// merge merges two open shards that meet; the first is the lower one.
func (r *river) merge(a, b string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.close(a)
	r.close(b)
	return r.add(HashRange{From: r.shards[a].Range.From, To: r.shards[b].Range.To}, a, b)
}

func (r *river) trim(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.shards, id)
}

func (r *river) list() []Shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Shard, 0, len(r.shards))
	for _, s := range r.shards {
		list = append(list, s)
	}
	slices.SortFunc(list, bySequence)
	return list
}

func (r *river) open() []Shard {
	list := slices.DeleteFunc(r.list(), func(s Shard) bool { return s.Closed })
	slices.SortFunc(list, func(a, b Shard) int { return compareDecimal(a.Range.From, b.Range.From) })
	return list
}

func (r *river) isClosed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.shards[id]
	return !ok || s.Closed
}

func (r *river) Shards(ctx context.Context, at time.Time) ([]Shard, error) {
	r.mu.Lock()
	err := r.fails
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	list := r.list()
	if !at.IsZero() {
		r.mu.Lock()
		list = slices.DeleteFunc(list, func(s Shard) bool { return s.Closed && r.closed[s.ID].Before(at) })
		r.mu.Unlock()
	}
	return list, ctx.Err()
}

var (
	errThrottled = fault.Throttle(errors.New("the table is throttled"), 0)
	errCut       = errors.New("the connection was cut")
)

// line is the way of one instance to the table, which has faults.
type line struct {
	Table
	mu       sync.Mutex
	cut      bool
	throttle func(time.Time) bool
	lost     float64 // of the answers to what was written
	latency  time.Duration
	writes   int
}

func (n *line) set(change func(*line)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *line) heal() { n.cut, n.lost, n.throttle, n.latency = false, 0, nil, 0 }

func (n *line) before(ctx context.Context) (lost bool, err error) {
	n.mu.Lock()
	cut, throttled, latency := n.cut, n.throttle != nil && n.throttle(time.Now()), n.latency
	lost = n.lost > 0 && rand.Float64() < n.lost
	n.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(rand.N(latency)):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	switch {
	case cut:
		return false, errCut
	case throttled:
		return false, errThrottled
	}
	return lost, ctx.Err()
}

func through[T any](ctx context.Context, n *line, call func() (T, error)) (T, error) {
	var none T
	lost, err := n.before(ctx)
	if err != nil {
		return none, err
	}
	n.set(func(n *line) { n.writes++ })
	out, err := call()
	if lost {
		return none, errCut
	}
	return out, err
}

func (n *line) Scan(ctx context.Context, latest bool) (Rows, error) {
	if _, err := n.before(ctx); err != nil {
		return Rows{}, err
	}
	return n.Table.Scan(ctx, latest)
}

func (n *line) Get(ctx context.Context, shard string) (Row, error) {
	if _, err := n.before(ctx); err != nil {
		return Row{}, err
	}
	return n.Table.Get(ctx, shard)
}

func (n *line) Create(ctx context.Context, r Row) error {
	_, err := through(ctx, n, func() (Row, error) { return r, n.Table.Create(ctx, r) })
	return err
}

func (n *line) Take(ctx context.Context, r Row, worker string) (Row, error) {
	return through(ctx, n, func() (Row, error) { return n.Table.Take(ctx, r, worker) })
}

func (n *line) Renew(ctx context.Context, r Row) (Row, error) {
	return through(ctx, n, func() (Row, error) { return n.Table.Renew(ctx, r) })
}

func (n *line) Save(ctx context.Context, r Row, p Position, children []string) (Row, error) {
	return through(ctx, n, func() (Row, error) { return n.Table.Save(ctx, r, p, children) })
}

func (n *line) Release(ctx context.Context, r Row) error {
	_, err := through(ctx, n, func() (Row, error) { return r, n.Table.Release(ctx, r) })
	return err
}

// book is a table that keeps watch over what is written: positions only grow, and a child is not
// read before its parents have ended.
type book struct {
	Table
	t     *testing.T
	mu    sync.Mutex
	moves map[string]int // owner changes by shard, from another owner or none
	owner map[string]string
	at    map[string]map[int64]Position // by counter
	wrote map[string]time.Time          // last
	stole map[string]time.Time          // last, from an owner that lived
}

func newBook(t *testing.T, inner Table) *book {
	return &book{Table: inner, t: t, moves: map[string]int{}, owner: map[string]string{}, at: map[string]map[int64]Position{}, wrote: map[string]time.Time{}, stole: map[string]time.Time{}}
}

func (b *book) Take(ctx context.Context, r Row, worker string) (Row, error) {
	after, err := b.Table.Take(ctx, r, worker)
	if err != nil {
		return after, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if r.Owner != "" && now.Sub(b.wrote[r.Shard]) < DefaultFailover {
		b.stole[r.Shard] = now
	}
	b.wrote[r.Shard] = now
	if b.owner[r.Shard] != worker {
		b.moves[r.Shard]++
		b.owner[r.Shard] = worker
	}
	return after, nil
}

func (b *book) Renew(ctx context.Context, r Row) (Row, error) {
	after, err := b.Table.Renew(ctx, r)
	if err == nil {
		b.mu.Lock()
		b.wrote[r.Shard] = time.Now()
		b.mu.Unlock()
	}
	return after, err
}

func (b *book) Save(ctx context.Context, r Row, p Position, children []string) (Row, error) {
	after, err := b.Table.Save(ctx, r, p, children)
	if err != nil {
		return after, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrote[r.Shard] = time.Now()
	// Answers come in any order, what was written has that of the counters.
	for counter, was := range b.at[r.Shard] {
		if c := p.Compare(was); counter < after.Counter && c <= 0 || counter > after.Counter && c >= 0 {
			b.t.Errorf("the positions of %s are %s at %d and %s at %d", r.Shard, was, counter, p, after.Counter)
		}
	}
	if b.at[r.Shard] == nil {
		b.at[r.Shard] = map[int64]Position{}
	}
	b.at[r.Shard][after.Counter] = p
	return after, nil
}

func (b *book) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, m := range b.moves {
		n += m
	}
	return n
}

// world is instances that read one stream.
type world struct {
	t     *testing.T
	river *river
	table *book
	tune  func(*Settings)

	mu        sync.Mutex
	instances []*instance
	busy      sync.WaitGroup
}

type instance struct {
	*Coordinator
	name   string
	line   *line
	ctx    context.Context
	kill   context.CancelFunc
	mu     sync.Mutex
	leases []*Lease
	frozen chan struct{} // readers wait until it is closed
}

func newWorld(t *testing.T, shards int, tune func(*Settings)) *world {
	return &world{t: t, river: newRiver(shards), table: newBook(t, NewMemory()), tune: tune}
}

func (w *world) join(name string) *instance {
	w.t.Helper()
	in := &instance{name: name, line: &line{Table: w.table}}
	s := Settings{Table: in.line, Stream: w.river, Name: name, Start: Start{Position: TrimHorizon}, Log: slog.New(slog.DiscardHandler)}
	if w.tune != nil {
		w.tune(&s)
	}
	c, err := New(s)
	if err != nil {
		w.t.Fatal(err)
	}
	in.Coordinator = c
	in.ctx, in.kill = context.WithCancel(w.t.Context())
	if err := c.Open(in.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.instances = append(w.instances, in)
	w.mu.Unlock()
	w.busy.Go(func() {
		for {
			l, err := c.Next(in.ctx)
			if err != nil {
				return
			}
			in.mu.Lock()
			in.leases = append(in.leases, l)
			in.mu.Unlock()
			w.busy.Go(func() { w.read(in, l) })
		}
	})
	return in
}

// read reads a shard: it saves a position now and then, and finishes when the shard is closed.
func (w *world) read(in *instance, l *Lease) {
	id := l.Shard().ID
	n := 0
	if p := l.Position(); p.IsRecord() {
		if _, err := fmt.Sscanf(p.Sequence, "%d", &n); err != nil {
			w.t.Errorf("%s starts at %s", id, p)
		}
	}
	for left := 3; ; {
		select {
		case <-l.Lost():
			return
		case <-in.ctx.Done():
			return
		case <-time.After(500*time.Millisecond + rand.N(time.Second)):
		}
		in.mu.Lock()
		frozen := in.frozen
		in.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if !l.Held() {
			continue // Lost follows
		}
		if _, err := w.table.Get(context.Background(), id); errors.Is(err, errNoRow) {
			continue // deleted by hand, which its holder notices when it writes next
		}
		for _, p := range l.Shard().Parents {
			if row, err := w.table.Get(context.Background(), p); err == nil && !row.Ended() {
				w.t.Errorf("%s is read before its parent %s has ended: that is at %s", id, p, row.Position)
			}
		}
		if w.river.isClosed(id) {
			if left--; left <= 0 {
				w.finish(in, l)
				continue
			}
		}
		n++
		p, _ := At(fmt.Sprint(n), 0)
		if err := l.Save(in.ctx, p); err != nil && !errors.Is(err, ErrLost) {
			n-- // unknown: what is done is saved again
		}
	}
}

func (w *world) finish(in *instance, l *Lease) {
	id := l.Shard().ID
	var children []Shard
	if rand.IntN(2) == 0 {
		children = lineageOf(w.river.list()).children(id)
	}
	err := l.Finish(in.ctx, children)
	if err == nil {
		row, err := w.table.Get(context.Background(), id)
		if err == nil && !row.Ended() {
			w.t.Errorf("%s was finished, and its row says %s", id, row.Position)
		}
	}
}

// freeze has the readers of an instance stop and go on.
func (in *instance) freeze(stop bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case stop && in.frozen == nil:
		in.frozen = make(chan struct{})
	case !stop && in.frozen != nil:
		close(in.frozen)
		in.frozen = nil
	}
}

// die stops an instance without a word to the table.
func (in *instance) die() {
	in.line.set(func(n *line) { n.cut = true })
	in.kill()
	in.mu.Lock()
	stop := in.stop
	in.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// holders is who holds each shard at this moment, by their own clocks.
func (w *world) holders() map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := map[string][]string{}
	for _, in := range w.instances {
		for _, l := range in.Coordinator.holding() {
			if l.Held() {
				held[l.shard.ID] = append(held[l.shard.ID], in.name)
			}
		}
		in.mu.Lock()
		for _, l := range in.leases {
			if l.Held() && !slices.Contains(held[l.shard.ID], in.name) {
				held[l.shard.ID] = append(held[l.shard.ID], in.name)
			}
		}
		in.mu.Unlock()
	}
	return held
}

// watch looks, until stop is closed, whether a shard has two holders. One from which a shard is
// taken although it lives finds out when it writes next, and before its time is over.
func (w *world) watch(stop <-chan struct{}) {
	w.busy.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for id, names := range w.holders() {
				w.table.mu.Lock()
				stolen := time.Since(w.table.stole[id])
				w.table.mu.Unlock()
				if len(names) > 1 && stolen >= DefaultFailover {
					w.t.Errorf("%s is held by %s at once", id, strings.Join(names, " and "))
				}
			}
		}
	})
}

// live are the instances that run.
func (w *world) live() []*instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.instances), func(in *instance) bool { return in.ctx.Err() != nil })
}

// unread are the open shards that nobody who runs reads, although nothing stands before them.
func (w *world) unread() []string {
	reads := map[string]bool{}
	for _, in := range w.live() {
		in.mu.Lock()
		for _, l := range in.leases {
			if l.Held() {
				reads[l.shard.ID] = true
			}
		}
		in.mu.Unlock()
	}
	var list []string
	for _, s := range w.river.open() {
		if !reads[s.ID] {
			list = append(list, s.ID)
		}
	}
	return list
}

// shares is how many open shards each running instance holds.
func (w *world) shares() map[string]int {
	shares := map[string]int{}
	for _, in := range w.live() {
		shares[in.name] = 0
		for _, id := range in.Held() {
			if !w.river.isClosed(id) {
				shares[in.name]++
			}
		}
	}
	return shares
}

func level(shares map[string]int) bool {
	least, most := 1<<30, 0
	for _, n := range shares {
		least, most = min(least, n), max(most, n)
	}
	return most-least <= 1
}

// end closes everything and waits for it.
func (w *world) end() {
	for _, in := range w.live() {
		in.line.set((*line).heal)
		if err := in.Close(context.Background()); err != nil {
			w.t.Errorf("close %s: %v", in.name, err)
		}
		in.kill()
	}
	for _, in := range w.instances {
		in.freeze(false)
	}
	w.busy.Wait()
}
