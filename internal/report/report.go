// Package report tells others how the process does: a summary line in the log, metrics
// to statsd, heartbeats and alerts to a webhook, counts of messages and their errors to a
// metadata endpoint, and logged errors to Sentry. Formats and names are Snowbridge's.
//
// # Windows
//
// Counters are never reset: each window of stats_receiver.buffer_sec reports how much they
// grew since the window before, and what the pipeline's [meter.Watch] noted meanwhile. A
// pipeline that a reload replaced is counted until it is idle. A reload that changes how it is
// told, or whom, ends a window, which is told as before. The last window ends when
// the process does. A window in which nothing changed has no line in the log; at debug level
// each pipeline has Snowbridge's line for each window.
//
// # Invariants
//
//   - Nothing here blocks or fails a message: the engine only adds to counters and puts
//     alerts into memory of fixed size; all sending happens on goroutines of this package.
//   - Every queue is bounded; what finds no room is dropped and counted in [meter.Reports].
//   - No user information, query or fragment of a URL leaves the process or is logged.
//   - The process waits for the last sends at most [Linger].
package report

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/snowplow"
)

// Linger is how long the last sends may take once the process is to end.
const Linger = 5 * time.Second

// Options is what a Reporter is made of.
type Options struct {
	// AppName and Version are how the process calls itself.
	AppName, Version string
	Settings         Settings
	Log              *slog.Logger

	// Host and Process ID of statsd tags and Sentry events; the process's own when zero.
	Host string
	PID  int

	// Transport and Dial reach the network; nil means the real one.
	Transport http.RoundTripper
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o *Options) setDefaults() {
	if o.Host == "" {
		o.Host, _ = os.Hostname() // without one the tag is empty, as in any statsd client
	}
	if o.PID == 0 {
		o.PID = os.Getpid()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: Linger}).DialContext
	}
}

// Reporter reports what the pipelines of a process do. Make it with [New], hand it every
// pipeline's counters with [Reporter.Attach] and call [Reporter.Run] once.
type Reporter struct {
	// Queued, if set before [Reporter.Run], is how many messages wait in queues, and how many
	// are dead; false while that is not known.
	Queued func() (open, dead int64, ok bool)

	o        Options // with the settings that hold
	dropped  meter.Reports
	endToEnd atomic.Bool // of pipelines that are attached
	renewals chan renewal
	ended    chan struct{} // closed when the last window begins

	statsd   *statsd   // of Run
	metadata *metadata // of Run
	problems problems

	// over is held while something is handed to what follows, and to replace it.
	over    sync.RWMutex
	webhook *webhook
	sentry  *sentry

	mu   sync.Mutex
	seen map[*meter.Pipeline]*entry
	from time.Time // when the window began
	told standing  // by the last summary
}

// entry is a pipeline's counters as they were at the end of the last window.
type entry struct {
	last  counts
	moved changes // until then
	left  map[meter.LeftOut]int64
	idle  int // windows in a row without a change since the pipeline was replaced
}

// New makes a Reporter. It does no I/O.
func New(o Options) *Reporter {
	o.setDefaults()
	r := &Reporter{o: o, seen: map[*meter.Pipeline]*entry{}, renewals: make(chan renewal), ended: make(chan struct{})}
	r.endToEnd.Store(o.Settings.EndToEnd)
	if o.Settings.Statsd != nil {
		r.statsd = newStatsd(o, &r.dropped)
	}
	if o.Settings.Webhook != nil {
		r.webhook = newWebhook(o, &r.dropped, &r.problems)
	}
	if o.Settings.Metadata != nil {
		r.metadata = newMetadata(o, &r.dropped)
	}
	if o.Settings.Sentry != nil {
		r.sentry = newSentry(o, &r.dropped)
	}
	return r
}

// Dropped counts what could not be reported.
func (r *Reporter) Dropped() *meter.Reports { return &r.dropped }

// Handler is inner, and errors go to Sentry as well while it is configured.
func (r *Reporter) Handler(inner slog.Handler) slog.Handler {
	return &sentryHandler{r: r, inner: inner}
}

// Attach has p measured and reported. It must be called before p's pipeline is opened.
func (r *Reporter) Attach(p *meter.Pipeline) {
	p.Watch = &meter.Watch{Tell: func(a meter.Alert) { r.tell(p, a) }}
	if r.endToEnd.Load() {
		p.Watch.Collected = snowplow.Collected
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[p] = &entry{}
}

// tell notes an alert. The engine calls it: it never blocks for long.
func (r *Reporter) tell(p *meter.Pipeline, a meter.Alert) {
	r.over.RLock()
	defer r.over.RUnlock()
	if r.webhook != nil {
		r.webhook.tell(p, a)
		return
	}
	r.problems.note(p, a) // for a webhook that a reload adds
}

// Failed says that the process ends because of err. It raises an alert unless a pipeline
// that died has done so. It must be called before the context of [Reporter.Run] ends.
func (r *Reporter) Failed(err error) {
	r.over.RLock()
	defer r.over.RUnlock()
	if r.sentry != nil {
		r.sentry.failed(err)
	}
	if r.webhook != nil {
		r.webhook.failed(err)
	}
}

// Run reports until ctx ends, and then what is left, for at most [Linger]. The pipelines
// that run now are what current returns.
func (r *Reporter) Run(ctx context.Context, current func() []*meter.Pipeline) {
	// Sends outlive ctx, for as long as the process lingers.
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	d := &desk{r: r, ctx: ctx, current: current}
	r.mu.Lock()
	r.from = time.Now()
	r.mu.Unlock()
	d.openWebhook()
	d.openMetadata()
	d.openSentry()
	tick := time.NewTicker(r.o.Settings.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			r.window(sending, current(), regular)
		case n := <-r.renewals:
			if !reflect.DeepEqual(n.settings, r.o.Settings) {
				r.window(sending, current(), early) // what was until now is told as it was to be told
				d.renew(n.settings)
				tick.Reset(n.settings.Every)
			}
			close(n.done)
		case <-ctx.Done():
		}
	}
	close(r.ended)
	linger := time.AfterFunc(Linger, cut)
	defer linger.Stop()
	r.window(sending, current(), last)
	d.close()
	if r.statsd != nil {
		r.statsd.close()
	}
}

// part is what one window says of the pipelines with one name: after a reload there may be
// two of them for a while.
type part struct {
	name            string
	counts          counts
	changes         changes
	left            map[meter.LeftOut]int64 // what destinations got nothing of
	window          meter.Window
	messages, bytes int64 // in flight
	lag             time.Duration
}

// ending is why a window ends.
type ending int

const (
	regular ending = iota // its time is over
	early                 // a reload changes how it is told, or whom
	last                  // the process ends, which the log tells of itself
)

// window ends a window and reports it.
func (r *Reporter) window(ctx context.Context, current []*meter.Pipeline, why ending) {
	now := time.Now()
	log := why != last
	parts, from := r.take(current, now, why == regular)
	for _, p := range parts {
		if p.window.Untimed > 0 {
			r.o.Log.Warn("messages without a collector timestamp are left out of the end-to-end latency: they are no Snowplow events",
				meter.KeyPipeline, p.name, meter.KeyMessages, p.window.Untimed)
		}
		if log {
			r.o.Log.Debug(p.observed(), meter.KeyName, "Observer", meter.KeyPipeline, p.name)
		}
	}
	if log {
		r.summarize(parts, now.Sub(from))
	}
	if r.metadata != nil && len(parts) > 0 {
		r.metadata.offer(parts, from, now)
	}
	if r.statsd != nil {
		r.statsd.send(ctx, parts)
	}
}

// take is what happened since the last window, by pipeline name. Whole says that the window was as
// long as windows are.
func (r *Reporter) take(current []*meter.Pipeline, now time.Time, whole bool) (parts []*part, from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, r.from = r.from, now
	running := make(map[*meter.Pipeline]bool, len(current))
	for _, p := range current {
		running[p] = true
		if r.seen[p] == nil {
			r.seen[p] = &entry{}
		}
	}
	byName := map[string]*part{}
	for p, e := range r.seen {
		c := countsOf(p)
		grown := c.minus(e.last)
		moves := changesOf(p)
		moved := moves.minus(e.moved)
		left, before := p.LeftOut(), e.left
		e.last, e.moved, e.left = c, moves, left
		flying := p.InFlight.Load()
		if !running[p] {
			if grown == (counts{}) && moved == (changes{}) && flying == 0 {
				// A pipeline may still be about to read when it is replaced: two windows
				// without a change say that it is not.
				if whole {
					e.idle++
				}
				if e.idle >= 2 {
					delete(r.seen, p)
					r.problems.forget(p)
				}
				continue
			}
			e.idle = 0
		}
		of := byName[p.Name]
		if of == nil {
			of = &part{name: p.Name}
			byName[p.Name] = of
			parts = append(parts, of)
		}
		of.counts = of.counts.plus(grown)
		of.changes = of.changes.plus(moved)
		of.left = grownBy(of.left, left, before)
		of.window.Join(p.Watch.Take())
		of.lag = max(of.lag, p.CurrentLag())
		of.messages += flying
		of.bytes += p.InFlightBytes.Load()
	}
	slices.SortFunc(parts, func(a, b *part) int { return cmp.Compare(a.name, b.name) })
	return parts, from
}

// named reports whether a pipeline's name is to be told: that of the pipeline made of
// Snowbridge's blocks is not, so that its series stay what they were.
func named(pipeline string) bool { return pipeline != meter.Unnamed }
