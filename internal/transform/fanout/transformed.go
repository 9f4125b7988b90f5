package fanout

import (
	"context"
	"slices"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/usertransform"
	"github.com/weirdata/weir/internal/workspace"
)

// Transformer is a Worker that takes the events for a destination through its transformation,
// those of a read together.
type Transformer struct{ *Worker }

// Reasons why a destination gets nothing of an event.
const (
	transformedAway = "user transformation has dropped it"
)

// way is the events of one source for one destination.
type way struct {
	source     *workspace.Source
	connection *workspace.Connection
	events     event.Batch
	of         []int // the message that each was made of
}

// Apply implements connector.Worker.
func (t *Transformer) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	o := t.ApplyAll(ctx, event.Batch{m})[0]
	return append(out, o.Out...), o.Err
}

// ApplyAll implements connector.BatchWorker.
func (t *Transformer) ApplyAll(ctx context.Context, b event.Batch) []connector.Outcome {
	outcomes := make([]connector.Outcome, len(b))
	var ways []*way
	by := map[*event.Scope]*way{}
	for i, m := range b {
		scope := m.Meta.Scope
		out, err := t.Worker.Apply(ctx, nil, m)
		outcomes[i] = connector.Outcome{Out: out, Err: err}
		for j, x := range out {
			if t.chosen[j].Destination.Transformation() == nil {
				continue
			}
			w := by[x.Meta.Scope]
			if w == nil {
				w = &way{source: t.file.Current().BySource(scope.Source), connection: t.chosen[j]}
				by[x.Meta.Scope], ways = w, append(ways, w)
			}
			w.events, w.of = append(w.events, x), append(w.of, i)
		}
	}
	for _, w := range ways {
		if w.source == nil {
			w.source = &workspace.Source{ID: w.connection.Scope.Source, Workspace: w.connection.Scope.Workspace}
		}
		results := t.engine.Run(ctx, t.file.Current(), w.source, w.connection, w.events, usertransform.Brief)
		for k, x := range w.events {
			made, why := t.become(w.connection, x, results[k])
			o := &outcomes[w.of[k]]
			at := slices.Index(o.Out, x)
			o.Out = slices.Replace(o.Out, at, at+1, made...)
			if len(made) == 0 {
				b[w.of[k]].LeaveOut(w.connection.Destination.ID, why)
			}
			if len(o.Out) == 0 {
				b[w.of[k]].Drop(why)
			}
		}
	}
	return outcomes
}

// become is what m became: what its destination takes of it, or m itself, unfinished. Without a
// message it says why there is none.
func (t *Transformer) become(c *workspace.Connection, m *event.Message, r usertransform.Result) (made event.Batch, why string) {
	if r.Err != nil {
		connector.Unfinished(m, r.Err)
		return event.Batch{m}, ""
	}
	why = transformedAway
	taken := r.Out[:0:0]
	for _, data := range r.Out {
		err := t.event.read(data)
		no := ""
		if err == nil {
			no, err = t.event.taken(c)
		}
		if err != nil {
			connector.Unfinished(m, invalid(err))
			return event.Batch{m}, ""
		}
		if no != "" {
			why = no
			continue
		}
		taken = append(taken, data)
	}
	switch len(taken) {
	case 0:
		return nil, why
	case 1:
		m.Replace(taken[0])
		return event.Batch{m}, ""
	}
	return m.Split(taken...), ""
}
