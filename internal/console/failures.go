package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Failures is what has failed or died, wherever it rests.
type Failures interface {
	// Each calls fn with the chosen failures that come after a place of the list, in an order that
	// stays, until fn returns an error, which it returns. Only leaves out those of other places.
	Each(ctx context.Context, s failures.Selection, after Ref, only bool, fn func(*Found) error) error
	// Rehearse sends a message through a pipeline as the config is now, and writes nothing; calls
	// lets transforms ask others. It is what a failure would be sent as, where one is given.
	Rehearse(ctx context.Context, f *Found, pipeline string, m *event.Message, calls bool) (*Rehearsal, error)
	// Command is what replays rows that are in a place, on a command line.
	Command(place Ref, s failures.Selection) string
}

// Ref is where a failure is: a place, and its ID there.
type Ref struct {
	Place string `json:"p"`
	ID    string `json:"i"`
}

// String is r as it is passed on: opaque.
func (r Ref) String() string {
	if r == (Ref{}) {
		return ""
	}
	text, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func refOf(text string) (r Ref, err error) {
	if text == "" {
		return r, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil || r.Place == "" || r.ID == "" {
		return r, fmt.Errorf("%.100q is nothing that an answer had", text)
	}
	return r, nil
}

// Found is a failure, and where it is.
type Found struct {
	*failures.Failure
	Ref Ref
	// Where is its place as people call it, Queue the queue that is, Pipelines whose it may be, and
	// Machine whose execution it was.
	Where, Queue string
	Pipelines    []string
	Machine      string
	Dead         bool // a message that is dead in its queue, and no row
	Replayed     bool
}

// Pipeline is the pipeline that it failed in, where that is known.
func (f *Found) Pipeline() string {
	if f.Context.Pipeline != "" || len(f.Pipelines) != 1 {
		return f.Context.Pipeline
	}
	return f.Pipelines[0]
}

// Bounds of what one request looks at.
const (
	mostFailures = 100_000
	mostCauses   = 1000
	mostPage     = 500
	causeLength  = 200
)

func (c *Console) failed() []api.Route {
	choosing := []api.Parameter{{Name: "cause", Doc: "text in the cause, or /a regular expression/"}, {Name: "text", Doc: "text in the payload, for who may see payloads"},
		{Name: "pipeline", Doc: "that it failed in"}, {Name: "workspace", Doc: "whose"}, {Name: "source", Doc: "whose"}, {Name: "destination", Doc: "whose"},
		{Name: "message_id", Doc: "of the event"}, {Name: "since", Doc: "RFC 3339: read at or after"}, {Name: "until", Doc: "RFC 3339: read before"}}
	return []api.Route{
		{Method: "GET", Path: "/v1/failures", Right: api.See, Summary: "A page of what has failed or died, wherever it rests", Answer: FailurePage{}, Do: with(c.failureList),
			Query: append([]api.Parameter{{Name: "after", Doc: "next of the page before"}, {Name: "limit", Doc: "1 to 500, default 50"}}, choosing...)},
		{Method: "GET", Path: "/v1/failures/causes", Right: api.See, Summary: "The same by cause, the most frequent first", Query: choosing, Answer: FailureCauses{}, Do: with(c.failureCauses)},
		{Method: "GET", Path: "/v1/failures/{ref}", Right: api.See, Summary: "One failure whole; its payload for who may see it", Answer: WholeFailure{}, Do: with(c.failure)},
		{Method: "POST", Path: "/v1/rehearse", Right: api.Payloads, Summary: "Send a failure, or a message, through its pipeline as the config is now, without writing anything", Body: RehearseBody{}, Answer: Rehearsal{}, Do: with(c.rehearse)},
		{Method: "POST", Path: "/v1/failures/replay", Right: api.Operate, Summary: "Have dead messages wait again, or count them; and say what sends the others again", Body: ReplayBody{}, Answer: Replayed{}, Do: with(c.replay)},
	}
}

var (
	errNoFailure = errors.New("there is no such failure any more")
	errMayNot    = errors.New("this may not be done")
	errEnough    = errors.New("enough")
)

// mistake is one of who asks.
type mistake struct{ error }

func isMistake(err error) bool {
	_, is := errors.AsType[mistake](err)
	return is
}

// chosen are the failures that q chooses.
func (c *Console) chosen(r *http.Request, q *FailureQuery) (s failures.Selection, match func(*Found) bool, err error) {
	if q.Text != "" && api.WhoOf(r).Right < api.Payloads {
		return s, nil, fmt.Errorf("%w: searching in payloads needs the right \"payloads\"", errMayNot)
	}
	if s.Cause, err = failures.ParseCause(q.Cause); err != nil {
		return s, nil, mistake{err}
	}
	for _, x := range []struct {
		name, text string
		into       *time.Time
	}{{"since", q.Since, &s.Since}, {"until", q.Until, &s.Until}} {
		if x.text == "" {
			continue
		}
		if *x.into, err = time.Parse(time.RFC3339, x.text); err != nil {
			return s, nil, mistake{fmt.Errorf("%s is a time like 2026-01-31T12:00:00Z, not %q", x.name, x.text)}
		}
	}
	s.Pipeline = q.Pipeline
	for _, x := range []struct {
		axis  queue.Axis
		value string
	}{{queue.ByWorkspace, q.Workspace}, {queue.BySource, q.Source}, {queue.ByDestination, q.Destination}} {
		if x.value == "" {
			continue
		}
		if s.Scope == nil {
			s.Scope = make(map[queue.Axis]string, 3)
		}
		s.Scope[x.axis] = x.value
	}
	return s, func(f *Found) bool {
		return (q.Text == "" || strings.Contains(string(f.Payload), q.Text)) && (q.MessageID == "" || f.Context.ID == q.MessageID)
	}, nil
}

func queryOf(r *http.Request) *FailureQuery {
	v := r.URL.Query()
	return &FailureQuery{v.Get("cause"), v.Get("text"), v.Get("pipeline"), v.Get("workspace"), v.Get("source"), v.Get("destination"), v.Get("message_id"), v.Get("since"), v.Get("until")}
}

func lineOf(f *Found) FailureLine {
	s := f.Context.Scope
	return FailureLine{Ref: f.Ref.String(), ID: f.ID, Cause: f.Cause(), Where: f.Where, Pipeline: f.Pipeline(), Machine: f.Machine,
		Workspace: event.Text(s.Workspace), Source: event.Text(s.Source), Destination: event.Text(s.Destination), MessageID: event.Text(f.Context.ID),
		Time: f.Time, Died: f.Died, Attempts: f.Attempts, Dead: f.Failure.Dead, Replayed: f.Replayed, Size: f.Size()}
}

// each calls fn with what is chosen, up to a number of looks; cut says that there are more.
func (c *Console) each(r *http.Request, q *FailureQuery, after Ref, fn func(*Found) error) (cut bool, err error) {
	s, match, err := c.chosen(r, q)
	if err != nil {
		return false, err
	}
	looks := 0
	err = c.o.Failures.Each(r.Context(), s, after, false, func(f *Found) error {
		if looks++; looks > mostFailures {
			cut = true
			return errEnough
		}
		if !match(f) {
			return nil
		}
		return fn(f)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return cut, err
}

func (c *Console) failureList(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := limitOf(r, 50, mostPage)
	if err != nil {
		return nil, err
	}
	after, err := refOf(r.FormValue("after"))
	if err != nil {
		return nil, mistake{err}
	}
	out := FailurePage{Failures: []FailureLine{}}
	last := after
	cut, err := c.each(r, queryOf(r), after, func(f *Found) error {
		if len(out.Failures) == limit {
			out.Next = last.String()
			return errEnough
		}
		out.Failures, last = append(out.Failures, lineOf(f)), f.Ref
		return nil
	})
	if cut && out.Next == "" {
		out.Next = last.String()
	}
	return out, err
}

func (c *Console) failureCauses(_ http.ResponseWriter, r *http.Request) (any, error) {
	out := FailureCauses{Causes: []FailureCause{}}
	by := map[string]*FailureCause{}
	cut, err := c.each(r, queryOf(r), Ref{}, func(f *Found) error {
		out.Total++
		cause := strings.ToValidUTF8(f.Cause(), "\uFFFD")
		if runes := []rune(cause); len(runes) > causeLength {
			cause = string(runes[:causeLength]) + "…"
		}
		x := by[cause]
		if x == nil {
			if len(by) == mostCauses {
				out.Incomplete = true
				return nil
			}
			x = &FailureCause{Cause: cause, Oldest: f.Time, Sample: f.Ref.String()}
			by[cause] = x
		}
		x.Count++
		if f.Time.After(x.Newest) {
			x.Newest = f.Time
		}
		if f.Time.Before(x.Oldest) {
			x.Oldest = f.Time
		}
		if !slices.Contains(x.Where, f.Where) && len(x.Where) < 10 {
			x.Where = append(x.Where, f.Where)
		}
		return nil
	})
	for _, x := range slices.SortedFunc(maps.Values(by), func(a, b *FailureCause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	}) {
		out.Causes = append(out.Causes, *x)
	}
	out.Incomplete = out.Incomplete || cut
	return out, err
}

// find is the failure at a place.
func (c *Console) find(ctx context.Context, text string) (found *Found, err error) {
	ref, err := refOf(text)
	if err != nil || ref == (Ref{}) {
		return nil, mistake{cmp.Or(err, errNoFailure)}
	}
	err = c.o.Failures.Each(ctx, failures.Selection{IDs: map[string]bool{ref.ID: true}}, Ref{Place: ref.Place}, true, func(f *Found) error {
		found = f
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if found == nil {
		return nil, errNoFailure
	}
	return found, nil
}

func (c *Console) failure(_ http.ResponseWriter, r *http.Request) (any, error) {
	f, err := c.find(r.Context(), r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	out := WholeFailure{FailureLine: lineOf(f), Kind: string(f.Kind), Errors: f.Errors, Refusal: f.Refusal, Whole: !f.Cut, AsRead: f.AsRead || f.Dead}
	if out.Hidden = api.WhoOf(r).Right < api.Payloads; out.Hidden {
		return out, nil
	}
	out.Payload, out.Key = (*event.Payload)(&f.Payload), event.Text(f.Context.Key)
	if f.Latest != nil {
		out.Latest = (*event.Payload)(&f.Latest)
	}
	if m := f.Message; m != nil {
		out.Headers = m.Meta.Headers
	}
	return out, nil
}

func (c *Console) rehearse(w http.ResponseWriter, r *http.Request) (any, error) {
	var b RehearseBody
	if err := read(w, r, &b); err != nil {
		return nil, err
	}
	var f *Found
	var m *event.Message
	switch {
	case (b.Ref == "") == (b.Message == nil):
		return nil, mistake{errors.New("name a failure by its ref, or a pipeline and a message")}
	case b.Message != nil:
		m = b.Message.message()
	default:
		var err error
		if f, err = c.find(r.Context(), b.Ref); err != nil {
			return nil, err
		}
	}
	if b.Calls {
		if who := api.WhoOf(r); who.Right < api.Operate {
			return nil, fmt.Errorf("%w: letting transforms ask others needs the right \"operate\"", errMayNot)
		}
		c.o.Log.Info("an operator tries a message without writing, and lets transforms ask others", "by", api.WhoOf(r).String(), "ref", b.Ref, meter.KeyPipeline, b.Pipeline)
	}
	out, err := c.o.Failures.Rehearse(r.Context(), f, b.Pipeline, m, b.Calls)
	if err != nil {
		return nil, mistake{err}
	}
	return out, nil
}

func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return mistake{fmt.Errorf("the body cannot be read: %w", err)}
	}
	return nil
}

// replay has dead messages wait again. What is no dead message stays where it is: a process that
// runs it has its pipeline, and a second one through the same connectors is a command's.
func (c *Console) replay(w http.ResponseWriter, r *http.Request) (any, error) {
	var b ReplayBody
	if err := read(w, r, &b); err != nil {
		return nil, err
	}
	if b.FailureQuery == (FailureQuery{}) && !b.All && !b.DryRun {
		return nil, mistake{errors.New("nothing says which failures: give a filter, or say that all are meant")}
	}
	s, _, err := c.chosen(r, &b.FailureQuery)
	if err != nil {
		return nil, err
	}
	var out Replayed
	dead := map[string][]queue.ID{}
	cut, err := c.each(r, &b.FailureQuery, Ref{}, func(f *Found) error {
		if !f.Dead {
			out.Rows++
			if command := c.o.Failures.Command(f.Ref, s); !slices.Contains(out.Commands, command) && len(out.Commands) < 10 {
				out.Commands = append(out.Commands, command)
			}
			return nil
		}
		id, err := queue.ParseID(f.ID)
		if err != nil {
			return err
		}
		out.Dead++
		dead[f.Queue] = append(dead[f.Queue], id)
		return nil
	})
	if err != nil || b.DryRun {
		return out, err
	}
	if cut {
		return nil, mistake{fmt.Errorf("more than %d failures are to be looked at: choose fewer", mostFailures)}
	}
	err = c.raise(r, dead, &out)
	return out, err
}

func (c *Console) raise(r *http.Request, dead map[string][]queue.ID, out *Replayed) error {
	store, _, _ := c.o.Store()
	a, can := store.(queue.Admin)
	if !can && len(dead) > 0 {
		return errors.New("the store cannot list what is in a queue")
	}
	out.Dead = 0
	for name, ids := range dead {
		n, err := a.Requeue(r.Context(), queue.Search{Filter: queue.Filter{Queue: name}, State: queue.Buried, IDs: ids})
		out.Dead += n
		if n > 0 {
			c.o.Log.Info("an operator has dead messages wait again", "queue", name, "messages", n, "by", api.WhoOf(r).String())
		}
		if err != nil {
			return fmt.Errorf("queue %q: %w (%d messages wait again)", name, err, out.Dead)
		}
	}
	return nil
}
