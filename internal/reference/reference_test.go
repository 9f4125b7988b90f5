package reference

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/reference/testdata/fixture/bare"
	"github.com/weirdata/weir/internal/reference/testdata/fixture/wide"
)

// Update is set by go generate, and to rewrite the golden files in testdata.
var Update = flag.Bool("update", false, "write the generated and golden files")

const root = "../.."

var fixtures = connector.Set{
	Transforms: []connector.Entry[connector.Transform]{wide.Echo},
	Targets:    []connector.Entry[connector.Target]{wide.Target},
}

func built(t *testing.T) []Page {
	t.Helper()
	ps, err := Build(root, fixtures)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *Update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestPagesOfFixtures(t *testing.T) {
	t.Parallel()
	files, err := render(built(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs/reference/target-wide.md", "docs/reference/transform-echo.md", "docs/weir.schema.json", "internal/reference/reference.json"} {
		golden(t, filepath.Join("testdata", filepath.Base(name)+".golden"), files[name])
	}
}

func TestBuildNamesEverythingThatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := Build(root, connector.Set{Targets: []connector.Entry[connector.Target]{bare.Target}})
	if err == nil {
		t.Fatal("a connector without documentation passes")
	}
	for _, want := range []string{
		"bare.Config.Silent has no comment: say what the option does",
		`bare.Config.Half: its comment "No full stop" does not end as a sentence does`,
		`target bare: its summary "no sentence" is not a sentence`,
		"target bare says nothing of its stability",
		"blocks inside blocks without an end",
		"target bare has no example: open ",
		`internal/reference/testdata/fixture/bare/examples_minimal.hcl:3:5: error: unknown option: halve in use "bare"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

// TestGenerateWritesAndFindsStaleFiles runs the generator on a copy of the source.
func TestGenerateWritesAndFindsStaleFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, folder := range []string{"internal/config", "internal/connector", "internal/usertransform", "internal/trackingplan", "internal/enrich", "internal/reference/testdata/fixture/wide"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	generate := func(write bool) []string {
		t.Helper()
		stale, err := Generate(dir, fixtures, write)
		if err != nil {
			t.Fatal(err)
		}
		return stale
	}
	all := []string{
		"docs/reference/README.md", "docs/reference/config.md", "docs/reference/metrics.md", "docs/reference/stats_receiver-statsd.md", "docs/reference/target-wide.md",
		"docs/reference/transform-echo.md", "docs/weir.schema.json", "internal/reference/reference.json",
	}
	expect := func(step string, got, want []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: stale (-want +got):\n%s", step, diff)
		}
	}
	expect("nothing is there", generate(false), all)
	expect("still nothing is there", generate(true), all)
	expect("everything is fresh", generate(false), nil)

	edit := func(name, src string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("docs/reference/target-wide.md", "edited by hand")
	edit("docs/reference/target-gone.md", mark+"\n\nof a connector that is no more")
	edit("docs/reference/notes.md", "written by hand")
	changed := []string{"docs/reference/target-wide.md", "docs/reference/target-gone.md"}
	expect("two files are stale", generate(false), changed)
	expect("two files are stale", generate(true), changed)
	expect("they are fresh again", generate(false), nil)
	if _, err := os.Stat(filepath.Join(dir, "docs", "reference", "target-gone.md")); err == nil {
		t.Error("the page of a connector that is no more is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "docs", "reference", "notes.md")); err != nil {
		t.Error("a file that was written by hand is gone")
	}
}

func TestEveryDefinitionOfTheSchemaIsThere(t *testing.T) {
	t.Parallel()
	src, err := schema(built(t))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(src, &doc); err != nil {
		t.Fatal(err)
	}
	defs := doc["$defs"].(map[string]any)
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if r, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(r, "#/$defs/")
				used[name] = true
				if defs[name] == nil {
					t.Errorf("%s is not defined", r)
				}
			}
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(doc)
	for name := range defs {
		if !used[name] {
			t.Errorf("#/$defs/%s is not used", name)
		}
	}
}

func TestConfigPageCoversTheBlocks(t *testing.T) {
	t.Parallel()
	page := built(t)[0]
	for path, want := range map[string]Option{
		"source":                            {Type: "block", Scope: "pipeline"},
		"source.use":                        {Type: "use", Label: "name", Default: `use "stdin" {}`, Scope: "pipeline"},
		"transform.use":                     {Type: "uses", Label: "name", Scope: "pipeline"},
		"filter_target.use":                 {Type: "use", Label: "name", Default: `use "silent" {}`, Scope: "pipeline"},
		"retry.throttle.delay_ms":           {Type: "int", Default: "10000", Scope: "pipeline", Unit: "milliseconds", Plain: "delay"},
		"in_flight.bytes":                   {Type: "int", Default: "67108864", Scope: "pipeline"},
		"pipeline":                          {Type: "blocks", Label: "name"},
		"log_level":                         {Type: "string", Default: `"info"`},
		"admin.address":                     {Type: "string", Required: true},
		"sentry.tags":                       {Type: "string", Default: `"{}"`},
		"stats_receiver.use":                {Type: "use", Label: "name"},
		"monitoring.webhook.tags":           {Type: "map(string)", Default: "{}"},
		"monitoring.metadata_reporter":      {Type: "block"},
		"metrics.enable_e2e_latency":        {Type: "bool", Default: "false"},
		"stats_receiver.buffer_sec":         {Type: "int", Default: "60", Unit: "seconds", Plain: "buffer"},
		"monitoring.webhook.endpoint":       {Type: "string", Required: true},
		"failure_parser.format":             {Type: "string", Default: `"snowplow"`, Scope: "pipeline"},
		"retry.transient.invalid_after_max": {Type: "bool", Default: "false", Scope: "pipeline"},
		"monitoring.webhook.heartbeat_interval_seconds": {Type: "int", Default: "300", Unit: "seconds", Plain: "heartbeat_interval"},
	} {
		got, ok := page.Option(path)
		want.Path, want.Doc = path, got.Doc
		if !ok || got.Doc == "" {
			t.Errorf("%s is not documented", path)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestOptionPaths(t *testing.T) {
	t.Parallel()
	p := Page{Options: []Option{{Path: "a"}, {Path: "b", Type: "block"}, {Path: "b.c", Type: "int"}, {Path: "b.d", Type: "blocks"}, {Path: "b.d.e"}}}
	names := func(options []Option) string {
		var out []string
		for _, o := range options {
			out = append(out, o.Name())
		}
		return strings.Join(out, " ")
	}
	if got := []string{names(p.In("")), names(p.In("b")), names(p.In("b.d"))}; !slices.Equal(got, []string{"a b", "c d", "e"}) {
		t.Errorf("In = %q", got)
	}
	if o, ok := p.Option("b.d.e"); !ok || o.Block() != "b.d" || o.IsBlock() {
		t.Errorf("Option(b.d.e) = %+v, %v", o, ok)
	}
	if _, ok := p.Option("c"); ok {
		t.Error("there is an option c")
	}
}

func TestUnset(t *testing.T) {
	t.Parallel()
	for _, p := range built(t) {
		if p.Name != "wide" {
			continue
		}
		if got := Unset(p); len(got) > 0 {
			t.Errorf("the full example leaves out %q", got)
		}
		p.Full = "target {\n  use \"wide\" {\n    name = \"x\"\n    batching {}\n  }\n}\n"
		if got := Unset(p); slices.Contains(got, "name") || slices.Contains(got, "batching") || !slices.Contains(got, "batching.max_batch_bytes") || !slices.Contains(got, "frame") {
			t.Errorf("of a short example, unset are %q", got)
		}
	}
}
