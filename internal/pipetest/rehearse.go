package pipetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/tools/txtar"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/tap"
)

// rehearsalTime bounds a rehearsal.
const rehearsalTime = 20 * time.Second

// Rehearsal is what becomes of a message.
type Rehearsal struct {
	// Stopped is the transform that was not run, nor what comes after it, because it asks others.
	Stopped string
	// Steps are what each transform made of it, and Outputs what came to which target.
	Steps, Outputs []tap.Record
	// Difference is that between what was sent and what came out.
	Difference string
	// Case is a case that expects this.
	Case []byte
}

// Rehearse sends a message through a pipeline of cfg, and writes nothing: its own source and targets are
// not opened. A transform that asks others while it works is not run, nor what comes after it, unless
// calls allows it. paths are the files of the config, for the case.
func Rehearse(ctx context.Context, b *app.Builder, cfg *config.Config, name string, paths []string, m *event.Message, calls bool) (*Rehearsal, error) {
	p, ok := cfg.Pipeline(name)
	if !ok {
		return nil, fmt.Errorf("the config has no pipeline %q", name)
	}
	ctx, done := context.WithTimeout(ctx, rehearsalTime)
	defer done()
	one := *cfg
	one.Pipelines = []*config.Pipeline{p}
	sent := lineOf(m)
	r := recorder{input: []message{sent}, id: m.Meta.ID}
	hub := &tap.Hub{}
	all, _ := hub.Add(tap.Options{Pipeline: name, Unbounded: true})
	defer all.Leave()
	out := &Rehearsal{}
	b.Log, b.Version, b.Taps = slog.New(slog.DiscardHandler), "0.0.0", hub
	b.Wrap = func(parts *pipeline.Parts) {
		r.wrap(parts)
		parts.Overflow, parts.Throttle, parts.Process = pipeline.Sink{}, nil, nil
		for i, t := range parts.Transforms {
			if c, can := t.(connector.Caller); can && c.Calls() && !calls {
				out.Stopped = parts.Steps[i]
				parts.Transforms, parts.Steps = parts.Transforms[:i], parts.Steps[:i]
				break
			}
		}
	}
	built, found := b.Build(ctx, one.Plan())
	if built == nil {
		return nil, fmt.Errorf("the config cannot be used: %s", found.Text())
	}
	i := slices.IndexFunc(built.Pipelines, func(x app.Runner) bool { return x.Name() == name })
	if i < 0 {
		return nil, fmt.Errorf("nothing was made of the pipeline %q", name)
	}
	if err := built.Pipelines[i].Run(ctx); err != nil {
		return nil, fmt.Errorf("try the pipeline %q: %w", name, err)
	}
	for _, x := range all.Records() {
		switch {
		case x.Point == "source":
		case strings.HasPrefix(x.Point, "transform."):
			out.Steps = append(out.Steps, x)
		default:
			out.Outputs = append(out.Outputs, x)
		}
	}
	out.Difference = difference(m.Data, out.Outputs)
	got, err := r.result("")
	if err != nil {
		return nil, err
	}
	out.Case, err = caseOf(sent, name, paths, got)
	return out, err
}

func lineOf(m *event.Message) message {
	out := message{Data: string(m.Data), Key: m.Key, Headers: m.Meta.Headers}
	if s := m.Meta.Scope; s != nil {
		out.Workspace, out.Source, out.Destination = s.Workspace, s.Source, s.Destination
	}
	return out
}

// difference is that between a payload and what came of it, a line each with + or -; empty when there
// is none.
func difference(before []byte, outputs []tap.Record) string {
	var after bytes.Buffer
	for i := range outputs {
		after.Write(readable(outputs[i].Before.Data))
	}
	return string(diff.Diff("before", readable(before), "after", after.Bytes()))
}

// readable is a payload in lines: JSON with a line for each member, other text as it is.
func readable(data []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, data, "", "  ") != nil {
		b.Reset()
		b.WriteString(printable(data))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// caseOf is a case in which a message comes to what it came to.
func caseOf(sent message, name string, paths []string, got map[string]string) ([]byte, error) {
	var names strings.Builder
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("name the config: %w", err)
		}
		names.WriteString(abs + "\n")
	}
	if text := printable([]byte(sent.Data)); text != sent.Data {
		sent.Base64, sent.Data = []byte(sent.Data), ""
	}
	var in bytes.Buffer
	e := json.NewEncoder(&in)
	e.SetEscapeHTML(false)
	if err := e.Encode(sent); err != nil {
		return nil, fmt.Errorf("write the case: %w", err)
	}
	a := txtar.Archive{Comment: []byte("Expects what came of this message when it was saved. Change it to what should.\n" +
		"Variables of the environment that the config needs go into a file \"env\", as NAME=value.\n\n"),
		Files: []txtar.File{{Name: "config", Data: []byte(names.String())}, {Name: "pipeline", Data: []byte(name + "\n")}, {Name: "in.jsonl", Data: in.Bytes()}}}
	for _, file := range slices.Sorted(maps.Keys(got)) {
		if got[file] != "" && file != "out.jsonl" {
			a.Files = append(a.Files, txtar.File{Name: file, Data: []byte(got[file])})
		}
	}
	return txtar.Format(&a), nil
}
