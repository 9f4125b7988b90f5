package config_test

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
)

// TestShow: of a config file everything is shown but secrets, wherever they are written, also in one
// that cannot be read; lines stay where they are.
func TestShow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ src, shown string }{
		"options": {
			"target {\n  use \"http\" {\n    url = \"https://hooks.example/T0/4711abcd\"\n    headers = { Authorization = \"Bearer 4711abcd\", Accept = \"text\" }\n    basic_auth_password = env.PW\n  }\n}\n",
			"target {\n  use \"http\" {\n    url = \"https://hooks.example(hidden)\"\n    headers = { Authorization = \"(hidden)\", Accept = \"text\" }\n    basic_auth_password = env.PW\n  }\n}\n",
		},
		"a comment":           {"# token = \"4711abcd\"\nlog_level = \"info\" # was: password: 4711abcd\n", "# token = (hidden)\nlog_level = \"info\" # was: password: (hidden)\n"},
		"a script":            {"x {\n  script = <<EOT\nconst apiKey = \"4711abcd\"\nfunction main(x) { return x }\nEOT\n}\n", "x {\n  script = <<EOT\nconst apiKey = (hidden)\nfunction main(x) { return x }\nEOT\n}\n"},
		"a connection string": {"x {\n  address = \"Server=db;Password=4711abcd\"\n}\n", "x {\n  address = \"Server=db;Password=(hidden)\"\n}\n"},
		"a call in a script":  {"x {\n  script = <<EOT\nh.set(\"Authorization\", \"Bearer 4711abcd\")\nEOT\n}\n", "x {\n  script = <<EOT\nh.set(\"Authorization\", \"(hidden)\nEOT\n}\n"},
		"a private key":       {"x {\n  pem = <<EOT\n-----BEGIN RSA PRIVATE KEY-----\n4711abcd\n-----END RSA PRIVATE KEY-----\nEOT\n}\n", "x {\n  pem = <<EOT\n(hidden)\n\n\nEOT\n}\n"},
		"a repetition":        {"x {\n  password = \"4711abcd\"\n  name = \"4711abcd\"\n}\n", "x {\n  password = \"(hidden)\"\n  name = \"(hidden)\"\n}\n"},
		"no end":              {"x {\n  password = \"4711abcd\n}\ny {\n", "x {\n  password = \"(hidden)\n"},
		"JSON":                {"{\"password\": \"4711abcd\",\n\"a\": 1}\n", "{\"password\": \"(hidden)\n"},
		"tokens of operators": {"token \"ann\" {\n  sha256 = \"4711abcd\"\n}\n", "token \"(hidden)\" {\n  (hidden) = \"(hidden)\"\n}\n"},
		"a default":           {"x {\n  token = env(\"TOKEN\", \"4711abcd\")\n}\n", "x {\n  token = (hidden)"},
		"nothing":             {"source {\n  use \"stdin\" {}\n}\n", "source {\n  use \"stdin\" {}\n}\n"},
	} {
		got := config.Show(config.File{Name: "a.hcl", Src: []byte(c.src)}, snowbridge.Older)
		if strings.Contains(got.Text, "4711abcd") || !strings.HasPrefix(got.Text, c.shown) {
			t.Errorf("%s:\n%s\nnot\n%s", name, got.Text, c.shown)
		}
		if strings.Count(got.Text, "\n") != strings.Count(c.src, "\n") {
			t.Errorf("%s: its lines are others:\n%q", name, got.Text)
		}
		other := config.Show(config.File{Name: "a.hcl", Src: []byte(strings.ReplaceAll(c.src, "4711abcd", "4711abce"))}, snowbridge.Older)
		if other.Text != got.Text || (other.Hidden == got.Hidden) != !strings.Contains(c.src, "4711abcd") {
			t.Errorf("%s: a change of what is hidden: %q", name, other.Text)
		}
	}
}

// TestTexts: a config knows what its files held.
func TestTexts(t *testing.T) {
	t.Parallel()
	src := "source {\n  use \"stdin\" {}\n}\n"
	cfg, found := config.Parse("a.hcl", []byte(src), nil)
	if found.HasErrors() {
		t.Fatal(found.Text())
	}
	if texts := cfg.Texts(); len(texts) != 1 || texts[0].Name != "a.hcl" || string(texts[0].Src) != src {
		t.Errorf("%q", texts)
	}
}

func FuzzShow(f *testing.F) {
	f.Add("password = \"x\"\n# token = y\n")
	f.Fuzz(func(t *testing.T, src string) {
		got := config.Show(config.File{Name: "a.hcl", Src: []byte(src)}, snowbridge.Older)
		if strings.Count(got.Text, "\n") != strings.Count(strings.TrimPrefix(src, "\xef\xbb\xbf"), "\n") {
			t.Errorf("other lines: %q", got.Text)
		}
	})
}
