package app

import (
	"context"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
)

// Artifact is the name failure payloads give their maker.
const Artifact = failures.Artifact

// rows makes the payload of a failure target from a failed message.
type rows struct {
	format   failures.Format
	records  bool
	pipeline string
}

// Failures is the failure format with the given name: "snowplow" wraps an invalid message
// as a generic error, "event_forwarding" as an event forwarding error; a message that is
// too large is a size violation in both. "firehose" makes failed records of all. The rows say that they are of the pipeline called
// name, where that is not empty.
func Failures(format, version, name string) pipeline.FailureFormat {
	return rows{failures.Format{Artifact: Artifact, Version: version, Forwarding: format == "event_forwarding"}, format == "firehose", name}
}

// Format implements pipeline.FailureFormat.
func (r rows) Format(x pipeline.Failure, limit int) ([]byte, error) {
	m := x.Message
	r.format.Context = failures.ContextOf(r.pipeline, m)
	if r.records {
		return r.format.Record(m, x.Cause, limit)
	}
	if x.Oversized {
		return r.format.Oversized(m.Times.Read, m.Data, x.Limit, limit)
	}
	return r.format.Invalid(m.Times.Read, m.Raw(), m.Data, x.Cause, limit)
}

// named is the name of the pipeline where a config has several; an only one need not be told from
// others.
func (a *assembly) named() string {
	written := 0
	for _, p := range a.plan.Pipelines {
		if p.FailuresOf() == nil {
			written++
		}
	}
	if written < 2 {
		return ""
	}
	return ownerOf(a.config)
}

// warnStranded tells of failures in the store that no pipeline of b takes to a failure
// target, because spill was taken out of the config, and returns their queues.
func (a *App) warnStranded(ctx context.Context, b *Built) (told map[string]bool) {
	a.mu.Lock()
	s := a.store
	a.mu.Unlock()
	if s == nil {
		return nil
	}
	told = map[string]bool{}
	for _, p := range b.Plan.Pipelines {
		name := config.FailureQueue(p.Name)
		if _, taken := b.Plan.Implied[name]; taken {
			continue
		}
		if st, err := s.Stats(ctx, queue.Filter{Queue: name}); err == nil && st.Open() > 0 {
			a.Log.Warn("failed messages wait in the store and nothing takes them to the failure target: set spill = true until they are gone",
				meter.KeyPipeline, p.Name, "queue", name, meter.KeyMessages, st.Open())
			told[name] = true
		}
	}
	return told
}

// fit has failures that spill made to fit the failure target that they come to in the end.
func fit(made []*assembly) {
	takers := map[string]connector.Limits{}
	for _, a := range made {
		if a.config.FailuresOf() != nil && len(a.parts.Transforms)+len(a.parts.Routes) == 0 {
			for _, q := range a.config.Upstream() {
				if l := a.parts.Target.Limits; tighter(l, takers[q]) {
					takers[q] = l
				}
			}
		}
	}
	for _, a := range made {
		if a.parts.Keep {
			continue
		}
		own := &a.parts.Failure.Limits
		if to := takers[a.config.FailureTarget.Use.Queue()]; tighter(to, *own) {
			own.MaxMessageBytes, own.Size = to.MaxMessageBytes, to.Size
		}
	}
}

// tighter reports whether a takes smaller messages only than b.
func tighter(a, b connector.Limits) bool {
	return a.MaxMessageBytes > 0 && (b.MaxMessageBytes == 0 || a.MaxMessageBytes < b.MaxMessageBytes)
}
