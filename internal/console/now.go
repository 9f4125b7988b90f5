package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Now is how everything stands at a moment. Times are RFC 3339, ages and durations seconds, rates
// of a second; -1 is what is not known.
type Now struct {
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	// Unready is why the process is not ready; empty when it is.
	Unready   string     `json:"unready,omitempty"`
	Store     string     `json:"store,omitempty"`
	Pipelines []Pipeline `json:"pipelines"`
	Queues    []Queue    `json:"queues"`
	// Needs is what somebody should look at, the most harmful first.
	Needs []Need `json:"needs"`
}

// Pipeline is how a pipeline stands.
type Pipeline struct {
	Name string `json:"name"`
	// State is "running", "idle" (it runs, and has read nothing for a minute), "waiting" (a target
	// takes nothing) or "degraded".
	State string     `json:"state"`
	Since *time.Time `json:"since,omitempty"`

	Read      int64   `json:"read"`
	ReadRate  float64 `json:"read_rate"`
	Filtered  int64   `json:"filtered"`
	Invalid   int64   `json:"invalid"`
	InFlight  int64   `json:"in_flight"`
	Oldest    float64 `json:"oldest"`
	Behind    int64   `json:"behind"`
	BehindAge float64 `json:"behind_age"`
	Restarts  int64   `json:"restarts"`
	Sinks     []Sink  `json:"sinks"`
}

// Sink is how one of a pipeline's targets stands.
type Sink struct {
	// Role is that of the edge of the drawing.
	Role     string  `json:"role"`
	Written  int64   `json:"written"`
	Rate     float64 `json:"rate"`
	Failures int64   `json:"failures"`
	Retries  int64   `json:"retries"`
	// Failing is since when it takes nothing, and Destinations for how many.
	Failing      *time.Time `json:"failing,omitempty"`
	Destinations int        `json:"destinations,omitempty"`
}

// Queue is how a queue stands.
type Queue struct {
	Name     string `json:"name"`
	Waiting  int64  `json:"waiting"`
	Leased   int64  `json:"leased"`
	Retrying int64  `json:"retrying"`
	Dead     int64  `json:"dead"`
	Bytes    int64  `json:"bytes"`
	// Growth is by how many open messages it grows in a second, over the last ten.
	Growth float64 `json:"growth"`
	Paused int     `json:"paused,omitempty"`
}

// Need is something that somebody should look at.
type Need struct {
	What string `json:"what"`
	// Do is what to do about it, a command where there is one.
	Do string `json:"do"`
	// Page is where more of it is.
	Page  string     `json:"page"`
	Since *time.Time `json:"since,omitempty"`
	harm  int
}

// viewer makes frames, and remembers of the last ones what rates need.
type viewer struct {
	o *Options

	mu     sync.Mutex
	at     time.Time
	read   map[string]int64
	wrote  map[string]int64
	queues []depths // the last ten
}

type depths struct {
	at   time.Time
	open map[string]int64
}

func newViewer(o *Options) *viewer { return &viewer{o: o} }

const (
	storePatience = 800 * time.Millisecond // for a look at a store that is away
	idleAfter     = time.Minute
	growthOver    = 10
)

// look is how everything stands.
func (v *viewer) look(ctx context.Context) *Now {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	n := &Now{At: now.Round(time.Millisecond), Version: v.o.Version, Pipelines: []Pipeline{}, Queues: []Queue{}, Needs: []Need{}}
	if err := v.o.Ready(); err != nil {
		n.Unready = err.Error()
		n.need(100, Need{What: "The process is not ready: " + n.Unready, Do: "see /readyz and the log", Page: "/"})
	}
	passed := now.Sub(v.at).Seconds()
	if v.at.IsZero() || passed > 10*period.Seconds() {
		passed, v.queues = 0, nil // nobody looked for a while
	}
	read, wrote := map[string]int64{}, map[string]int64{}
	for _, p := range v.o.Pipelines.Pipelines() {
		n.Pipelines = append(n.Pipelines, v.pipeline(p, n, now, passed, read, wrote))
	}
	v.at, v.read, v.wrote = now, read, wrote
	v.stores(ctx, n, now)
	slices.SortStableFunc(n.Needs, func(a, b Need) int { return cmp.Compare(b.harm, a.harm) })
	return n
}

func (n *Now) need(harm int, what Need) {
	what.harm = harm
	n.Needs = append(n.Needs, what)
}

// rate is how much a counter grew in a second.
func rate(now, before int64, known bool, passed float64) float64 {
	if passed <= 0 || !known || now < before {
		return 0
	}
	return float64(now-before) / passed
}

func (v *viewer) pipeline(p *meter.Pipeline, n *Now, now time.Time, passed float64, read, wrote map[string]int64) Pipeline {
	look := p.Look()
	messages, _, age := p.Behind.Get()
	out := Pipeline{Name: p.Name, State: "running", Read: p.Read.Load(), Filtered: p.Filtered.Load(), Invalid: p.Invalid.Load(), InFlight: p.InFlight.Load(),
		Oldest: look.Oldest.Seconds(), Behind: messages, BehindAge: -1, Restarts: p.Restarts.Load(), Sinks: []Sink{}}
	if age >= 0 {
		out.BehindAge = age.Seconds()
	}
	before, known := v.read[p.Name]
	out.ReadRate = rate(out.Read, before, known, passed)
	read[p.Name] = out.Read
	page := "/p/" + p.Name
	if out.ReadRate == 0 && (look.Read.IsZero() || now.Sub(look.Read) > idleAfter) {
		out.State = "idle"
	}
	for _, s := range p.Sinks() {
		sink := Sink{Role: s.Role, Written: s.Written.Load(), Retries: s.Retries.Load()}
		for k := fault.Transient; k <= fault.Fatal; k++ {
			sink.Failures += s.Failures[k].Load()
		}
		key := p.Name + "\x00" + s.Role
		before, known := v.wrote[key]
		sink.Rate = rate(sink.Written, before, known, passed)
		wrote[key] = sink.Written
		if since, destinations := s.Failing(); !since.IsZero() {
			sink.Failing, sink.Destinations = &since, destinations
			out.State, out.Since = "waiting", &since
			what := fmt.Sprintf("The %s of the pipeline %q takes nothing", s.Role, p.Name)
			if destinations > 0 {
				what = fmt.Sprintf("%d destinations of the pipeline %q take nothing", destinations, p.Name)
				if destinations == 1 {
					what = fmt.Sprintf("A destination of the pipeline %q takes nothing", p.Name)
				}
			}
			n.need(60, Need{What: what, Do: "the log says why: look for pipeline=" + p.Name, Page: page, Since: &since})
		}
		out.Sinks = append(out.Sinks, sink)
	}
	if !look.Degraded.IsZero() {
		out.State, out.Since = "degraded", &look.Degraded
		n.need(90, Need{What: fmt.Sprintf("The pipeline %q has failed and waits to be started again", p.Name), Do: "the log says why: look for pipeline=" + p.Name, Page: page, Since: &look.Degraded})
	}
	if cut := p.Cut.Load(); cut > 0 {
		n.need(80, Need{What: fmt.Sprintf("%d failed messages of the pipeline %q were cut, and are whole nowhere", cut, p.Name), Do: "add a store to the config, or a failure target that takes them", Page: page})
	}
	return out
}

// stores looks at the queues.
func (v *viewer) stores(ctx context.Context, n *Now, now time.Time) {
	s, identity, queues := v.o.Store()
	if s == nil {
		return
	}
	n.Store = identity
	ctx, done := context.WithTimeout(ctx, storePatience)
	defer done()
	open := map[string]int64{}
	pauses := map[string]int{}
	if all, err := queue.PausesOf(ctx, s); err == nil {
		for i := range all {
			pauses[all[i].Queue]++
		}
	}
	for _, q := range queues {
		st, err := s.Stats(ctx, queue.Filter{Queue: q.Name})
		if err != nil {
			n.need(95, Need{What: "The store does not answer: " + err.Error(), Do: "see that it runs and can be reached; work goes on by itself when it does", Page: "/queues"})
			break
		}
		out := Queue{Name: q.Name, Waiting: st.Waiting, Leased: st.Leased, Retrying: st.Retrying, Dead: st.Dead, Bytes: st.Bytes, Paused: pauses[q.Name]}
		open[q.Name] = st.Waiting + st.Leased + st.Retrying
		if len(v.queues) > 0 {
			first := v.queues[0]
			if before, known := first.open[q.Name]; known && now.After(first.at) {
				out.Growth = float64(open[q.Name]-before) / now.Sub(first.at).Seconds()
			}
		}
		if st.Dead > 0 {
			n.need(70, Need{What: fmt.Sprintf("%d messages of the queue %q are dead", st.Dead, q.Name), Do: "weir failures ls, then weir failures replay or weir queue drop " + q.Name, Page: "/queues"})
		}
		if out.Paused > 0 {
			n.need(30, Need{What: fmt.Sprintf("The queue %q is paused, whole or in part", q.Name), Do: "weir queue resume " + q.Name, Page: "/queues"})
		}
		n.Queues = append(n.Queues, out)
	}
	if v.queues = append(v.queues, depths{now, open}); len(v.queues) > growthOver {
		v.queues = v.queues[1:]
	}
}
