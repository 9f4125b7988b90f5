package snowbridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/config"
)

// The environment of the dialect fixtures.
var dialectEnvironment = map[string]string{
	"SCRIPT_B64": base64.StdEncoding.EncodeToString([]byte("function main(input) {\n  return input;\n}\n")),
	"HEADERS":    `{"Authorization":"Bearer s3cret-token","X-Team":"data"}`,
	"TOKEN":      "s3cret-token",
	"TIMEOUT":    "7",
	"WRITES":     "25",
	"SIZE":       "3000000",
	"NONE":       "0",
	"PASSWORD":   "s3cret-password",
}

func dialectLookup(name string) (string, bool) {
	v, ok := dialectEnvironment[name]
	return v, ok
}

// fataler is a test, or one check of a property.
type fataler interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// meaning is what a config says, as text: everything decoded, and of each component every
// value, whatever its connector.
func meaning(t fataler, name string, src []byte) string {
	t.Helper()
	c, ds := config.ParseFiles([]config.File{{Name: name, Src: src}}, config.Options{Older: Older, Env: dialectLookup})
	if ds.HasErrors() {
		t.Fatalf("%s is refused:\n%s\n%s", name, ds.Text(), src)
	}
	var b strings.Builder
	p := c.Process
	fmt.Fprintf(&b, "%v %v %v %v %+v %+v %+v\n", p.LogLevel, p.UserProvidedID, p.DisableTelemetry, p.StatsReceiver.BufferSec, p.StatsReceiver.TimeoutSec, p.StatsReceiver.Statsd, p.Sentry)
	for _, p := range c.Pipelines {
		fmt.Fprintf(&b, "pipeline %s: worker_pool %d, format %s\n", p.Name, p.Transform.WorkerPool, p.FailureParser.Format)
		for _, u := range p.Uses() {
			fmt.Fprintf(&b, "%s\n", u)
			if body, ok := u.Body.(*hclsyntax.Body); ok {
				valuesOf(t, &b, u, body, "  ")
			}
		}
	}
	return b.String()
}

func valuesOf(t fataler, b *strings.Builder, u *config.Use, body *hclsyntax.Body, indent string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		v, ds := u.Evaluate(body.Attributes[name].Expr)
		if ds.HasErrors() {
			t.Fatalf("%s", ds.Text())
		}
		if n, err := fits(v); err == nil {
			v = n
		}
		fmt.Fprintf(b, "%s%s = %#v\n", indent, name, v)
	}
	for _, block := range body.Blocks {
		fmt.Fprintf(b, "%s%s\n", indent, config.HeaderText(block))
		valuesOf(t, b, u, block.Body, indent+"  ")
	}
}

// fits makes a number of what can be one, as decoding does, and a map of an object.
func fits(v cty.Value) (cty.Value, error) {
	n, ok, _ := value{literalValue(v, noRange).expr, ""}.number()
	if !ok {
		return v, errors.New("it is no number")
	}
	return n, nil
}

var noRange = hcl.Range{Filename: "x", Start: hcl.InitialPos, End: hcl.InitialPos}

var update = flag.Bool("update", false, "rewrite the golden files in testdata, and docs/migrating.md")

func compareFile(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// dialectFiles are the fixtures in older forms.
func dialectFiles(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.old.hcl")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d fixtures, %v", len(paths), err)
	}
	return paths
}

// TestDialects holds each fixture NAME.old.hcl against what it is converted to, NAME.hcl,
// and what users are told, NAME.txt; and what it means against what that means.
func TestDialects(t *testing.T) {
	t.Parallel()
	for _, path := range dialectFiles(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".old.hcl")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, ds := Convert(name+".hcl", src)
			if ds.HasErrors() {
				t.Fatalf("refused:\n%s", ds.Text())
			}
			base := strings.TrimSuffix(path, ".old.hcl")
			compareFile(t, base+".hcl", text)
			compareFile(t, base+".txt", []byte(ds.Text()))
			if _, loaded := config.ParseFiles([]config.File{{Name: name + ".hcl", Src: src}}, config.Options{Older: Older, Env: dialectLookup}); loaded.Text() != ds.Text() {
				t.Errorf("loading says (-converting +loading):\n%s", cmp.Diff(ds.Text(), loaded.Text()))
			}
			convertsOnce(t, name+".hcl", src)
		})
	}
}

// convertsOnce asserts that a file and what it is converted to mean the same, and that
// converting that changes nothing.
func convertsOnce(t fataler, name string, src []byte) {
	t.Helper()
	text, ds := Convert(name, src)
	if ds.HasErrors() {
		t.Fatalf("%s is refused:\n%s", name, ds.Text())
	}
	if diff := cmp.Diff(meaning(t, name, src), meaning(t, name, text)); diff != "" {
		t.Errorf("the converted file means something else (-old +new):\n%s\n%s", diff, text)
	}
	again, _ := Convert(name, text)
	if !bytes.Equal(text, again) {
		t.Errorf("converting again changes (-once +twice):\n%s", cmp.Diff(string(text), string(again)))
	}
}

// TestDialectExamples holds the example of each dialect against the code.
func TestDialectExamples(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, d := range Dialects() {
		if names[d.Name] {
			t.Errorf("two dialects are called %q", d.Name)
		}
		names[d.Name] = true
		got, ds := Convert("x.hcl", []byte(d.Old))
		if ds.HasErrors() || len(ds) == 0 {
			t.Errorf("%s: %d diagnostics:\n%s", d.Name, len(ds), ds.Text())
		}
		if diff := cmp.Diff(d.New, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", d.Name, diff)
		}
		convertsOnce(t, "x.hcl", []byte(d.Old))
	}
}

// TestPresentFormsStay asserts that what is not old comes back as it is.
func TestPresentFormsStay(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"", "# only a comment", "target{\nuse   \"http\" {\n url=\"https://x/\"\n headers={a=\"b\"}\n }\n}",
		"\xef\xbb\xbflog_level=\"info\"\r\n",
		"target {\n  use \"http\" {\n    url = \"https://x/\"\n    oauth2_client_id = \"a\"\n    oauth2_token_url = \"https://x/t\"\n  }\n}\n",
		"transform {\n  use \"lua\" {\n    source_b64    = \"eA==\"\n    snowplow_mode = true\n  }\n}\n",
		"target {\n  use \"kafka\" {\n    enable_tls = false\n    cert_file = \"a\"\n    key_file = \"b\"\n  }\n}\n",
		"source {\n  use \"http\" {\n    url = \":8443\"\n    cert_file = \"a\"\n    key_file = \"b\"\n  }\n}\n",
	} {
		got, ds := Convert("x.hcl", []byte(src))
		if string(got) != src || len(ds) > 0 {
			t.Errorf("Convert(%q) = %q\n%s", src, got, ds.Text())
		}
	}
}

// TestConvertKeepsLineEnds asserts that a file from Windows stays one.
func TestConvertKeepsLineEnds(t *testing.T) {
	t.Parallel()
	for _, d := range Dialects() {
		src := "\xef\xbb\xbf" + strings.ReplaceAll(d.Old, "\n", "\r\n")
		want := "\xef\xbb\xbf" + strings.ReplaceAll(d.New, "\n", "\r\n")
		got, ds := Convert("x.hcl", []byte(src))
		if diff := cmp.Diff(want, string(got)); diff != "" || ds.HasErrors() {
			t.Errorf("%s (-want +got):\n%s\n%s", d.Name, diff, ds.Text())
		}
	}
}

// TestRefusedDialects holds old forms that cannot be read against what is said of them.
func TestRefusedDialects(t *testing.T) {
	t.Parallel()
	paths, _ := filepath.Glob("testdata/bad/*.old.hcl")
	if len(paths) < 5 {
		t.Fatalf("%d fixtures", len(paths))
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		c, ds := config.ParseFiles([]config.File{{Name: name, Src: src}}, config.Options{Older: Older, Env: dialectLookup})
		if c != nil || !ds.HasErrors() {
			t.Errorf("%s is read", name)
		}
		compareFile(t, strings.TrimSuffix(path, ".old.hcl")+".txt", []byte(ds.Text()))
		if text, ds := Convert(name, src); text != nil || !ds.HasErrors() {
			t.Errorf("%s is converted", name)
		}
		if strings.Contains(ds.Text(), "s3cret") {
			t.Errorf("%s: a secret is shown:\n%s", name, ds.Text())
		}
	}
}

// TestDialectsTogether draws parts of several fixtures into one file, in pipelines of
// their own, and asserts that it means what it is converted to.
func TestDialectsTogether(t *testing.T) {
	t.Parallel()
	var sources []string
	for _, d := range Dialects() {
		if !strings.HasPrefix(d.Old, "stats_receiver") && d.Name != tlsDialect.Name { // that is the process's
			sources = append(sources, d.Old)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "pipelines")
		var file strings.Builder
		for i := range n {
			src := rapid.SampledFrom(sources).Draw(t, "fixture")
			name := fmt.Sprintf("p%d", i)
			if !strings.Contains(src, "source {") {
				src = "source {\n  use \"http\" {\n    url = \"127.0.0.1:0\"\n  }\n}\n" + src
			}
			src = strings.ReplaceAll(src, `use "stdin"`, `use "pubsub"`)
			if rapid.Bool().Draw(t, "one line") {
				src = strings.ReplaceAll(src, "\n\n", "\n")
			}
			if rapid.Bool().Draw(t, "commented") {
				src = commented(src)
			}
			fmt.Fprintf(&file, "pipeline %q {\n%s}\n", name, src)
		}
		convertsOnce(t, "x.hcl", []byte(file.String()))
	})
}

// commented puts a comment above and behind each option outside of heredocs.
func commented(src string) string {
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(src, "\n"), "\n") {
		if strings.Contains(line, " = ") && !strings.Contains(line, "<<") {
			fmt.Fprintf(&out, "# above %d\n%s # behind %d\n", i, line, i)
			continue
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}
