package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestBad holds every mistake against the diagnostics users get for it: NAME.bad.hcl, or
// a directory NAME.bad of several files, beside NAME.bad.txt.
func TestBad(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/bad/*.bad*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range paths {
		if filepath.Ext(path) == ".txt" {
			continue
		}
		n++
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			files := readAll(t, path)
			_, _, ds := load(files)
			if !ds.HasErrors() {
				t.Errorf("%s is accepted", path)
			}
			golden(t, strings.TrimSuffix(path, ".hcl")+".txt", []byte(ds.Text()))
		})
	}
	if n < 40 {
		t.Errorf("%d bad configs, want at least 40", n)
	}
}

// TestGood holds configs against what they mean: NAME.hcl, or a directory, beside
// NAME.json, with warnings in NAME.warnings.txt.
func TestGood(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join("testdata", e.Name())
		other := e.Name() == "bad" || e.Name() == "dialects" || e.Name() == "fuzz" || e.Name() == "rapid" || e.Name() == "explained"
		if other || !e.IsDir() && filepath.Ext(path) != ".hcl" {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			c, decoded, ds := load(readAll(t, path))
			if ds.HasErrors() {
				t.Fatalf("refused:\n%s", ds.Text())
			}
			base := strings.TrimSuffix(path, ".hcl")
			golden(t, base+".json", dump(t, c, decoded))
			warnings := base + ".warnings.txt"
			if _, err := os.Stat(warnings); err == nil || len(ds) > 0 {
				golden(t, warnings, []byte(ds.Text()))
			}
		})
	}
}

// readAll reads a file, or the files of a directory, under short names.
func readAll(t *testing.T, path string) []config.File {
	t.Helper()
	paths := []string{path}
	if info, err := os.Stat(path); err != nil {
		t.Fatal(err)
	} else if info.IsDir() {
		paths, _ = filepath.Glob(filepath.Join(path, "*.hcl"))
	}
	var files []config.File
	for _, p := range paths {
		src, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, config.File{Name: filepath.Base(p), Src: src})
	}
	return files
}

// dump shows a config and its decoded components.
func dump(t *testing.T, c *config.Config, decoded []any) []byte {
	t.Helper()
	type use struct {
		Use, Position string
		Config        any
	}
	type route struct{ Name, When string }
	type pipeline struct {
		Name          string
		Routing       string  `json:",omitempty"`
		Routes        []route `json:",omitempty"`
		Uses          []use
		WorkerPool    int
		FailureParser *config.FailureParser
		Retry         *config.Retry
		DrainTimeout  string
		Ordered       bool
		InFlight      *config.InFlight
	}
	out := struct {
		Files     []string
		Pipelines []pipeline
		Process   map[string]any
	}{Files: c.Files, Process: map[string]any{
		"log_level": c.LogLevel, "log_format": c.LogFormat, "admin": c.Admin, "sentry": c.Sentry,
		"metrics": c.Metrics, "monitoring": c.Monitoring, "license": c.License,
		"user_provided_id": c.UserProvidedID, "disable_telemetry": c.DisableTelemetry,
		"stats_receiver": map[string]any{"buffer_sec": c.StatsReceiver.BufferSec, "timeout_sec": c.StatsReceiver.TimeoutSec, "statsd": c.StatsReceiver.Statsd},
	}}
	if c.Tracing != nil {
		out.Process["tracing"] = c.Tracing
	}
	for _, p := range c.Pipelines {
		o := pipeline{Name: p.Name, WorkerPool: p.Transform.WorkerPool, FailureParser: p.FailureParser, Retry: p.Retry,
			DrainTimeout: p.DrainTimeout().String(), Ordered: p.Ordered, InFlight: p.InFlight}
		if len(p.Targets) > 1 {
			o.Routing = p.Routing
			for _, r := range p.Targets {
				o.Routes = append(o.Routes, route{r.Name, r.Condition().String()})
			}
		}
		for _, u := range p.Uses() {
			o.Uses = append(o.Uses, use{Use: u.String(), Position: u.Position(), Config: decoded[0]})
			decoded = decoded[1:]
		}
		out.Pipelines = append(out.Pipelines, o)
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}
