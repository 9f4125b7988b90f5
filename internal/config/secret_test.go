package config_test

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
)

const secret = "Zq7-canary-91"

// TestSecretsStayHiddenInBrokenFiles damages a config at every place outside of the
// secrets and their names, and demands that no diagnostic shows a secret.
func TestSecretsStayHiddenInBrokenFiles(t *testing.T) {
	t.Parallel()
	const src = `target {
  use "kafka" {
    brokers       = "b"
    topic_name    = "t"
    sasl_password = "` + secret + `"
    headers       = { "x-api-key" = "` + secret + `", accept = "x" }
    client_secret = <<EOT
` + secret + `
EOT
    token         = 5 + "` + secret + `"
    url           = "http://joe:` + secret + `@example.com/"
  }
}
`
	protected := make([]bool, len(src)+1)
	for _, word := range []string{secret, "sasl_password", "x-api-key", "client_secret", "token", "http://joe:", "@example.com/"} {
		for from := 0; ; {
			i := strings.Index(src[from:], word)
			if i < 0 {
				break
			}
			for j := from + i; j <= from+i+len(word); j++ {
				protected[j] = true
			}
			from += i + len(word)
		}
	}
	damage := []string{"\"", "{", "}", "\n", "=", "${", "'", "#", ",", "[", "\\", "\x00", "é", "//", "/*", "<<X"}
	shown := 0
	check := func(damaged string) {
		_, _, ds := load([]config.File{{Name: "x.hcl", Src: []byte(damaged)}})
		text := ds.Text() + string(ds.JSON())
		shown += strings.Count(text, "(hidden)")
		if strings.Contains(text, secret) {
			t.Errorf("a secret is shown\nconfig:\n%s\ndiagnostics:\n%s", damaged, text)
		}
	}
	for i := range src {
		if protected[i] {
			continue
		}
		check(src[:i] + src[i+1:])
		for j := range 5 {
			check(src[:i] + damage[(5*i+j)%len(damage)] + src[i:])
		}
		check(src[:i])
	}
	if shown == 0 {
		t.Error("no line with a secret was ever shown, so nothing was tested")
	}
}

func FuzzParse(f *testing.F) {
	for _, src := range fuzzSeeds(f) {
		f.Add(src)
	}
	const canary = "value-of-the-environment-7151"
	f.Fuzz(func(t *testing.T, src []byte) {
		if strings.Contains(string(src), "7151") {
			return // the input itself holds the canary
		}
		env := func(name string) (string, bool) { return canary + "<\"\n>", !strings.HasPrefix(name, "NO") }
		read := func() (*config.Config, config.Diagnostics) {
			c, ds := config.ParseFiles([]config.File{{Name: "f.hcl", Src: src}}, config.Options{Env: env, Known: known, Older: snowbridge.Older})
			if (c == nil) != ds.HasErrors() {
				t.Fatalf("config %v with diagnostics:\n%s", c, ds.Text())
			}
			if c == nil {
				return nil, ds
			}
			for _, p := range c.Pipelines {
				for _, u := range p.Uses() {
					ds = append(ds, u.Diagnose(u.Decode(fixture(u)))...)
				}
			}
			return c, ds
		}
		_, ds := read()
		if _, again := read(); again.Text() != ds.Text() {
			t.Fatalf("two readings differ:\n%s\n---\n%s", ds.Text(), again.Text())
		}
		if strings.Contains(ds.Text(), canary) {
			t.Fatalf("a value of the environment is shown:\n%s", ds.Text())
		}
		lines := strings.Count(string(src), "\n") + 1
		for _, d := range ds {
			if d.What == "" || d.Line > lines || strings.Contains(d.Source, "\n") || d.Severity == config.Error && d.File == "" {
				t.Fatalf("a diagnostic without sense: %+v", d)
			}
		}
	})
}
