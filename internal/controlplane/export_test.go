package controlplane

import "context"

// Fetch asks once and applies the answer.
func (p *Poller) Fetch(ctx context.Context) error {
	_, err := p.fetch(ctx)
	return err
}
