package order

import (
	"errors"
	"slices"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/runs"
)

// errGivenUp is why an event of a job run failed that an operator has dropped or drained.
var errGivenUp = errors.New("given up by an operator")

// count has the status of job runs know of jobs that tx settles: those that are dropped or drained have
// failed, those that are moved have gone out, and come in where they go to.
func (o *Order) count(tx queue.Tx, s queue.Store, jobs []queue.Job) error {
	if !slices.ContainsFunc(jobs, func(j queue.Job) bool { return runs.Named(j.Msg) }) {
		return nil
	}
	book := runs.New(func() queue.Store { return s }, nil)
	stage, err := runs.StageOf(tx, o.Search.Queue)
	if err != nil {
		return err
	}
	if stage != "" {
		ends := make([]runs.End, len(jobs))
		for i := range jobs {
			ends[i].Job = &jobs[i]
			if o.Kind != Move {
				ends[i].Why = errGivenUp
			}
		}
		if err := book.Ended(tx, stage, ends); err != nil {
			return err
		}
	}
	if o.Kind != Move {
		return nil
	}
	if stage, err = runs.StageOf(tx, o.To); err != nil || stage == "" {
		return err
	}
	b := make(event.Batch, len(jobs))
	for i := range jobs {
		to := o.moved(&jobs[i], s.Now())
		m := *jobs[i].Msg
		m.Meta.Scope = &to.Scope
		b[i] = &m
	}
	return book.Appended(tx, stage, b)
}
