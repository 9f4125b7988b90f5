package internal_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// A reload makes every connector anew, so each has the secrets and the certificates that files
// hold then, whether or not the text of the config is another. What outlives a reload would keep
// those of before. The tests below keep what does so on a list, each with how it comes by the new.

// outlives are variables of packages that hold something from one reload to the next.
var outlives = map[string]string{
	"internal/frontdoor open":          "doors: the newest host's certificates and authorities count",
	"internal/workspace files":         "workspace files: read again by Open, and watched",
	"internal/catalog open":            "datasets: those of a store are reached as who opened them last says",
	"internal/catalog watched":         "versions of leases that are waited for: no secret",
	"internal/catalog living":          "ids of leases: no secret",
	"internal/target/file owned":       "files that are written: no secret",
	"internal/source/gateway lastDate": "the time of day",
	"internal/script regexpMutex":      "a lock",
	"internal/script quiet":            "the watchdog of scripts that run",
	"internal/snowplow schemaCache":    "names of schemas",
	"internal/garbage rule":            "how often memory is collected",
	"internal/memorylimit current":     "the memory limit",
	"internal/memorylimit state":       "the memory limit",
}

// keeps are what connectors keep for the one that replaces them, by connector.Deps.Kept.
var keeps = map[string]string{
	"internal/target/stdout":  "standard output: no secret",
	"internal/source/file":    "files that are open: no secret",
	"internal/source/gateway": "suppressed users: who opens them last says how their control plane is asked, and closed they know nothing of it",
}

// TestNothingKeepsOldSecrets: a package below the assembly has no variable that could hold what
// was made from a config before, but those on the list.
func TestNothingKeepsOldSecrets(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		if f.test || p.floor >= testing_ || f.generated {
			continue
		}
		if p.floor == leaves && len(selections(f.syntax, "d", "Kept")) > 0 {
			if keeps[f.dir] == "" {
				t.Errorf("%s keeps something over a reload (Deps.Kept): say on the list keeps why it holds no secret and no certificate", f.path)
			}
			seen[f.dir] = true
		}
		if p.floor >= settings {
			continue
		}
		for _, name := range held(f.syntax) {
			key := f.dir + " " + name
			if outlives[key] == "" {
				t.Errorf("%s holds something in the variable %s, from one reload to the next: make it a part of what a config makes, or say on the list outlives how it comes by new secrets and certificates", f.path, name)
			}
			seen[key] = true
		}
	}
	for key := range outlives {
		if !seen[key] {
			t.Errorf("%s is on the list outlives, and is not there", key)
		}
	}
	for key := range keeps {
		if !seen[key] {
			t.Errorf("%s is on the list keeps, and keeps nothing", key)
		}
	}
}

// held are the variables of a file that hold what is put into them while the program runs: those
// with a lock, and maps and pointers that are swapped.
func held(syntax *ast.File) (names []string) {
	for _, d := range syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			holds := holdsState(v.Type)
			for _, value := range v.Values {
				if c, is := value.(*ast.UnaryExpr); is {
					value = c.X
				}
				if c, is := value.(*ast.CompositeLit); is {
					holds = holds || holdsState(c.Type)
				}
			}
			for _, n := range v.Names {
				if holds {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

// holdsState reports whether a type has a lock in it or is one for sharing.
func holdsState(of ast.Expr) (holds bool) {
	if of == nil {
		return false
	}
	ast.Inspect(of, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		name := selected(e)
		holds = holds || slices.Contains([]string{"sync.Mutex", "sync.RWMutex", "sync.Map", "atomic.Value"}, name) || strings.HasPrefix(name, "atomic.Pointer")
		return true
	})
	return holds
}

// readers are product files that read certificates and keys of TLS, each for its reason.
var readers = map[string]string{
	"internal/tlsconfig/tlsconfig.go": "it is the one place for connectors",
	"internal/tlsconfig/keypair.go":   "it follows the files of a certificate",
	"internal/otlp/client.go":         "the standard's variables name files for the whole process",
}

// TestCertificatesHaveOnePlace: a connector that reads certificates by itself would neither follow
// its files nor blame the attribute that names a broken one.
func TestCertificatesHaveOnePlace(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		if f.test || p.floor >= testing_ || readers[f.path] != "" {
			continue
		}
		if len(selections(f.syntax, "tls", "LoadX509KeyPair", "X509KeyPair")) > 0 || strings.Contains(f.path, "/source/") && len(selections(f.syntax, "x509", "NewCertPool", "SystemCertPool")) > 0 ||
			strings.Contains(f.path, "/target/") && len(selections(f.syntax, "x509", "NewCertPool", "SystemCertPool")) > 0 {
			t.Errorf("%s reads certificates: let package tlsconfig do it, which follows the files and blames the attribute that names a broken one", f.path)
		}
	}
}

// TestConnectorsReadFilesWhenTheyAreMade: a connector reads what its config names by
// connector.ReadFile, when it is made: then a reload refuses a file that cannot be used by file and
// line, and the old connector, which reads nothing any more, goes on.
func TestConnectorsReadFilesWhenTheyAreMade(t *testing.T) {
	t.Parallel()
	own := map[string]string{
		"internal/source/file/book.go":         "positions, which are no part of a config",
		"internal/source/generate/position.go": "a position, which is no part of a config",
		"internal/cloud/gcp/gcp.go":            "read by Inspect before anything is opened",
		"internal/cloud/gcp/token.go":          "the same file",
		"internal/cloud/azure/azure.go":        "a file of the environment",
	}
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		if f.test || p.floor != leaves && !strings.HasPrefix(f.dir, "internal/cloud/") || own[f.path] != "" {
			continue
		}
		if len(selections(f.syntax, "os", "ReadFile")) > 0 {
			t.Errorf("%s reads a file with os.ReadFile: use connector.ReadFile in New, so that what cannot be read is refused by file and line", f.path)
		}
	}
}
