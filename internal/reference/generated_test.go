package reference_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/reference"
)

// TestGeneratedFilesAreFresh fails when a config struct has changed and the files made
// from it have not. go generate runs it with -update, which writes them.
func TestGeneratedFilesAreFresh(t *testing.T) {
	t.Parallel()
	stale, err := reference.Generate("../..", all.Connectors(), *reference.Update)
	if err != nil {
		t.Fatal(err)
	}
	if *reference.Update {
		t.Logf("written: %q", stale)
		return
	}
	for _, path := range stale {
		t.Errorf("%s is stale: run go generate ./internal/reference", path)
	}
}

// TestOpenAPIIsFresh: the description of the API is of what is answered.
func TestOpenAPIIsFresh(t *testing.T) {
	t.Parallel()
	const file = "../../docs/openapi.json"
	want, err := reference.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *reference.Update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale (%v): run go generate ./internal/reference", file, err)
	}
}

// TestEveryConnectorHasItsPage looks things up as the commands do.
func TestEveryConnectorHasItsPage(t *testing.T) {
	t.Parallel()
	set := all.Connectors()
	for kind, names := range map[config.Kind][]string{
		config.KindSource: connector.Names(set.Sources), config.KindTransform: connector.Names(set.Transforms), config.KindTarget: connector.Names(set.Targets),
		config.KindStore: connector.Names(set.Stores),
	} {
		var got []string
		for _, p := range reference.Pages(string(kind)) {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, names) {
			t.Errorf("%s: pages %q, connectors %q", kind, got, names)
		}
	}
	for _, want := range [][2]string{{reference.KindConfig, "config"}, {reference.KindStatsReceiver, "statsd"}} {
		if _, ok := reference.Lookup(want[0], want[1]); !ok {
			t.Errorf("no page %s %s", want[0], want[1])
		}
	}
	if _, ok := reference.Lookup("target", "nowhere"); ok {
		t.Error("there is a page of the target nowhere")
	}
}

// TestExamplesAreOfToday keeps an example from being taken for one of an older form, of which its
// reader would be warned.
func TestExamplesAreOfToday(t *testing.T) {
	t.Parallel()
	pages, err := reference.Build("../..", all.Connectors())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		for _, text := range []string{p.Minimal, p.Full} {
			if _, ds := snowbridge.Convert("example.hcl", []byte(text)); len(ds) > 0 {
				t.Errorf("%s %s:\n%s", p.Kind, p.Name, ds.Text())
			}
		}
	}
}

// TestFullExamplesSetEveryOption keeps an option from existing without an example.
func TestFullExamplesSetEveryOption(t *testing.T) {
	t.Parallel()
	pages, err := reference.Build("../..", all.Connectors())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if p.Full == "" {
			continue
		}
		for _, path := range reference.Unset(p) {
			t.Errorf("%s %s: examples_full.hcl does not set %s", p.Kind, p.Name, path)
		}
	}
}
