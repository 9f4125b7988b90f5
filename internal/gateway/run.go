package gateway

import (
	"bytes"

	"github.com/weirdata/weir/internal/jsontext"
)

// Runs of reverse-ETL jobs name themselves in headers, or in the context of the first event of a
// request, which counts before the headers.

var runMark = []byte("run_id")

// MayNameRun reports whether the first event of a body may say that a run sends it. It reads
// nothing: in doubt it may.
func MayNameRun(body []byte) bool {
	return bytes.Contains(body, runMark) || bytes.Contains(body, []byte(`\u00`))
}

// run reads the names of the run and its task in the context of an event; false when they are
// longer than what is kept.
func (w *writer) run(context []byte) bool {
	if len(context) == 0 || context[0] != '{' || !(bytes.Contains(context, runMark) || bytes.IndexByte(context, '\\') >= 0) {
		return true
	}
	sources := w.member(context, "sources")
	if len(sources) == 0 || sources[0] != '{' {
		return true
	}
	c := w.call
	if job := appendText(nil, w.member(sources, "job_run_id")); len(job) > 0 {
		c.jobRun = string(job)
	}
	if task := appendText(nil, w.member(sources, "task_run_id")); len(task) > 0 {
		c.taskRun = string(task)
	}
	return len(c.jobRun)+len(c.taskRun) <= maxRun
}

// member is the value of a member of an object; nil when there is none. Of several the last counts.
func (w *writer) member(object []byte, name string) (value []byte) {
	s := jsontext.Scan(object)
	w.scratch, _ = s.Object(w.scratch[:0])
	for i := range w.scratch {
		if m := &w.scratch[i]; string(m.Name(object)) == name {
			value = m.Of(object)
		}
	}
	return value
}
