package conntest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
)

// exclusiveConfig has two options that exclude each other.
type exclusiveConfig struct {
	URL   string          `hcl:"url"`
	One   int             `hcl:"one,optional"`
	Other string          `hcl:"other,optional"`
	Third bool            `hcl:"third,optional"`
	Block *exclusiveBlock `hcl:"block,block"`
}

type exclusiveBlock struct {
	Inner int `hcl:"inner,optional"`
}

// exclusiveSource is what the check of the comments reads.
const exclusiveSource = `package conntest_test

type exclusiveConfig struct {
	// Where it is.
	URL string
	// The one.
	One int
	// The other.
	Other string
	// Excludes nothing.
	Third bool
	// More.
	Block *exclusiveBlock
}

type exclusiveBlock struct {
	// Innermost.
	Inner int
}
`

func (c exclusiveConfig) Validate() []connector.Problem {
	if c.One != 0 && c.Other != "" {
		return []connector.Problem{{Field: "other", What: "one and other exclude each other", Fix: "keep one of them"}}
	}
	return nil
}

// checkExamples checks the examples of a target of which the defect is in the examples, or
// in what the check is told about them.
func checkExamples(t *testing.T, defect string) {
	const head, closing = "target {\n  use \"exclusive\" {\n    url = \"x\"\n", "  }\n}\n"
	minimal := head + closing
	options := "one = 1\nother = \"x\"\nthird = true\nblock {\n  inner = 1\n}\n"
	rows := []conntest.Exclusive{{Connector: "target exclusive", Why: "to see that both can be set"}}
	change := func(from, to string) { options = strings.Replace(options, from, to, 1) }
	switch defect {
	case "examples leave at zero":
		change("third = true", "third = false")
	case "examples leave in block":
		change("inner = 1", "inner = 0")
	case "examples leave out":
		change("third = true\n", "")
	case "examples set unknown":
		change("third", "fourth")
	case "examples have a wrong type":
		change("one = 1", `one = "many"`)
	case "examples are not listed":
		rows = nil
	case "examples are valid":
		change("one = 1\n", "")
	case "examples set too much":
		minimal = head + "one = 2\n" + closing
	}
	root := t.TempDir()
	dir := filepath.Join(root, "internal", "conntest_test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"config.go": exclusiveSource, "examples_minimal.hcl": minimal, "examples_full.hcl": head + options + closing,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := connector.Of(connector.Spec[exclusiveConfig, connector.Target]{
		Name: "exclusive", Summary: "Takes one or the other.", Stability: connector.Stable,
		Default: func() exclusiveConfig { return exclusiveConfig{} },
		New: func(context.Context, connector.Deps, exclusiveConfig) (connector.Target, error) {
			return &memoryTarget{store: &store{}}, nil
		},
	})
	conntest.Examples(t, conntest.One(entry), root, rows...)
}
