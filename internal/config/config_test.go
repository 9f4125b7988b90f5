package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
)

func parse(t *testing.T, src string) *config.Config {
	t.Helper()
	c, ds := config.Parse("weir.hcl", []byte(src), lookup)
	if ds.HasErrors() {
		t.Fatal(ds.Text())
	}
	return c
}

func TestNoFilesIsTheDefaultPipeline(t *testing.T) {
	t.Parallel()
	c, ds := config.Load(nil, config.Options{Env: lookup, Known: known, Older: snowbridge.Older})
	if len(ds) > 0 {
		t.Fatal(ds.Text())
	}
	var got []string
	for _, u := range c.Pipelines[0].Uses() {
		got = append(got, u.String())
		if err := u.Decode(&empty{}); err != nil {
			t.Errorf("decode %s: %v", u, err)
		}
	}
	want := []string{
		`pipeline "default", source "stdin"`, `pipeline "default", target "stdout"`,
		`pipeline "default", filter_target "silent"`, `pipeline "default", failure_target "stdout"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.Dir != "" || len(c.Files) != 0 || c.Pipelines[0].Source.Use.Position() != "" {
		t.Errorf("a config without files has the directory %q, the files %q and the position %q", c.Dir, c.Files, c.Pipelines[0].Source.Use.Position())
	}
	// A required option of a default component is missing without any place to show.
	if err := c.Pipelines[0].Targets[0].Use.Decode(newKafkaTarget()); err == nil || !strings.Contains(err.Error(), "brokers is required") {
		t.Errorf("decode of a target with required options: %v", err)
	}
}

func TestLoadReadsDirectoriesInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, src string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b := write("conf/b.hcl", `log_level = "error"`)
	a := write("conf/a.hcl", "source {\n  use \"http\" {}\n}\n")
	write("conf/.hidden.hcl", "nonsense {")
	write("conf/notes.txt", "nonsense {")
	write("conf/sub.hcl/x.hcl", "nonsense {")
	extra := write("extra.conf", "ordered = true\n")

	c, ds := config.Load([]string{extra, filepath.Join(dir, "conf")}, config.Options{Env: lookup})
	if ds.HasErrors() {
		t.Fatal(ds.Text())
	}
	if diff := cmp.Diff([]string{extra, a, b}, c.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	p, ok := c.Pipeline(config.DefaultPipeline)
	if !ok || !p.Ordered || c.LogLevel != "error" || p.Source.Use.Name != "http" {
		t.Errorf("config is not what the three files say: %+v", c)
	}
	if c.Dir != dir || p.Source.Use.Dir() != filepath.Join(dir, "conf") {
		t.Errorf("directories: config %q, source %q", c.Dir, p.Source.Use.Dir())
	}
}

func TestLoadNamesFilesItCannotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.hcl")
	large := filepath.Join(dir, "large.hcl")
	none := filepath.Join(dir, "none")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, make([]byte, 9<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(none, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		paths []string
		want  string
	}{
		{[]string{filepath.Join(dir, "missing.hcl")}, filepath.Join(dir, "missing.hcl") + ": error: cannot be read: no such file or directory"},
		{[]string{none}, none + ": error: the directory holds no file whose name ends in .hcl"},
		{[]string{file, dir + "/./a.hcl"}, dir + "/./a.hcl: error: the file is given twice"},
		{[]string{large}, large + ": error: cannot be read: it has 9437184 bytes, and at most 8388608 are read"},
	} {
		c, ds := config.Load(tt.paths, config.Options{Env: lookup})
		if c != nil || !strings.HasPrefix(ds.Text(), tt.want+"\nfix: ") {
			t.Errorf("Load(%q) = %v, %q; want %q", tt.paths, c, ds.Text(), tt.want)
		}
	}
	if _, ds := config.Parse("x.hcl", make([]byte, 9<<20), lookup); !strings.Contains(ds.Text(), "at most 8388608 are read") {
		t.Errorf("a file of 9 MiB in memory: %q", ds.Text())
	}
}

func TestEnvironmentOfTheProcessIsTheDefault(t *testing.T) {
	t.Setenv("WEIR_TEST_LEVEL", "panic")
	c, ds := config.Parse("x.hcl", []byte(`log_level = env.WEIR_TEST_LEVEL`), nil)
	if ds.HasErrors() || c.LogLevel != "panic" {
		t.Errorf("log_level = %v; %s", c, ds.Text())
	}
}

func TestDiagnosticsAsErrorAndJSON(t *testing.T) {
	t.Parallel()
	c, ds := config.ParseFiles([]config.File{{Name: "weir.hcl", Src: []byte("stats_receiver {\n  timeout_sec = 1\n}\nlog_level = \"warn\"\n")}}, config.Options{Env: lookup, Older: snowbridge.Older})
	if c != nil {
		t.Error("a config with an error is returned")
	}
	err := fmt.Errorf("check: %w", ds.Err())
	var found config.Diagnostics
	if !errors.As(err, &found) || len(found.Errors()) != 1 || len(found.Warnings()) != 1 {
		t.Fatalf("errors.As finds %v", found)
	}
	golden(t, "testdata/diagnostics.json.golden", ds.JSON())
	var back []config.Diagnostic
	if err := json.Unmarshal(ds.JSON(), &back); err != nil || len(back) != 2 {
		t.Errorf("JSON form: %v", err)
	}
	if ds.Warnings().Err() != nil {
		t.Error("warnings alone are an error")
	}
	if got := string(config.Diagnostics(nil).JSON()); got != "[]\n" {
		t.Errorf("JSON form of no diagnostics: %q", got)
	}
}

func TestDiagnosePlacesErrorsAtTheUse(t *testing.T) {
	t.Parallel()
	c := parse(t, `
target {
  use "kafka" {
    brokers       = "b"
    topic_name    = "t"
    sasl_password = "not-for-logs"
  }
}
`)
	u := c.Pipelines[0].Targets[0].Use
	if ds := u.Diagnose(nil); ds != nil {
		t.Errorf("Diagnose(nil) = %v", ds)
	}
	got := u.Diagnose(errors.New("dial as joe/not-for-logs via http://joe:pw-in-url@x: refused"))
	want := `weir.hcl:3:3: error: pipeline "default", target "kafka": dial as joe/(hidden) via http://joe:(hidden)@x: refused
    3 |   use "kafka" {
      |   ^^^^^^^^^^^
`
	if diff := cmp.Diff(want, got.Text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := u.Diagnose(fmt.Errorf("build: %w", got)); !cmp.Equal(again.Text(), got.Text()) {
		t.Errorf("Diagnose of diagnostics: %s", again.Text())
	}
}

func TestDecodeWantsAPointerToAStruct(t *testing.T) {
	t.Parallel()
	u := parse(t, "").Pipelines[0].Targets[0].Use
	for _, into := range []any{nil, empty{}, new(int), (*empty)(nil)} {
		if err := u.Decode(into); err == nil || !strings.Contains(err.Error(), "want a pointer to a struct") {
			t.Errorf("Decode(%T) = %v", into, err)
		}
	}
}

// withRaw has the fields that gohcl fills without a value: they are left to the connector.
type withRaw struct {
	Value connector.Batching `hcl:"batching,block"`
	List  []responseRule     `hcl:"rule,block"`
	Count *int               `hcl:"count,optional"`
}

func TestDecodeValueBlocksSlicesAndPointers(t *testing.T) {
	t.Parallel()
	u := parse(t, `
target {
  use "x" {
    batching {
      max_batch_messages = 3
    }
    rule {
      type = "a"
    }
    rule {
      type       = "b"
      http_codes = []
    }
    count = 7
  }
}
`).Pipelines[0].Targets[0].Use
	got := withRaw{Value: connector.Batching{MaxBatchBytes: 9}}
	if err := u.Decode(&got); err != nil {
		t.Fatal(err)
	}
	seven := 7
	want := withRaw{
		Value: connector.Batching{MaxBatchMessages: 3, MaxBatchBytes: 9},
		List:  []responseRule{{Type: "a", Codes: []int{500}}, {Type: "b", Codes: []int{}}},
		Count: &seven,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A block whose field is a struct is required.
	u = parse(t, "target {\n  use \"x\" {}\n}\n").Pipelines[0].Targets[0].Use
	if err := u.Decode(&withRaw{}); err == nil || !strings.Contains(err.Error(), "a batching block is required") {
		t.Errorf("without the block: %v", err)
	}
}

func TestNullIsTheAbsenceOfAPointer(t *testing.T) {
	t.Parallel()
	u := parse(t, "target {\n  use \"x\" {\n    batching {}\n    count = null\n  }\n}\n").Pipelines[0].Targets[0].Use
	var got withRaw
	if err := u.Decode(&got); err != nil || got.Count != nil {
		t.Errorf("count = %v, %v", got.Count, err)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	c := parse(t, "monitoring {\n  webhook {\n    endpoint = \"http://x\"\n  }\n}\n")
	p := c.Pipelines[0]
	got := []string{
		p.DrainTimeout().String(), p.Retry.Transient.Delay().String(), p.Retry.Setup.Delay().String(), p.Retry.Throttle.Delay().String(),
		p.Retry.Setup.MaxDelay().String(), c.StatsReceiver.Buffer().String(), c.Monitoring.Webhook.Heartbeat().String(),
	}
	want := []string{"30s", "1s", "20s", "10s", "5m0s", "1m0s", "5m0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	c := parse(t, `
sentry {
  dsn  = "https://abc@sentry.example/1"
  tags = "{\"a\":\"b\"}"
}

stats_receiver {
  use "statsd" {
    address = "127.0.0.1:1"
    tags    = "{\"c\":\"d\"}"
  }
}
`)
	if diff := cmp.Diff(map[string]string{"a": "b"}, c.Sentry.TagMap()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"c": "d"}, c.StatsReceiver.Statsd.TagMap()); diff != "" {
		t.Error(diff)
	}
}

// TestWhoSaysWhenToGiveUp: where the config says nothing of it, messages of a queue are tried
// for hours; max_attempts or give_up_after_ms of a class decides for that class alone.
func TestWhoSaysWhenToGiveUp(t *testing.T) {
	t.Parallel()
	hours := func(cfg *config.Config) [3]bool {
		r := cfg.Pipelines[0].Retry
		return [3]bool{r.Transient.TryFor() >= time.Hour, r.Setup.TryFor() >= time.Hour, r.Throttle.TryFor() >= time.Hour}
	}
	for src, want := range map[string][3]bool{
		"": {true, true, true},
		"retry {\n  transient {\n    delay_ms = 10\n  }\n}":                                                           {true, true, true},
		"retry {\n  transient {\n    max_attempts = 5\n  }\n}":                                                        {false, true, true},
		"retry {\n  setup {\n    give_up_after_ms = \"10s\"\n  }\n  throttle {\n    invalid_after_max = true\n  }\n}": {true, false, true},
		"pipeline \"a\" {\n  retry {\n    throttle {\n      max_attempts = 1\n    }\n  }\n}":                          {true, true, false},
	} {
		if got := hours(parse(t, src)); got != want {
			t.Errorf("%s\nis tried for hours: %v, want %v", src, got, want)
		}
	}
}

// TestEnvironmentWithDefault: what is missing or empty stands for the text beside its name.
func TestEnvironmentWithDefault(t *testing.T) {
	t.Parallel()
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"SET": "debug", "EMPTY": ""}[name]
		return v, ok
	}
	for expression, want := range map[string]string{
		`env("SET", "error")`:                  "debug",
		`env("EMPTY", "error")`:                "error",
		`env("NONE", "error")`:                 "error",
		`env("NONE", env("SET"))`:              "debug",
		`"${env("NONE", "war")}${"ning"}"`:     "warning",
		`env("NONE", env("EMPTY", env.SET))`:   "debug",
		`env("NONE") == "" ? "info" : env.SET`: "info",
	} {
		c, ds := config.Parse("test.hcl", []byte("log_level = "+expression), env)
		if err := ds.Err(); err != nil || c.Process.LogLevel != want {
			t.Errorf("%s is %q, want %q: %v", expression, c.Process.LogLevel, want, err)
		}
	}
	for _, wrong := range []string{`env("NONE", 1, 2)`, `env("A", "b", "c")`, `env()`, `env("A", null)`} {
		if _, ds := config.Parse("test.hcl", []byte("log_level = "+wrong), env); !ds.HasErrors() || !strings.Contains(ds.Text(), "env") {
			t.Errorf("%s: %s", wrong, ds.Text())
		}
	}
}
