// Package pipetest runs a pipeline of a config on given input and compares what comes out
// with what is expected. It is the runner of `weir test`, and of the product's own cases.
//
// # Cases
//
// A case is one .txtar file: free text, then files between "-- name --" lines.
//
//	The text before the first file says what the case shows.
//	-- config.hcl --
//	transform {
//	  use "base64Decode" {}
//	}
//	-- in --
//	aGVsbG8=
//	-- out --
//	hello
//
// The files it may hold:
//
//	config.hcl    the config; or
//	config        paths of config files, one a line, relative to the case
//	pipeline      name of the pipeline to run, when the config has several
//	env           NAME=value lines: the only environment the config sees
//	in            input, one message a line
//	in.jsonl      input, one JSON object a line: data or base64, key, headers, and whose it
//	              is: workspace, source, destination
//	out           expected payloads at the target, one a line
//	out.jsonl     the same with key and headers, as in.jsonl
//	out.NAME      expected payloads at the target NAME, where the pipeline has several
//	filtered      expected payloads at the filter target
//	failed        expected payloads at the failure target
//	diagnostics   expected findings in the config, warnings included
//
// Any other file is written beside the config, so that a script_path finds it. What a
// case does not expect must not happen: without a "failed" file, a failed message fails
// the case. The config's own source and targets are not opened: input comes from the
// case, and targets collect, with the limits of the configured ones. Every message is
// read at 2026-01-01T00:00:00Z by version 0.0.0, so that failure payloads are the same
// each time.
package pipetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/tools/txtar"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/event"
)

// Case is one case file.
type Case struct {
	Path    string
	archive *txtar.Archive
}

// Find returns the cases at path: a .txtar file, or all of a directory, by name.
func Find(path string) ([]Case, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("find cases: %w", err)
	}
	paths := []string{path}
	if info.IsDir() {
		paths = nil
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(p, ".txtar") {
				paths = append(paths, p)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find cases: %w", err)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no .txtar cases in %s", path)
	}
	slices.Sort(paths)
	cases := make([]Case, 0, len(paths))
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			return nil, fmt.Errorf("read case %s: %w", p, err)
		}
		cases = append(cases, Case{Path: p, archive: a})
	}
	return cases, nil
}

// expectations are the files of a case that hold what should come out.
var expectations = []string{"out", "out.jsonl", "filtered", "failed", "diagnostics"}

// routed begins the name of an expectation for one of several targets.
const routed = "out."

// special are the files of a case that mean something to the runner.
var special = []string{"config", "pipeline", "env", "in", "in.jsonl"}

// Run runs the case and returns what differs from what it expects: nothing means passed.
// With update, the case file is rewritten to expect what came out.
func (c Case) Run(ctx context.Context, b app.Builder, update bool) (difference string, err error) {
	got, err := c.outcome(ctx, b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.Path, err)
	}
	if update {
		return "", c.update(got)
	}
	var all strings.Builder
	for _, name := range c.expectations(got) {
		want, expected := c.file(name)
		if !expected && (name == "out" && c.has("out.jsonl") || name == "out.jsonl") {
			continue
		}
		if d := diff.Diff(name+" (expected)", []byte(want), name+" (actual)", []byte(got[name])); len(d) > 0 {
			all.Write(d)
		}
	}
	return all.String(), nil
}

// expectations are the files that the case has or, by what came out, ought to have.
func (c Case) expectations(got map[string]string) []string {
	names := slices.Clone(expectations)
	for _, f := range c.archive.Files {
		if isExpectation(f.Name) && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func isExpectation(name string) bool {
	return slices.Contains(expectations, name) || strings.HasPrefix(name, routed)
}

func (c Case) file(name string) (string, bool) {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

func (c Case) has(name string) bool { _, ok := c.file(name); return ok }

// update makes the case expect what came out.
func (c Case) update(got map[string]string) error {
	for _, name := range c.expectations(got) {
		i := slices.IndexFunc(c.archive.Files, func(f txtar.File) bool { return f.Name == name })
		switch {
		case i >= 0:
			c.archive.Files[i].Data = []byte(got[name])
		case got[name] != "" && name != "out.jsonl" && !(name == "out" && c.has("out.jsonl")):
			c.archive.Files = append(c.archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	return os.WriteFile(c.Path, txtar.Format(c.archive), 0o644)
}

// outcome runs the case and returns what came out, by the names of expectations.
func (c Case) outcome(ctx context.Context, b app.Builder) (map[string]string, error) {
	dir, err := os.MkdirTemp("", "weir-test-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	paths, err := c.write(dir)
	if err != nil {
		return nil, err
	}
	input, err := c.input()
	if err != nil {
		return nil, err
	}
	cfg, found := config.Load(paths, b.Options(c.environment()))
	if cfg != nil {
		if err := c.choose(cfg); err != nil {
			return nil, err
		}
		r := recorder{input: input}
		b.Log, b.Version = slog.New(slog.DiscardHandler), "0.0.0"
		b.Wrap = r.wrap
		built, more := b.Build(ctx, cfg.Plan())
		found = append(found, more...)
		if built != nil {
			if err := built.Pipelines[0].Run(ctx); err != nil {
				return nil, err
			}
			return r.result(c.diagnostics(found, dir))
		}
	}
	return map[string]string{"diagnostics": c.diagnostics(found, dir)}, nil
}

// write puts the files of the case into dir and returns the paths of its config. A case
// that names config files of its own runs them where they are.
func (c Case) write(dir string) (paths []string, err error) {
	if list, ok := c.file("config"); ok {
		for p := range strings.FieldsSeq(list) {
			if !filepath.IsAbs(p) {
				p = filepath.Join(filepath.Dir(c.Path), p)
			}
			paths = append(paths, p)
		}
	}
	for _, f := range c.archive.Files {
		if slices.Contains(special, f.Name) || isExpectation(f.Name) {
			continue
		}
		if !filepath.IsLocal(f.Name) {
			return nil, fmt.Errorf("file %q is outside of the case", f.Name)
		}
		p := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			return nil, err
		}
		if filepath.Ext(f.Name) == ".hcl" {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("the case has neither a config.hcl nor a config file")
	}
	return paths, nil
}

// diagnostics is what was found, without the directory that the case was written to.
func (c Case) diagnostics(found config.Diagnostics, dir string) string {
	return strings.ReplaceAll(found.Text(), dir+string(filepath.Separator), "")
}

// choose leaves only the pipeline to run in cfg.
func (c Case) choose(cfg *config.Config) error {
	name, named := c.file("pipeline")
	name = strings.TrimSpace(name)
	if !named {
		if len(cfg.Pipelines) == 1 {
			return nil
		}
		return fmt.Errorf("the config has %d pipelines: add a file \"pipeline\" with the name of one", len(cfg.Pipelines))
	}
	p, ok := cfg.Pipeline(name)
	if !ok {
		return fmt.Errorf("the config has no pipeline %q", name)
	}
	cfg.Pipelines = []*config.Pipeline{p}
	return nil
}

// environment is the case's own; without an env file it is empty.
func (c Case) environment() func(string) (string, bool) {
	text, _ := c.file("env")
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			vars[name] = value
		}
	}
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// message is one line of in.jsonl and out.jsonl.
type message struct {
	Data    string        `json:"data,omitempty"`
	Base64  []byte        `json:"base64,omitempty"` // instead of data, for bytes that are no text
	Key     string        `json:"key,omitempty"`
	Headers event.Headers `json:"headers,omitempty"`

	Workspace   string `json:"workspace,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`

	at time.Time // it was read
}

func (c Case) input() ([]message, error) {
	var in []message
	if text, ok := c.file("in"); ok {
		for line := range strings.Lines(text) {
			in = append(in, message{Data: strings.TrimSuffix(line, "\n")})
		}
	}
	if text, ok := c.file("in.jsonl"); ok {
		n := 0
		for line := range strings.Lines(text) {
			var m message
			n++
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				return nil, fmt.Errorf("in.jsonl line %d: %w", n, err)
			}
			if m.Base64 != nil {
				m.Data = string(m.Base64)
			}
			in = append(in, m)
		}
	}
	if !c.has("in") && !c.has("in.jsonl") && !c.has("diagnostics") {
		return nil, errors.New("the case has no input: add a file \"in\" or \"in.jsonl\"")
	}
	return in, nil
}

// printable is a payload as a line of a case: bytes that are no text, or would break the
// line or look like the beginning of another file, are shown as base64.
func printable(data []byte) string {
	begins := bytes.HasPrefix(data, []byte("-- ")) && bytes.HasSuffix(bytes.TrimSpace(data), []byte("--")) // as a file of the case
	if utf8.Valid(data) && !bytes.ContainsAny(data, "\n\x00") && !begins {
		return string(data)
	}
	return "base64:" + base64.StdEncoding.EncodeToString(data)
}
