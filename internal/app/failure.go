package app

import (
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/pipeline"
)

// Artifact is the name failure payloads give their maker.
const Artifact = failures.Artifact

// rows makes the payload of a failure target from a failed message.
type rows struct{ format failures.Format }

// Failures is the failure format with the given name: "snowplow" wraps an invalid message
// as a generic error, "event_forwarding" as an event forwarding error; a message that is
// too large is a size violation in both.
func Failures(format, version string) pipeline.FailureFormat {
	return rows{failures.Format{Artifact: Artifact, Version: version, Forwarding: format == "event_forwarding"}}
}

// Format implements pipeline.FailureFormat.
func (r rows) Format(x pipeline.Failure, limit int) ([]byte, error) {
	m := x.Message
	if x.Oversized {
		return r.format.Oversized(m.Times.Read, m.Data, x.Limit, limit)
	}
	return r.format.Invalid(m.Times.Read, m.Raw(), m.Data, x.Cause, limit)
}
