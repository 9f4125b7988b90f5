package config_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestFunctions holds what expressions may call against what users get.
func TestFunctions(t *testing.T) {
	t.Parallel()
	env := map[string]string{"B64": base64.StdEncoding.EncodeToString([]byte("warning")), "JSON": `"error"`, "BAD": "s3cret!", "EMPTY": ""}
	for expr, want := range map[string]string{
		`base64decode(env.B64)`:             "warning",
		`jsondecode(env.JSON)`:              "error",
		`base64decode(env.BAD)`:             "base64decode is called with something that is not a text in base64",
		`jsondecode(env.BAD)`:               "jsondecode is called with something that is not JSON",
		`jsondecode(env.EMPTY)`:             "log_level must be text in quotes",
		`base64decode()`:                    "base64decode is called with something else than one text",
		`jsondecode("1", "2")`:              "jsondecode is called with something else than one text",
		`base64decode(jsondecode(env.BAD))`: "is called with something that is not",
		`base64decode("/w==")`:              "not a text in base64",
	} {
		c, ds := config.Parse("x.hcl", []byte("log_level = "+expr), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		got := ds.Text()
		if c != nil {
			got = c.LogLevel
		}
		if !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("%s gives %s, want %s", expr, got, want)
		}
	}
}
