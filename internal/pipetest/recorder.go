package pipetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/pipeline"
)

// readAt is when every message of a case is read.
var readAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// recorder takes the place of a pipeline's source and targets.
type recorder struct {
	input                  []message
	id                     string // of the messages, where they have one
	target, filter, failed sink
	routes                 []route // instead of target, where a pipeline has several
}

// route is one of several targets.
type route struct {
	name string
	sink *sink
}

func (r *recorder) wrap(p *pipeline.Parts) {
	p.Source = &source{input: r.input, id: r.id}
	p.Backup = pipeline.Sink{} // it gets what the case has
	p.Keep = false             // what would be kept in a queue is shown as it would go to a failure target
	// One writer and one batch at a time keep the order of the input.
	type ends struct {
		sink *pipeline.Sink
		to   *sink
	}
	all := []ends{{&p.Target, &r.target}, {&p.Filter, &r.filter}, {&p.Failure, &r.failed}}
	for i := range p.Routes {
		to := &r.target
		if len(p.Routes) > 1 {
			to = &sink{}
			r.routes = append(r.routes, route{p.Routes[i].Name, to})
		}
		all = append(all, ends{&p.Routes[i].Sink, to})
	}
	for _, s := range all {
		s.sink.Target = s.to
		s.sink.Limits.MaxConcurrentBatches = 1
		s.sink.Limits.Eager = true
		s.sink.Limits.Alone = nil
		s.sink.Middleware = nil
	}
}

// result is everything that came out, by the names of expectations.
func (r *recorder) result(diagnostics string) (map[string]string, error) {
	sinks := []*sink{&r.target, &r.filter, &r.failed}
	for _, x := range r.routes {
		sinks = append(sinks, x.sink)
	}
	for _, s := range sinks {
		slices.SortStableFunc(s.got, func(a, b message) int { return a.at.Compare(b.at) })
	}
	got := map[string]string{
		"out": r.target.lines(), "filtered": r.filter.lines(), "failed": r.failed.lines(), "diagnostics": diagnostics,
	}
	for _, x := range r.routes {
		got[routed+x.name] = x.sink.lines()
	}
	var err error
	got["out.jsonl"], err = r.target.json()
	return got, err
}

// source reads the input of a case, once.
type source struct {
	input []message
	id    string
	at    int // the message to read next
}

func (s *source) Open(context.Context) error  { return nil }
func (s *source) Close(context.Context) error { return nil }

func (s *source) Read(_ context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if s.at == len(s.input) {
		return nil, nil, io.EOF
	}
	most, bytes := room.Within(len(s.input)-s.at, math.MaxInt)
	var data [][]byte
	for _, m := range s.input[s.at:] {
		if len(data) == most || len(data) > 0 && len(m.Data) > bytes {
			break
		}
		data, bytes = append(data, []byte(m.Data)), bytes-len(m.Data)
	}
	b := event.NewBatch(readAt, data)
	for i := range b {
		m := &s.input[s.at+i]
		b[i].Key, b[i].Meta.Headers, b[i].Meta.ID = m.Key, m.Headers, s.id
		if scope := (event.Scope{Workspace: m.Workspace, Source: m.Source, Destination: m.Destination}); scope != (event.Scope{}) {
			b[i].Meta.Scope = &scope
		}
		b[i].Times.Read = readAt.Add(time.Duration(s.at + i)) // what comes out is put in this order
	}
	s.at += len(b)
	return b, nil, nil
}

// sink collects what is written to it.
type sink struct {
	mu  sync.Mutex
	got []message
}

func (s *sink) Open(context.Context) error  { return nil }
func (s *sink) Close(context.Context) error { return nil }

func (s *sink) Write(_ context.Context, b event.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range b {
		s.got = append(s.got, message{Data: string(m.Data), Key: m.Key, Headers: byName(m.Meta.Headers), at: m.Times.Read})
	}
	return nil
}

// byName is h in the order of names, so that what a case expects does not depend on the
// order in which headers were set. Those with one name stay in theirs.
func byName(h event.Headers) event.Headers {
	h = slices.Clone(h)
	slices.SortStableFunc(h, func(a, b event.Header) int { return strings.Compare(a.Name, b.Name) })
	return h
}

func (s *sink) lines() string {
	var b strings.Builder
	for _, m := range s.got {
		b.WriteString(printable([]byte(m.Data)))
		b.WriteByte('\n')
	}
	return b.String()
}

func (s *sink) json() (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	for _, m := range s.got {
		if text := printable([]byte(m.Data)); text != m.Data {
			m.Base64, m.Data = []byte(m.Data), ""
		}
		if err := e.Encode(m); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}
