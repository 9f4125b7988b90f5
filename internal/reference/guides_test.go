package reference

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGuides: what links to the reference of a connector is named there, and nothing else is.
func TestGuides(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for path, text := range map[string]string{
		"docs/a.md":               "# The `a`\n\n[x](reference/target-x.md), [again](reference/target-x.md#batching)\n",
		"docs/b.md":               "# B\n\nreference/target-x.md\n",
		"docs/connectors/c.md":    "no heading\n[x](../reference/target-x.md) [y](../reference/source-y.md)\n",
		"docs/reference/index.md": "# Reference\n\n[x](reference/target-x.md)\n",
	} {
		path = filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ps := []Page{{Kind: "target", Name: "x"}, {Kind: "source", Name: "y"}, {Kind: "source", Name: "z"}}
	if err := guides(root, ps); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"\nRead on: [The a](../a.md), [more](../connectors/c.md).\n",
		"\nRead on: [more](../connectors/c.md).\n",
		"",
	} {
		if got := readOn(ps[i]); got != want {
			t.Errorf("%s: %q, want %q", ps[i].Name, got, want)
		}
	}
}
