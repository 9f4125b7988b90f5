package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestAuth: an auth block that could let in nobody, or the wrong one, is refused; an address that others
// reach without one is warned of.
func TestAuth(t *testing.T) {
	t.Parallel()
	const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	for _, row := range []struct{ block, said string }{
		{`address = "127.0.0.1:1"`, ""},
		{`address = ":1"`, "only /healthz, /readyz and /metrics are answered there"},
		{"address = \":1\"\n token = \"t\"", ""},
		{"address = \":1\"\n console {}", "there is no token"},
		{"address = \":1\"\n auth {}\n", "neither a token nor a proxy"},
		{"address = \":1\"\n console {}\n auth {\n token \"ann\" {\n sha256 = \"" + hash + "\"\n right = \"operate\"\n }\n }", ""},
		{"address = \":1\"\n auth {\n token \"ann\" {\n sha256 = \"secret\"\n }\n }", "64 hexadecimal digits"},
		{"address = \":1\"\n auth {\n token \"ann\" {\n sha256 = \"" + hash + "\"\n right = \"oprate\"\n }\n }", `"operate"`},
		{"address = \":1\"\n auth {\n token \"ann\" {\n sha256 = \"" + hash + "\"\n }\n token \"ann\" {\n sha256 = \"" + hash + "\"\n }\n }", "two tokens called"},
		{"address = \":1\"\n auth {\n proxy {\n networks = [\"10.0.0.0/8\", \"::1\"]\n }\n }", ""},
		{"address = \":1\"\n auth {\n proxy {\n networks = [\"ten\"]\n }\n }", "neither a network nor an address"},
		{"address = \":1\"\n auth {\n proxy {\n networks = []\n }\n }", "name where the proxy asks from"},
		{"address = \":1\"\n auth {\n proxy {\n networks = [\"10.1.1.1\"]\n user_header = \"Authorization\"\n }\n }", "is no header for a name"},
	} {
		_, ds := config.Parse("x.hcl", []byte("admin {\n "+row.block+"\n}\n"), os.LookupEnv)
		text := ds.Text()
		if row.said == "" && text != "" || row.said != "" && (!strings.Contains(text, row.said) || !strings.Contains(text, "x.hcl:")) {
			t.Errorf("%s\nis told %q, want %q", row.block, text, row.said)
		}
		if strings.Contains(text, "secret") {
			t.Errorf("what may be a token is shown: %s", text)
		}
	}
}
