package config

// Plan is what a config comes to: what one block stands for is written out. It is what runs.
type Plan struct {
	// Pipelines are those of the config. One whose failure target spills is followed by the
	// pipeline that takes its failed messages there.
	Pipelines []*Pipeline
}

// Plan is what c comes to.
func (c *Config) Plan() *Plan {
	p := &Plan{Pipelines: make([]*Pipeline, 0, len(c.Pipelines))}
	for _, one := range c.Pipelines {
		if one.FailureTarget.Spill {
			p.Pipelines = append(p.Pipelines, one.spilled()...)
			continue
		}
		p.Pipelines = append(p.Pipelines, one)
	}
	return p
}
