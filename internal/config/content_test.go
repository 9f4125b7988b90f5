package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestContent: an expression reads a file from where its config file is, and what it holds is a
// secret in every diagnostic.
func TestContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain": "warning", "line": "warning\n", "dos": "warning\r\n", "lines": "warning\n\n", "bad": "hush-hush-word\n",
		"binary": "\xff\xfe", "large": strings.Repeat("x", 1<<20+1), "most": strings.Repeat(" ", 1<<20), "json": `"error"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) (string, bool) {
		return map[string]string{"NAME": "plain", "HIDDEN": "no-such-path-of-mine"}[name], name != "UNSET"
	}
	for expr, want := range map[string]string{
		`file("plain")`:            "warning",
		`file("line")`:             "warning",
		`file("dos")`:              "warning",
		`jsondecode(file("json"))`: "error",
		`file(env.NAME)`:           "warning",
		`file("` + filepath.Join(dir, "plain") + `")`: "warning",
		`file("lines")`:         "provided (content of a file)",
		`file("bad")`:           "provided (content of a file)",
		`file("none")`:          "x.hcl:2:13: error: cannot read the file none: no such file or directory",
		`file("binary")`:        "cannot read the file binary: it is not a text in UTF-8",
		`file("large")`:         "cannot read the file large: it has more than 1048576 bytes",
		`file(env.HIDDEN)`:      "cannot read the file (hidden): no such file or directory",
		`file(".")`:             "cannot read the file .: is a directory",
		`file()`:                "file is called with",
		`file("plain", "line")`: "file is called with",
		`file(1)`:               "file is called with",
		`file(null)`:            "file is called with",
		`file(file("none"))`:    "cannot read the file none",
	} {
		c, ds := config.Parse(filepath.Join(dir, "x.hcl"), []byte("\nlog_level = "+expr), env)
		got := ds.Text()
		if c != nil {
			got = c.LogLevel
		}
		if !strings.Contains(got, want) || strings.Contains(got, "hush") || strings.Contains(got, "no-such-path-of-mine") {
			t.Errorf("%s gives %s, want %s", expr, got, want)
		}
	}
}

// TestContentIsReadOnce: all of a config sees one text of a file, and the next reading its own.
func TestContentIsReadOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "token")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src := []byte("admin {\n  address = \"127.0.0.1:0\"\n  token = file(\"token\")\n}\nsource {\n  use \"x\" {\n    key = file(\"token\")\n  }\n}\n")
	read := func() (string, *config.Use) {
		c, ds := config.Parse(filepath.Join(dir, "x.hcl"), src, nil)
		if c == nil {
			t.Fatal(ds.Text())
		}
		return c.Admin.Token, c.Pipelines[0].Source.Use
	}
	write("one")
	token, use := read()
	write("two")
	var s struct {
		Key string `hcl:"key"`
	}
	if err := use.Decode(&s); err != nil || s.Key != token || token != "one" {
		t.Errorf("the token is %q and the key %q, %v", token, s.Key, err)
	}
	if token, _ = read(); token != "two" {
		t.Errorf("the token is %q after the file was replaced", token)
	}
}
