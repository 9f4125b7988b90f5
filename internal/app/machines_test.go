package app_test

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
)

// machineConfig writes the files of a config into a folder and builds it.
func machineConfig(t *testing.T, files map[string]string) (*app.Builder, *app.Built, config.Diagnostics, string) {
	t.Helper()
	dir := t.TempDir()
	b, built, found := machineConfigIn(t, dir, slog.New(slog.DiscardHandler), files)
	return b, built, found, dir
}

// machineConfigIn does so in a folder that is there.
func machineConfigIn(t *testing.T, dir string, log *slog.Logger, files map[string]string) (*app.Builder, *app.Built, config.Diagnostics) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b := &app.Builder{Set: all.Connectors(), Log: log, Version: "0"}
	cfg, found := config.Load([]string{filepath.Join(dir, "weir.hcl")}, b.Options(nil))
	if found.HasErrors() {
		return b, nil, found
	}
	built, found := b.Build(t.Context(), cfg.Plan())
	return b, built, found
}

// TestMachineDiagnostics: what is wrong with a definition or a function is found by check, at
// its place.
func TestMachineDiagnostics(t *testing.T) {
	t.Parallel()
	const config = `
machine "orders" {
  definition = "orders.asl.json"
}
function "Check" {
  script_path = "check.js"
}
pipeline "p" {
  target {
    use "machine" {
      name = "orders"
    }
  }
}
`
	good := map[string]string{"weir.hcl": config, "check.js": "function main(x) { return x }",
		"orders.asl.json": "{\"StartAt\":\"A\",\n\"States\":{\"A\":{\"Type\":\"Task\",\n\"Resource\":\"arn:aws:lambda:eu-west-1:1:function:Check\",\"End\":true}}}"}
	if _, _, found, _ := machineConfig(t, good); len(found) != 0 {
		t.Fatal(found.Text())
	}
	for _, row := range []struct{ name, file, old, new, want string }{
		{"unknown function", "orders.asl.json", "function:Check", "function:Chek", `orders.asl.json:3:12: error: there is no function "Chek"`},
		{"unknown service", "orders.asl.json", "arn:aws:lambda:eu-west-1:1:function:Check", "arn:aws:states:::sns:publish", "orders.asl.json:3:12: error: the resource"},
		{"bad target", "orders.asl.json", `"StartAt":"A"`, `"StartAt":"B"`, "orders.asl.json:1:12: error: StartAt"},
		{"missing definition", "weir.hcl", `"orders.asl.json"`, `"other.asl.json"`, "weir.hcl:3:16: error: read the definition"},
		{"missing script", "weir.hcl", `"check.js"`, `"chek.js"`, "weir.hcl:6:17: error: read the script"},
		{"bad script", "check.js", "function main", "function man", "weir.hcl:6:17: error: could not assert as function"},
		{"unknown machine", "weir.hcl", `name = "orders"`, `name = "order"`, `there is no machine "order"`},
	} {
		files := map[string]string{}
		maps.Copy(files, good)
		files[row.file] = strings.Replace(files[row.file], row.old, row.new, 1)
		_, _, found, _ := machineConfig(t, files)
		if !found.HasErrors() || !strings.Contains(found.Text(), row.want) {
			t.Errorf("%s: want %q\n%s", row.name, row.want, found.Text())
		}
	}
}

// TestMachineEnds: with stop_when_empty the process ends when every execution has, those that
// wait included; what failed is reported to who waits.
func TestMachineEnds(t *testing.T) {
	t.Parallel()
	b, built, found, dir := machineConfig(t, map[string]string{
		"weir.hcl": `
store {
  use "embedded" {
    path = "DIR/store"
  }
}
source {
  use "file" {
    path = "DIR/in.jsonl"
  }
}
target {
  use "machine" {
    name = "m"
    wait = true
  }
}
failure_target {
  use "file" {
    path = "DIR/failed.jsonl"
  }
}
machine "m" {
  definition      = "m.asl.json"
  stop_when_empty = true
}
function "Put" {
  target {
    use "directory" {
      path       = "DIR/out"
      name_field = "id"
    }
  }
}
`,
		"in.jsonl": "{\"id\":\"a\",\"ok\":true}\n{\"id\":\"b\",\"ok\":false}\n",
		"m.asl.json": `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":1,"Next":"C"},
			"C":{"Type":"Choice","Choices":[{"Variable":"$.ok","BooleanEquals":true,"Next":"P"}],"Default":"F"},
			"P":{"Type":"Task","Resource":"Put","End":true},"F":{"Type":"Fail","Error":"Bad","Cause":"not ok"}}}`,
	})
	if len(found) > 0 {
		t.Fatal(found.Text())
	}
	a := app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Run(ctx, built); err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	put, err := filepath.Glob(filepath.Join(dir, "out", "*"))
	if err != nil || len(put) != 1 || filepath.Base(put[0]) != "a.json" {
		t.Errorf("out has %v, %v", put, err)
	}
	failed, err := os.ReadFile(filepath.Join(dir, "failed.jsonl"))
	if err != nil || !strings.Contains(string(failed), "Bad: not ok") {
		t.Errorf("failed: %s, %v", failed, err)
	}
}
