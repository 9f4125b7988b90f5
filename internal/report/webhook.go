package report

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
)

const (
	heartbeatSchema = "iglu:com.snowplowanalytics.monitoring.loader/heartbeat/jsonschema/1-0-0"
	alertSchema     = "iglu:com.snowplowanalytics.monitoring.loader/alert/jsonschema/1-0-0"
)

// maxAlert bounds the length of an alert's message, in bytes.
const maxAlert = 4096

// maxDeaths bounds how many alerts of pipelines that died wait to be sent.
const maxDeaths = 8

// webhook tells an endpoint that all is well, or what somebody must see to.
//
// A heartbeat is sent at the start and then each interval while no target asks for
// somebody. When one begins to, an alert is sent at once if none was for an interval, and
// then one each interval, with the latest error, until a write to that target succeeds. A
// pipeline that dies raises an alert of its own, always at once.
type webhook struct {
	client   *httpclient.Client
	endpoint string
	every    time.Duration
	app      app
	dropped  *meter.Reports
	trouble  trouble

	wake chan struct{} // has an element when the problems changed

	*problems
}

// problems are what asks for somebody. A webhook that replaces another takes them over.
type problems struct {
	mu     sync.Mutex
	broken map[place]problem // by the target that asks
	number int
	deaths []string // that nobody was told of
	died   bool
}

// place is one target of one pipeline.
type place struct {
	p    *meter.Pipeline
	role string
}

// problem is why a target asks for somebody; the highest number is the latest.
type problem struct {
	number  int
	message string
}

// app is how the process calls itself in every report.
type app struct {
	Name    string            `json:"appName"`
	Version string            `json:"appVersion"`
	Tags    map[string]string `json:"tags"`
}

type alert struct {
	app
	Message string `json:"message"`
}

func newWebhook(o Options, dropped *meter.Reports, known *problems) *webhook {
	c := o.Settings.Webhook
	return &webhook{
		client: httpclient.New(httpclient.Options{Transport: o.Transport}), endpoint: c.Endpoint, every: c.Heartbeat, dropped: dropped,
		app:     app{o.AppName, o.Version, tagsOf(c.Tags)},
		trouble: trouble{log: o.Log, what: "heartbeats and alerts are not sent to the webhook", at: secret.URL(c.Endpoint)},
		wake:    make(chan struct{}, 1), problems: known,
	}
}

// tagsOf is tags as JSON shows them: an object, also when there are none.
func tagsOf(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

// tell notes an alert. The engine calls it: it never blocks for long.
func (w *webhook) tell(p *meter.Pipeline, a meter.Alert) {
	if a.Died {
		w.mu.Lock()
		w.died = true
		w.die(message(a))
		w.mu.Unlock()
	} else {
		w.note(p, a)
	}
	w.signal()
}

// note notes whether a target asks for somebody.
func (k *problems) note(p *meter.Pipeline, a meter.Alert) {
	at := place{p, a.Role}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case a.Died: // it has a webhook, or nobody is told
	case a.Err == nil:
		delete(k.broken, at)
	default:
		if k.broken == nil {
			k.broken = map[place]problem{}
		}
		k.number++
		k.broken[at] = problem{k.number, message(a)}
	}
}

// failed notes that the process ends because of err, if nobody was told why yet.
func (w *webhook) failed(err error) {
	w.mu.Lock()
	if !w.died {
		w.died = true
		w.die(text(err))
	}
	w.mu.Unlock()
	w.signal()
}

func (w *webhook) die(message string) {
	if len(w.deaths) >= maxDeaths {
		w.deaths = slices.Delete(w.deaths, 0, 1)
		w.dropped.Webhook.Add(1)
	}
	w.deaths = append(w.deaths, message)
}

func (w *webhook) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func message(a meter.Alert) string {
	s := text(a.Err)
	if named(a.Pipeline) {
		s = "pipeline \"" + a.Pipeline + "\": " + s
	}
	if a.Died {
		s = "stopped: " + s
	}
	return s
}

// text is an error as an alert shows it.
func text(err error) string { return shorten(secret.Text(err.Error()), maxAlert) }

// latest is the latest error of the running pipelines that somebody must see to.
func (k *problems) latest(running []*meter.Pipeline) (message string, broken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := 0
	for at, p := range k.broken {
		// One that a reload replaced asks for nobody any more.
		if p.number > last && slices.Contains(running, at.p) {
			last, message = p.number, p.message
		}
	}
	return message, last > 0
}

// forget forgets what p's targets asked for.
func (k *problems) forget(p *meter.Pipeline) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.broken, func(at place, _ problem) bool { return at.p == p })
}

// run sends until ctx ends and what is left is sent.
func (w *webhook) run(ctx, sending context.Context, current func() []*meter.Pipeline) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	w.heartbeat(sending)
	var alerted time.Time
	alertNow := func(message string) {
		w.alert(sending, message)
		alerted = time.Now()
		tick.Reset(w.every)
	}
	for {
		w.sendDeaths(sending)
		select {
		case <-w.wake:
			if message, broken := w.latest(current()); broken && (alerted.IsZero() || time.Since(alerted) >= w.every) {
				alertNow(message)
			}
		case <-tick.C:
			if message, broken := w.latest(current()); broken {
				alertNow(message)
			} else {
				w.heartbeat(sending)
			}
		case <-ctx.Done():
			w.sendDeaths(sending)
			return
		}
	}
}

func (w *webhook) sendDeaths(ctx context.Context) {
	w.mu.Lock()
	deaths := w.deaths
	w.deaths = nil
	w.mu.Unlock()
	for _, d := range deaths {
		w.alert(ctx, d)
	}
}

func (w *webhook) heartbeat(ctx context.Context) {
	w.send(ctx, selfDescribing{heartbeatSchema, w.app})
}

func (w *webhook) alert(ctx context.Context, message string) {
	w.send(ctx, selfDescribing{alertSchema, alert{w.app, message}})
}

func (w *webhook) send(ctx context.Context, body selfDescribing) {
	if err := post(ctx, w.client, w.endpoint, body); err != nil {
		w.dropped.Webhook.Add(1)
		w.trouble.met(err)
		return
	}
	w.trouble.over()
}
