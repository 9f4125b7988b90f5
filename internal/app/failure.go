package app

import (
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/snowplow"
)

// Artifact is the name failure payloads give their maker.
const Artifact = "weir"

// failures makes the payload of a failure target from a failed message.
type failures struct {
	rows       snowplow.BadRows
	forwarding bool
}

// Failures is the failure format with the given name: "snowplow" wraps an invalid message
// as a generic error, "event_forwarding" as an event forwarding error; a message that is
// too large is a size violation in both.
func Failures(format, version string) pipeline.FailureFormat {
	return failures{
		rows:       snowplow.BadRows{Artifact: Artifact, Version: version},
		forwarding: format == "event_forwarding",
	}
}

// Format implements pipeline.FailureFormat.
func (f failures) Format(x pipeline.Failure, limit int) ([]byte, error) {
	rows := f.rows
	rows.Limit = limit
	m := x.Message
	switch {
	case x.Oversized:
		return rows.SizeViolation(m.Times.Read, m.Data, x.Limit)
	case f.forwarding:
		return rows.ForwardingError(m.Times.Read, m.Raw(), m.Data, x.Cause)
	}
	return rows.GenericError(m.Times.Read, m.Data, x.Cause)
}
