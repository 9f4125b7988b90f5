package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/config"
)

// TestDurationsWithUnits: an option that is a time takes a number of its unit, and a duration under
// its name with or without the unit.
func TestDurationsWithUnits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want time.Duration
	}{
		{`drain_timeout_ms = 1500`, 1500 * time.Millisecond},
		{`drain_timeout_ms = "1500"`, 1500 * time.Millisecond},
		{`drain_timeout_ms = "1.5s"`, 1500 * time.Millisecond},
		{`drain_timeout = "1.5s"`, 1500 * time.Millisecond},
		{`drain_timeout = "1m"`, time.Minute},
		{`drain_timeout = "1d2h"`, 26 * time.Hour},
		{`drain_timeout = env.WAIT`, 2 * time.Second},
		{`drain_timeout_ms = "${env.WAIT}"`, 2 * time.Second},
	} {
		cfg, ds := config.ParseFiles([]config.File{{Name: "x.hcl", Src: []byte(c.text + "\n")}}, config.Options{Env: func(name string) (string, bool) { return "2s", name == "WAIT" }})
		if ds.HasErrors() {
			t.Errorf("%s: %s", c.text, ds.Text())
			continue
		}
		if got := cfg.Pipelines[0].DrainTimeout(); got != c.want {
			t.Errorf("%s is %s, want %s", c.text, got, c.want)
		}
	}
}

// TestDurationsRefused: what is no time is refused with what to write.
func TestDurationsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`drain_timeout = 5`:                                    `drain_timeout_ms = 10 for milliseconds`,
		`drain_timeout = "soon"`:                               `drain_timeout = "10s"`,
		`drain_timeout_ms = "soon"`:                            `drain_timeout_ms = "10s"`,
		`drain_timeout_ms = "1.5us"`:                           `whole number of milliseconds`,
		"drain_timeout = \"1s\"\ndrain_timeout_ms = 4":         `are the same option`,
		`drain_timeout = "-1s"`:                                `at least 1`,
		"stats_receiver {\n  buffer = \"1500ms\"\n}":           `whole number of seconds`,
		"retry {\n  transient {\n    delay = \"x\"\n  }\n}":    `delay = "10s"`,
		"retry {\n  transient {\n    delayed = \"1s\"\n  }\n}": `unknown option: delayed`,
	} {
		_, ds := config.ParseFiles([]config.File{{Name: "x.hcl", Src: []byte(text + "\n")}}, config.Options{})
		if !ds.HasErrors() || !strings.Contains(ds.Text(), want) {
			t.Errorf("%s:\n%s\ndoes not say %q", text, ds.Text(), want)
		}
	}
}
