package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestExplain: what a config stands for, written out, means the same, and is what stands beside it;
// written out again it stays as it is.
func TestExplain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"shop", "hooks", "spaces"} {
		files := readAll(t, filepath.Join("testdata", "explained", name+".hcl"))
		out, ds := config.Explain(files, os.LookupEnv)
		if ds != nil {
			t.Fatal(ds.Text())
		}
		golden(t, filepath.Join("testdata", "explained", name+".explained"), out[0].Src)
		if got, want := meaning(t, out), meaning(t, files); got != want {
			t.Errorf("%s: written out it means\n%s\nand means\n%s", name, got, want)
		}
		again, ds := config.Explain(out, os.LookupEnv)
		if ds != nil || !bytes.Equal(again[0].Src, out[0].Src) {
			t.Errorf("%s: written out twice: %v\n%s", name, ds, again[0].Src)
		}
	}
}

// meaning is the queues and pipelines of a config, without their places.
func meaning(t *testing.T, files []config.File) string {
	t.Helper()
	c, ds := config.ParseFiles(files, config.Options{})
	if ds.HasErrors() {
		t.Fatal(ds.Text())
	}
	var b strings.Builder
	for _, q := range c.Queues {
		fmt.Fprintln(&b, "queue", q.Name)
	}
	for _, w := range c.Workspaces {
		text, err := w.Document()
		fmt.Fprintln(&b, "workspace", w.Name, w.Config, string(text), err)
	}
	for _, p := range c.Pipelines {
		bounds, err := json.Marshal([]any{p.Name, p.Routing, p.Transform.WorkerPool, p.Throttle, p.InFlight, p.Retry})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", bounds, p.Shape())
		for i, r := range p.Targets {
			fmt.Fprintln(&b, i, r.Name, r.When)
		}
		for _, u := range p.Uses() {
			fmt.Fprint(&b, u)
			for _, a := range []string{"name", "isolation", "ordered", "max_batch_messages", "workspace_config", "workspace", "address", "path", "jq_command"} {
				v, there := u.Attribute(a)
				fmt.Fprint(&b, " ", a, v, there)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

// TestCollectBad: what is wrong with a collect block is said where it is wrong.
func TestCollectBad(t *testing.T) {
	t.Parallel()
	_, ds := config.ParseFiles(readAll(t, filepath.Join("testdata", "explained", "bad.hcl")), config.Options{})
	golden(t, filepath.Join("testdata", "explained", "bad.txt"), []byte(ds.Text()))
}
