package report

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// renewal asks for other settings.
type renewal struct {
	settings Settings
	done     chan struct{}
}

// Expect has pipelines that are attached from now on measured as s says, which may hold soon.
func (r *Reporter) Expect(s Settings) { r.endToEnd.Store(s.EndToEnd) }

// Renew has the reports go on as s says, while [Reporter.Run] does. What happened until now is
// reported as before, and only that: the counters go on, so nothing is told twice or to nobody. Who
// is told in the same way as before notices nothing.
func (r *Reporter) Renew(s Settings) {
	r.Expect(s)
	n := renewal{s, make(chan struct{})}
	select {
	case r.renewals <- n:
		<-n.done
	case <-r.ended: // the last window is being reported
	}
}

// desk is where the goroutines of receivers are begun and ended.
type desk struct {
	r       *Reporter
	ctx     context.Context // of Run
	current func() []*meter.Pipeline

	work                      sync.WaitGroup
	webhook, metadata, sentry func() // end them; nil: there is none
}

// begin has a receiver work until the function that is returned is called: that calls stop, and what
// is left is sent, for at most [Linger].
func (d *desk) begin(work func(sending context.Context), stop func()) (end func()) {
	sending, cut := context.WithCancel(context.WithoutCancel(d.ctx))
	d.work.Go(func() {
		defer cut()
		work(sending)
	})
	return func() {
		stop()
		time.AfterFunc(Linger, cut)
	}
}

func (d *desk) openWebhook() {
	if w := d.r.webhook; w != nil {
		ctx, stop := context.WithCancel(d.ctx)
		d.webhook = d.begin(func(sending context.Context) { w.run(ctx, sending, d.current) }, stop)
	}
}

func (d *desk) openMetadata() {
	if m := d.r.metadata; m != nil {
		d.metadata = d.begin(m.run, func() { close(m.queue) })
	}
}

func (d *desk) openSentry() {
	if s := d.r.sentry; s != nil {
		ended := make(chan struct{})
		d.sentry = d.begin(func(sending context.Context) { s.run(sending, ended) }, func() { close(ended) })
	}
}

// end ends a receiver, if there is one.
func end(receiver *func()) {
	if *receiver != nil {
		(*receiver)()
		*receiver = nil
	}
}

// close ends the receivers and waits until they have sent what is left.
func (d *desk) close() {
	end(&d.webhook)
	end(&d.metadata)
	end(&d.sentry)
	d.work.Wait()
}

// renew replaces the receivers that other settings change. What an old one has not sent yet it sends;
// what comes from now on goes to the new one.
func (d *desk) renew(s Settings) {
	r := d.r
	was := r.o.Settings
	r.o.Settings = s
	if !reflect.DeepEqual(was.Statsd, s.Statsd) || was.EndToEnd != s.EndToEnd || was.Memory != s.Memory {
		if r.statsd != nil {
			r.statsd.close()
		}
		r.statsd = nil
		if s.Statsd != nil {
			r.statsd = newStatsd(r.o, &r.dropped)
		}
	}
	if !reflect.DeepEqual(was.Metadata, s.Metadata) {
		end(&d.metadata)
		r.metadata = nil
		if s.Metadata != nil {
			r.metadata = newMetadata(r.o, &r.dropped)
		}
		d.openMetadata()
	}
	if !reflect.DeepEqual(was.Webhook, s.Webhook) {
		var next *webhook
		if s.Webhook != nil {
			next = newWebhook(r.o, &r.dropped, &r.problems)
			next.signal() // what asks for somebody already
		}
		r.over.Lock()
		r.webhook = next
		r.over.Unlock()
		end(&d.webhook)
		d.openWebhook()
	}
	if !reflect.DeepEqual(was.Sentry, s.Sentry) {
		var next *sentry
		if s.Sentry != nil {
			next = newSentry(r.o, &r.dropped)
		}
		r.over.Lock()
		r.sentry = next
		r.over.Unlock() // nobody hands anything to the old one any more
		end(&d.sentry)
		d.openSentry()
	}
}
