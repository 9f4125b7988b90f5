package partition

import "github.com/weirdata/weir/internal/queue"

// Hold has the jobs that pauses name stay in their queues from now on, and all others be handed
// out. What is leased stays so.
func (p *Partition) Hold(pauses *queue.Pauses) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pauses == pauses {
		return
	}
	p.pauses = pauses
	now := p.now()
	for _, l := range p.lanes {
		was := l.held
		if l.held = pauses.Hold(l.queue, l.scope); was && !l.held {
			p.offer(l, now)
		}
	}
	p.arm(now)
}
