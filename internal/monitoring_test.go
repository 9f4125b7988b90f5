package internal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/meter"
)

const monitoring = "../docs/monitoring"

var (
	alertLine   = regexp.MustCompile(`(?m)^      - alert: (\w+)$`)
	exprLine    = regexp.MustCompile(`(?m)^        expr: (".*")$`)
	headingLine = regexp.MustCompile(`(?m)^### (Weir\w+)$`)
	metricName  = regexp.MustCompile(`\b((?:weir|go|process)_\w+)(?:\{([^}]*)\})?`)
	labelled    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouped     = regexp.MustCompile(`(?:by|on) \(([^)]*)\)`)
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// expressions are those of the alert rules and of the dashboard.
func expressions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, m := range exprLine.FindAllStringSubmatch(document(t, "alerts.yml"), -1) {
		var e string
		if err := json.Unmarshal([]byte(m[1]), &e); err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		all = append(all, e)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(document(t, "dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, strings.ReplaceAll(target.Expr, "$instance", ".*"))
		}
	}
	if len(all) < 40 {
		t.Fatalf("only %d expressions were found: the test does not see them", len(all))
	}
	return all
}

// TestMonitoringNamesMetrics: what alert rules and dashboard ask for is a metric with these labels.
func TestMonitoringNamesMetrics(t *testing.T) {
	t.Parallel()
	// Of the Prometheus client; that they are there, the test of the whole process says.
	known := map[string][]string{
		"process_resident_memory_bytes": nil, "process_open_fds": nil, "process_max_fds": nil,
		"go_goroutines": nil, "go_memstats_heap_inuse_bytes": nil,
	}
	for _, d := range meter.Definitions() {
		known[d.Name] = d.Labels
		if d.Type == meter.TypeHistogram {
			known[d.Name+"_bucket"] = append(slices.Clone(d.Labels), "le")
		}
	}
	scrape := []string{"instance", "job"} // are added by who scrapes
	for _, e := range expressions(t) {
		labels := slices.Clone(scrape)
		for _, m := range metricName.FindAllStringSubmatch(e, -1) {
			have, is := known[m[1]]
			if !is {
				t.Errorf("%s\nasks for %s, which there is not", e, m[1])
			}
			have = append(slices.Clone(scrape), have...)
			labels = append(labels, have...)
			for _, s := range labelled.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(have, s[1]) {
					t.Errorf("%s\nselects %s by the label %s, which it has not", e, m[1], s[1])
				}
			}
		}
		for _, g := range grouped.FindAllStringSubmatch(e, -1) {
			for name := range strings.SplitSeq(g[1], ",") {
				if !slices.Contains(labels, strings.TrimSpace(name)) {
					t.Errorf("%s\ngroups by the label %s, which none of its metrics has", e, name)
				}
			}
		}
	}
}

// TestAlertsAreExplained: the page says of each alert what to do, and of no other.
func TestAlertsAreExplained(t *testing.T) {
	t.Parallel()
	names := func(of *regexp.Regexp, text string) (all []string) {
		for _, m := range of.FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		return all
	}
	rules, page, tests := names(alertLine, document(t, "alerts.yml")), document(t, "README.md"), document(t, "alerts_test.yml")
	headings := names(headingLine, page)
	if len(rules) == 0 || !slices.Equal(rules, headings) {
		t.Errorf("rules %v\nand what the page explains differ: %v", rules, headings)
	}
	for _, r := range rules {
		_, text, _ := strings.Cut(page, "### "+r+"\n\n")
		if first, _, _ := strings.Cut(text, "\n"); len(first) < 40 {
			t.Errorf("%s: the page does not say what to do: %q", r, first)
		}
		if !strings.Contains(tests, "- name: "+r+" fires\n") {
			t.Errorf("%s has no test in which it fires", r)
		}
	}
}

// TestPromtool: Prometheus takes the rules and every expression of the dashboard, and the tests
// of the rules pass.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := enginetest.Promtool(t)
	var all strings.Builder
	all.WriteString("groups:\n  - name: expressions\n    rules:\n")
	for i, e := range expressions(t) {
		quoted, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "      - record: expression_%d\n        expr: %s\n", i, quoted)
	}
	recorded := filepath.Join(t.TempDir(), "expressions.yml")
	if err := os.WriteFile(recorded, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", filepath.Join(monitoring, "alerts.yml")},
		{"check", "rules", "--lint-fatal", recorded},
		{"test", "rules", filepath.Join(monitoring, "alerts_test.yml")},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
