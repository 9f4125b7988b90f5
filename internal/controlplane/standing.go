package controlplane

import (
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

var _ meter.Measured = (*Poller)(nil)

// Trouble is one line about why the configuration may not be what the control plane has, and since
// when; empty where there is no trouble. It holds no secret.
func (p *Poller) Trouble() string {
	p.telling.Lock()
	text, since := p.trouble, p.since
	p.telling.Unlock()
	if text == "" {
		return ""
	}
	last := "never since the start"
	if n := p.answered.Load(); n > 0 {
		last = "at " + utc(time.Unix(0, n))
	}
	force := "nothing is in force"
	if at := p.state.Current().Loaded; !at.IsZero() {
		force = "what is in force is so since " + utc(at)
	}
	return fmt.Sprintf("workspace %q: the control plane has given no configuration, or not all of it, since %s, and one that could be read last %s; %s: %s", p.o.Name, utc(since), last, force, text)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Measure implements meter.Measured.
func (p *Poller) Measure(emit meter.Emit) {
	if n := p.answered.Load(); n > 0 {
		emit(meter.PlaneAnswered, float64(n)/1e9, p.o.Name)
	}
	if at := p.state.Current().Loaded; !at.IsZero() {
		emit(meter.PlaneChanged, float64(at.UnixMilli())/1e3, p.o.Name)
	}
	emit(meter.PlaneFailures, float64(p.failures.Load()), p.o.Name)
}
