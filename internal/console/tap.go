package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/tap"
)

// tapped are the routes of listening to a pipeline.
func (c *Console) tapped() []api.Route {
	return []api.Route{{Method: "GET", Path: "/v1/pipelines", Right: api.See, Summary: "The pipelines, and the points at which they can be listened to", Answer: Points{}, Do: func(w http.ResponseWriter, _ *http.Request) {
		api.Answer(w, Points{c.o.Points()})
	}}, {Method: "GET", Path: "/v1/tap", Right: api.Payloads, Kind: "text/event-stream", Answer: tap.Record{}, Do: c.tap,
		Summary: "Messages at a point of a pipeline as they pass, for five minutes: server-sent events message, lost and end. Lossy: at most 100 messages and 1 MiB in a second",
		Query: []api.Parameter{
			{Name: "pipeline", Doc: "which"}, {Name: "point", Doc: "source, transform.N, target, target.NAME, filter_target, backup_target or failure_target; all when left out"},
			{Name: "every", Doc: "one message in so many"}, {Name: "when", Doc: "a condition as those of targets: the messages that it is true for"},
		}}}
}

// Points are where pipelines can be listened to.
type Points struct {
	Pipelines []PipelinePoints `json:"pipelines"`
}

// PipelinePoints are the points of one pipeline, in the order in which a message passes them.
type PipelinePoints struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is a point, and what people call it.
type Point struct {
	Point string `json:"point"`
	Label string `json:"label"`
}

// listening is what a request for a tap asks for.
func (c *Console) listening(r *http.Request) (o tap.Options, err error) {
	o.Pipeline, o.Point = r.FormValue("pipeline"), r.FormValue("point")
	var names []string
	for _, p := range c.o.Pipelines.Pipelines() {
		names = append(names, p.Name)
	}
	switch {
	case o.Pipeline == "" && len(names) == 1:
		o.Pipeline = names[0]
	case o.Pipeline == "":
		return o, fmt.Errorf("name one of the pipelines that run: %s", strings.Join(names, ", "))
	case !slices.Contains(names, o.Pipeline):
		return o, fmt.Errorf("no pipeline %q runs; those that do: %s", o.Pipeline, strings.Join(names, ", "))
	}
	if text := r.FormValue("every"); text != "" {
		if o.Every, err = strconv.Atoi(text); err != nil || o.Every < 1 {
			return o, fmt.Errorf("every is a number from 1 on, not %q", text)
		}
	}
	if text := r.FormValue("when"); text != "" {
		when, err := condition.Compile(text)
		if err != nil {
			return o, fmt.Errorf("when: %w", err)
		}
		e := condition.NewEvaluator() // the tap calls it for one message at a time
		o.Match = func(m *event.Message) bool {
			yes, err := e.True(when, m)
			return yes && err == nil
		}
	}
	return o, nil
}

// tap is the stream of a tap.
func (c *Console) tap(w http.ResponseWriter, r *http.Request) {
	o, err := c.listening(r)
	if err != nil {
		api.Refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	t, ok := c.o.Taps.Add(o)
	if !ok {
		w.Header().Set("Retry-After", "5")
		api.Refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d taps are open, and no more may be", tap.MaxTaps))
		return
	}
	defer t.Leave()
	c.o.Log.Info("somebody listens to a pipeline", meter.KeyPipeline, o.Pipeline, "point", o.Point, "by", api.WhoOf(r).String())
	out := streamTo(w, time.Now().Add(tap.MaxTime+heartbeat)) // one that takes nothing ends then, too
	end := time.NewTimer(tap.MaxTime)
	defer end.Stop()
	beat := time.NewTicker(tapBeat)
	defer beat.Stop()
	event := func(kind string, data any) {
		if err != nil {
			return
		}
		var b bytes.Buffer
		b.WriteString("event: " + kind + "\ndata: ")
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err = e.Encode(data); err == nil {
			b.WriteByte('\n')
			_, err = w.Write(b.Bytes())
		}
	}
	event("open", struct{}{})
	for err == nil {
		if err = out.Flush(); err != nil {
			return // who listened has gone
		}
		select {
		case <-r.Context().Done():
			return
		case <-c.ended:
			event("end", ended{"Weir is stopping"})
			_ = out.Flush()
			return
		case <-end.C:
			event("end", ended{fmt.Sprintf("a tap ends after %s", tap.MaxTime)})
			_ = out.Flush()
			return
		case x := <-t.C:
			event("message", x)
		case <-beat.C:
			if n := t.Lost(); n > 0 {
				event("lost", lost{n})
				continue
			}
			_, err = w.Write([]byte(": still here\n\n"))
		}
	}
}

// tapBeat is how often who listens is told what he lost.
const tapBeat = time.Second

type ended struct {
	Why string `json:"why"`
}

type lost struct {
	Messages int64 `json:"messages"`
}
