package queuesource

import (
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/lease"
	"github.com/weirdata/weir/internal/runs"
)

var _ connector.Informed = (*Source)(nil)

// Informs implements connector.Informed.
func (s *Source) Informs() bool { return s.runs != nil }

// status counts what becomes of one read's jobs that runs have sent. A nil one counts nothing.
type status struct {
	book  *runs.Book
	stage string
	jobs  map[queue.ID]*queue.Job
	why   map[queue.ID]error // of jobs that are given up
}

// statusOf is the status of jobs; nil where no run has sent one. Those of a run that was cancelled are refused.
func (s *Source) statusOf(jobs []queue.Job) *status {
	if s.runs == nil {
		return nil
	}
	var st *status
	for i := range jobs {
		if !runs.Named(jobs[i].Msg) {
			continue
		}
		if st == nil {
			st = &status{book: s.runs, stage: s.stage, jobs: make(map[queue.ID]*queue.Job, len(jobs)-i), why: map[queue.ID]error{}}
		}
		st.jobs[jobs[i].ID] = &jobs[i]
		if s.runs.Cancelled(jobs[i].Msg.Meta.Descriptor.JobRun) {
			jobs[i].Msg.Refuse(runs.ErrCancelled)
		}
	}
	return st
}

// failed notes why a job is given up, if r says that it is.
func (st *status) failed(r *queue.Result, why error) {
	if st != nil && r.Verdict == queue.Dead {
		st.why[r.ID] = why
	}
}

// beside counts the results of a transaction in it.
func (st *status) beside() lease.Beside {
	if st == nil {
		return nil
	}
	return func(tx queue.Tx, rs []queue.Result) error {
		ends := make([]runs.End, 0, len(rs))
		for i := range rs {
			j := st.jobs[rs[i].ID]
			if j == nil || rs[i].Verdict == queue.Again {
				continue
			}
			why := st.why[rs[i].ID]
			if why == nil {
				why = j.Msg.Refused()
			}
			ends = append(ends, runs.End{Job: j, Why: why})
		}
		return st.book.Ended(tx, st.stage, ends)
	}
}
