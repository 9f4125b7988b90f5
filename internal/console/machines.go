package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Machines are those of the config that runs.
type Machines struct {
	Machines []MachineLine `json:"machines"`
}

// MachineLine is how a machine stands. Started and those that ended are counted since the process began.
type MachineLine struct {
	Name    string `json:"name"`
	Comment string `json:"comment,omitempty"`
	// ToStart is how many executions are to be started, Steps how many timers and tasks are open, and Dead
	// how many executions failed and are kept.
	ToStart   int64 `json:"to_start"`
	Steps     int64 `json:"steps"`
	Dead      int64 `json:"dead"`
	Started   int64 `json:"started"`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	TimedOut  int64 `json:"timed_out"`
	Aborted   int64 `json:"aborted"`
	// Keep is for how many seconds executions are kept after they ended.
	Keep float64 `json:"keep"`
}

// MachineGraph is a machine with its states.
type MachineGraph struct {
	MachineLine
	Queue string        `json:"queue"` // of executions that are to be started
	Graph *layout.Graph `json:"graph"`
	// Running is how many executions go on, and At how many threads of them are in each state. More says
	// that there are more than were looked at.
	Running int            `json:"running"`
	Waiting int            `json:"waiting"` // of these, for a time
	At      map[string]int `json:"at"`
	More    bool           `json:"more,omitempty"`
}

// ExecutionLine is an execution in a list.
type ExecutionLine struct {
	ID string `json:"id"`
	// Status is "running", "waiting" (for a time), "succeeded", "failed", "timed out" or "aborted".
	Status  string    `json:"status"`
	Started time.Time `json:"started,omitzero"`
	Stopped time.Time `json:"stopped,omitzero"`
	// States are those that it is in, or the one that it failed in.
	States []string `json:"states"`
	// Due is when it goes on, of one that waits; absent where that was not found.
	Due     time.Time `json:"due,omitzero"`
	Retries int       `json:"retries,omitempty"`
	Cause   string    `json:"cause,omitempty"`
	Events  uint64    `json:"events,omitempty"`
	// Job names one that failed, beside its id.
	Job     string `json:"job,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// ExecutionPage is a page of executions.
type ExecutionPage struct {
	Executions []ExecutionLine `json:"executions"`
	Next       string          `json:"next,omitempty"`
	// Undated says that there are more timers than were looked through: who waits may have no time.
	Undated bool `json:"undated,omitempty"`
}

// WholeExecution is an execution with the graph of the definition that it was started with.
type WholeExecution struct {
	ExecutionLine
	Graph *layout.Graph `json:"graph"`
	// Here are nodes of the graph that it is at, Passed those that it must have passed to be there, and
	// Perhaps those that it may have.
	Here    []string          `json:"here"`
	Passed  []string          `json:"passed"`
	Perhaps []string          `json:"perhaps"`
	Threads []ExecutionThread `json:"threads"`
	Hidden  bool              `json:"hidden,omitempty"` // who asks may not see what it holds
	Input   *event.Payload    `json:"input,omitempty"`
	Output  *event.Payload    `json:"output,omitempty"`
	Undated bool              `json:"undated,omitempty"`
}

// ExecutionThread is where an execution, a branch or an iteration of it is.
type ExecutionThread struct {
	State   string    `json:"state"`
	Depth   int       `json:"depth"`
	Branch  int       `json:"branch"` // -1 without one
	Phase   string    `json:"phase"`
	Entered time.Time `json:"entered,omitzero"`
	Retries int       `json:"retries,omitempty"`
	Count   int       `json:"count,omitempty"`
	Begun   int       `json:"begun,omitempty"`
	Left    int       `json:"left,omitempty"`
}

// Bounds of what one request looks at.
const (
	mostExecutions     = 10_000
	executionsPage     = 50
	mostExecutionsPage = 500
	machinePatience    = 5 * time.Second
)

func (c *Console) machines() []api.Route {
	return []api.Route{
		{Method: "GET", Path: "/v1/machines", Right: api.See, Summary: "The machines, and how many of their executions are where", Answer: Machines{}, Do: with(c.machineList)},
		{Method: "GET", Path: "/v1/machines/{machine}", Right: api.See, Summary: "A machine: its states as a graph, and how many executions are in each, of the first 10,000", Answer: MachineGraph{}, Do: with(c.machineGraph)},
		{Method: "GET", Path: "/v1/machines/{machine}/executions", Right: api.See, Answer: ExecutionPage{}, Do: with(c.executionList),
			Summary: "A page of executions: those that go on, wait for a time, failed, or ended and are kept",
			Query:   []api.Parameter{{Name: "status", Doc: "running (the default), waiting, failed or ended"}, {Name: "after", Doc: "next of the page before"}, {Name: "limit", Doc: "1 to 500, default 50"}}},
		{Method: "GET", Path: "/v1/machines/{machine}/executions/{execution}", Right: api.See, Answer: WholeExecution{}, Do: with(c.execution),
			Summary: "One execution on its graph, as far as that is recorded; its input and output for who may see payloads", Query: []api.Parameter{{Name: "job", Doc: "of one that failed"}}},
	}
}

func (c *Console) machine(r *http.Request) (*executor.Machine, error) {
	name := r.PathValue("machine")
	for _, m := range c.o.Machines() {
		if m.Name() == name {
			if s, _, _ := c.o.Store(); s == nil {
				return nil, errors.New("no store is open in this process")
			}
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: no machine %q runs", errNothing, name)
}

func (c *Console) machineLine(ctx context.Context, m *executor.Machine) (MachineLine, error) {
	n := m.Meter().Machine
	out := MachineLine{Name: m.Name(), Comment: m.Definition().Comment(), Started: n.Started.Load(), Succeeded: n.Ended[meter.Succeeded].Load(),
		Failed: n.Ended[meter.Failed].Load() + n.Ended[meter.Refused].Load(), TimedOut: n.Ended[meter.TimedOut].Load(), Aborted: n.Ended[meter.Aborted].Load(), Keep: m.Keeps().Seconds()}
	store, _, _ := c.o.Store()
	if store == nil {
		return out, nil
	}
	starts, err := store.Stats(ctx, queue.Filter{Queue: m.Starts()})
	if err != nil {
		return out, err
	}
	steps, err := store.Stats(ctx, queue.Filter{Queue: m.Steps()})
	out.ToStart, out.Dead, out.Steps = starts.Open(), starts.Dead, steps.Open()
	return out, err
}

func (c *Console) machineList(_ http.ResponseWriter, r *http.Request) (any, error) {
	out := Machines{Machines: []MachineLine{}}
	for _, m := range c.o.Machines() {
		line, err := c.machineLine(r.Context(), m)
		if err != nil {
			return nil, err
		}
		out.Machines = append(out.Machines, line)
	}
	return out, nil
}

func (c *Console) machineGraph(_ http.ResponseWriter, r *http.Request) (any, error) {
	m, err := c.machine(r)
	if err != nil {
		return nil, err
	}
	if err := c.turn(r.Context()); err != nil {
		return nil, err
	}
	defer func() { <-c.searches }()
	out := MachineGraph{Queue: m.Starts(), Graph: m.Definition().Drawing(), At: map[string]int{}}
	if out.MachineLine, err = c.machineLine(r.Context(), m); err != nil {
		return nil, err
	}
	out.Graph.Place()
	ctx, done := context.WithTimeout(r.Context(), machinePatience)
	defer done()
	err = m.Running(ctx, "", func(s *executor.Seen) bool {
		if out.Running == mostExecutions {
			out.More = true
			return false
		}
		out.Running++
		if s.Waits() {
			out.Waiting++
		}
		for i := range s.At {
			if t := &s.At[i]; t.Phase != phaseBranches {
				out.At[t.State]++
			}
		}
		return true
	})
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil {
		out.More, err = true, nil
	}
	return out, err
}

// phaseBranches is that of a thread whose branches or iterations are at work.
const phaseBranches = "branches"

func lineOfExecution(s *executor.Seen) ExecutionLine {
	out := ExecutionLine{ID: s.ID, Status: strings.ToLower(strings.ReplaceAll(s.Status.String(), "_", " ")), Started: s.Started, Stopped: s.Stopped, States: []string{},
		Due: s.Due, Cause: s.Cause, Events: s.Events, Job: s.Job, Trouble: s.Trouble}
	if s.Status == machine.Running && s.Waits() {
		out.Status = statusWaiting
	}
	if s.Place != "" {
		out.States = append(out.States, s.Place)
	}
	for i := range s.At {
		t := &s.At[i]
		out.Retries += t.Retries
		if t.Phase != phaseBranches && len(out.States) < mostStates {
			out.States = append(out.States, t.State)
		}
	}
	return out
}

const (
	statusWaiting = "waiting"
	mostStates    = 10 // of an execution in a list
)

func (c *Console) executionList(_ http.ResponseWriter, r *http.Request) (any, error) {
	m, err := c.machine(r)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(r, executionsPage, mostExecutionsPage)
	if err != nil {
		return nil, err
	}
	if err := c.turn(r.Context()); err != nil {
		return nil, err
	}
	defer func() { <-c.searches }()
	ctx, done := context.WithTimeout(r.Context(), machinePatience)
	defer done()
	p := pager{limit: limit}
	after := r.FormValue("after")
	switch status := r.FormValue("status"); status {
	case "", "running", statusWaiting:
		err = m.Running(ctx, after, func(s *executor.Seen) bool { return p.take(s, s.ID, status != statusWaiting || s.Waits()) })
	case "ended":
		err = m.Kept(ctx, after, func(s *executor.Seen) bool { return p.take(s, s.ID, true) })
	case "failed":
		var from queue.ID
		if after != "" {
			if from, err = queue.ParseID(after); err != nil {
				return nil, mistake{err}
			}
		}
		err = m.Failed(ctx, from, func(s *executor.Seen, id queue.ID) bool { return p.take(s, id.String(), true) })
	default:
		return nil, mistake{fmt.Errorf("status is running, waiting, failed or ended, not %q", status)}
	}
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil && p.last != "" {
		p.next, err = p.last, nil // it goes on where it has come to
	}
	if err != nil {
		return nil, err
	}
	out := ExecutionPage{Executions: []ExecutionLine{}, Next: p.next}
	all, err := m.Timers(r.Context(), p.found)
	if err != nil {
		return nil, err
	}
	out.Undated = !all
	for _, s := range p.found {
		out.Executions = append(out.Executions, lineOfExecution(s))
	}
	return out, nil
}

// pager collects a page of executions.
type pager struct {
	limit, looks int
	found        []*executor.Seen
	last, next   string
}

// take takes s where it is chosen; false once the page is full, or enough was looked at.
func (p *pager) take(s *executor.Seen, at string, chosen bool) bool {
	if len(p.found) == p.limit || p.looks == mostExecutions {
		p.next = p.last
		return false
	}
	p.looks++
	p.last = at
	if chosen {
		p.found = append(p.found, s)
	}
	return true
}

func (c *Console) execution(_ http.ResponseWriter, r *http.Request) (any, error) {
	m, err := c.machine(r)
	if err != nil {
		return nil, err
	}
	var job queue.ID
	if text := r.FormValue("job"); text != "" {
		if job, err = queue.ParseID(text); err != nil {
			return nil, mistake{err}
		}
	}
	s, err := m.Look(r.Context(), r.PathValue("execution"), job)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("%w: the machine %q has no execution %q (any more): one that succeeded leaves nothing, unless keep_ended_seconds says so", errNothing, m.Name(), r.PathValue("execution"))
	}
	all, err := m.Timers(r.Context(), []*executor.Seen{s})
	if err != nil {
		return nil, err
	}
	out := WholeExecution{ExecutionLine: lineOfExecution(s), Threads: []ExecutionThread{}, Here: []string{}, Passed: []string{}, Perhaps: []string{}, Undated: !all}
	if s.Definition != nil {
		out.Graph = s.Definition.Drawing()
		out.Graph.Place()
	}
	for _, t := range s.At {
		out.Threads = append(out.Threads, ExecutionThread(t))
	}
	out.way(s)
	if out.Hidden = api.WhoOf(r).Right < api.Payloads; out.Hidden {
		return out, nil
	}
	if s.Input != nil {
		out.Input = (*event.Payload)(&s.Input)
	}
	if s.Output != nil {
		out.Output = (*event.Payload)(&s.Output)
	}
	return out, nil
}

// way finds where s is on its graph, and how it came there.
func (out *WholeExecution) way(s *executor.Seen) {
	if out.Graph == nil {
		return
	}
	here := map[string]bool{}
	for i := range s.At {
		here["state/"+s.At[i].State] = true
	}
	if s.Place != "" {
		here["state/"+s.Place] = true
	}
	if s.Status == machine.Succeeded {
		here["end"] = true
	}
	passed, perhaps := out.Graph.Way("start", here)
	for i := range out.Graph.Nodes {
		switch id := out.Graph.Nodes[i].ID; {
		case here[id]:
			out.Here = append(out.Here, id)
		case passed[id]:
			out.Passed = append(out.Passed, id)
		case perhaps[id]:
			out.Perhaps = append(out.Perhaps, id)
		}
	}
}
