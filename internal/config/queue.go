package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/runs"
)

// Queue is a durable queue: the target of pipelines and the source of others.
type Queue struct {
	// Name of the queue, which sources and targets use. Letters, digits, "_", "-" and ".";
	// at most 64 characters.
	Name string `hcl:"name,label"`
	// Whether what is put into the queue keeps the order of messages with one key. Default: whether a
	// pipeline of this config reads it with ordered = true. Write it where another process, which
	// shares the store, reads it so: this one cannot know.
	Ordered bool `hcl:"ordered,optional"`
	// What the status of job runs, which a gateway with internal_endpoints answers, counts the messages
	// of the queue as: "sources", where events come from a gateway, or "destinations", where each is for
	// one of these. Default: they are not counted. The queues of a collect block are.
	JobStatus string `hcl:"job_status,optional"`

	doc    *document
	header hcl.Range
}

// Validate implements connector.Validator.
func (q *Queue) Validate() []connector.Problem {
	if q.JobStatus == "" || slices.Contains(runs.Stages, q.JobStatus) {
		return nil
	}
	return []connector.Problem{{Field: "job_status", What: fmt.Sprintf("job_status is \"sources\" or \"destinations\", not %q", q.JobStatus), Fix: "write one of them, or leave it out where nothing is counted"}}
}

// warn is a warning about q, at its block.
func (q *Queue) warn(what, fix string) Diagnostic {
	w := q.doc.errorAt(q.header, what, fix)
	w.Severity = Warning
	return w
}
