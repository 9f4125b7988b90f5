package config

import "testing"

// TestKeepByDefault: failed messages stay in the queue that a pipeline reads, unless its blocks
// say where they go.
func TestKeepByDefault(t *testing.T) {
	t.Parallel()
	known := Known{Sources: []string{"queue", "stdin"}, Targets: []string{"stdout", "file", "silent"}, ReadQueue: map[string]string{"queue": "name"}}
	for _, row := range []struct {
		source, failures string
		want             bool
	}{
		{"queue", ``, true},
		{"queue", `failure_target {}`, true},
		{"queue", `failure_target { keep = true }`, true},
		{"queue", `failure_target { keep = false }`, false},
		{"queue", "failure_target {\n use \"stdout\" {}\n}", false},
		{"queue", "failure_target {\n spill = true\n use \"file\" {}\n}", false},
		{"stdin", ``, false},
		{"stdin", `failure_target {}`, false},
	} {
		text := "source {\n use \"" + row.source + "\" {}\n}\n" + row.failures
		for _, text := range []string{text, "pipeline \"p\" {\n" + text + "\n}"} {
			cfg, ds := ParseFiles([]File{{Name: "t.hcl", Src: []byte(text)}}, Options{Known: known})
			if ds.HasErrors() {
				t.Fatalf("%s: %v", text, ds)
			}
			if got := cfg.Plan().Pipelines[0].FailureTarget.Keep; got != row.want {
				t.Errorf("%s\nkeeps: %v, want %v", text, got, row.want)
			}
		}
	}
}
