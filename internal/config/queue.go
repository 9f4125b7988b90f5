package config

import "github.com/hashicorp/hcl/v2"

// Queue is a durable queue: the target of pipelines and the source of others.
type Queue struct {
	// Name of the queue, which sources and targets use. Letters, digits, "_", "-" and ".";
	// at most 64 characters.
	Name string `hcl:"name,label"`
	// Whether what is put into the queue keeps the order of messages with one key. Default: whether a
	// pipeline of this config reads it with ordered = true. Write it where another process, which
	// shares the store, reads it so: this one cannot know.
	Ordered bool `hcl:"ordered,optional"`

	doc    *document
	header hcl.Range
}

// warn is a warning about q, at its block.
func (q *Queue) warn(what, fix string) Diagnostic {
	w := q.doc.errorAt(q.header, what, fix)
	w.Severity = Warning
	return w
}
