package internal_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// dependency is a row of docs/dependencies.md.
type dependency struct {
	module, licence, why string
	tests                bool // from the table of what only tests and the workshop use
}

// reviewed reads the tables of docs/dependencies.md.
func reviewed(t *testing.T) map[string]dependency {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows := map[string]dependency{}
	tests := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "## ") {
			tests = strings.Contains(line, "Tests")
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 {
			t.Fatalf("docs/dependencies.md: %q has %d cells, not module, licence, why", line, len(cells))
		}
		d := dependency{module: strings.Trim(cells[0], " `"), licence: strings.TrimSpace(cells[1]), why: strings.TrimSpace(cells[2]), tests: tests}
		if d.licence == "" || d.why == "" {
			t.Errorf("docs/dependencies.md: %s needs its licence and the reason for it", d.module)
		}
		if _, twice := rows[d.module]; twice {
			t.Errorf("docs/dependencies.md lists %s twice", d.module)
		}
		rows[d.module] = d
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestDependenciesAreReviewed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, r := range mod.Require {
		required = append(required, r.Mod.Path)
	}
	rows := reviewed(t)
	inProduct, inTests := map[string]string{}, map[string]string{}
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		for _, imported := range f.imports(t) {
			if standard(imported) || ours(imported) {
				continue
			}
			m := moduleOf(required, imported)
			if f.test || p.floor >= testing_ {
				inTests[m] = f.path
				continue
			}
			inProduct[m] = f.path
			if p.floor == words {
				t.Errorf("%s imports %s: the words of the domain stand on the standard library alone", f.path, imported)
			}
			if who, limited := moduleUsers[m]; limited && !slices.Contains(who, f.dir) {
				t.Errorf("%s imports %s: only %s may", f.path, imported, strings.Join(who, ", "))
			}
		}
	}
	const review = "add a row to docs/dependencies.md with its licence and why it is worth having, or do without it"
	for m, by := range inProduct {
		if d, ok := rows[m]; !ok || d.tests {
			t.Errorf("%s imports %s, which is not reviewed for the product: %s", by, m, review)
		}
	}
	for m, by := range inTests {
		if _, ok := rows[m]; !ok {
			t.Errorf("%s imports %s, which is not reviewed: %s", by, m, review)
		}
	}
	for m, d := range rows {
		if inProduct[m] == "" && (inTests[m] == "" || !d.tests) {
			t.Errorf("docs/dependencies.md lists %s, which nothing imports there: remove the row, or move it between the tables", m)
		}
	}
}

// moduleOf is the module of required that holds the package, or the package itself.
func moduleOf(required []string, pkg string) string {
	best := ""
	for _, m := range required {
		if len(m) > len(best) && (pkg == m || strings.HasPrefix(pkg, m+"/")) {
			best = m
		}
	}
	if best == "" {
		return pkg
	}
	return best
}

// testify is the module of assertions.
const testify = "github.com/stretchr/testify/"

// TestBinaryHoldsNoTests asks the go command what the binary links, dependencies included.
func TestBinaryHoldsNoTests(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"/cmd/weir")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list what the binary links: %v: %s", err, stderr.String())
	}
	var linked []string
	for line := range strings.Lines(string(out)) {
		all := strings.Fields(line)
		linked = append(linked, all[0])
		// The one that does is the mock of a file system which iceberg-go has among its product
		// code; nobody calls it.
		if strings.HasPrefix(all[0], testify) || all[0] == "github.com/apache/iceberg-go/internal" {
			continue
		}
		for _, p := range all[1:] {
			if strings.HasPrefix(p, testify) {
				t.Errorf("%s, which cmd/weir links, imports %s", all[0], p)
			}
		}
	}
	if !slices.Contains(linked, module+"/internal/event") {
		t.Fatalf("the list of what the binary links is not that: %d packages, none of them internal/event", len(linked))
	}
	for _, p := range linked {
		place, ok := placeOf(strings.TrimPrefix(p, module+"/"))
		if ok && place.floor >= testing_ {
			t.Errorf("cmd/weir links %s, which is for tests", p)
		}
		if p == "testing" || p == "runtime/cgo" {
			t.Errorf("cmd/weir links %s: find who imports it with `go mod why %s`", p, p)
		}
	}
}
