package snowbridge

import (
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
)

// pathOptions are the options of Snowbridge's components that name files.
var pathOptions = []string{"script_path", "template_file", "cert_file", "key_file", "ca_file"}

// Misplaced finds the relative paths of a file that Snowbridge, which looks in the working
// directory, finds from here, and that lead to nothing from the directory of the file, which
// is what they mean. They are no older form: the file is right once the other one has moved.
func Misplaced(name string, src []byte) config.Diagnostics {
	f, ds := config.ParseSyntax(name, src)
	if ds.HasErrors() {
		return nil
	}
	r := &rewriter{file: f}
	var found config.Diagnostics
	var look func(*hclsyntax.Body)
	look = func(b *hclsyntax.Body) {
		for _, a := range config.InOrder(b.Attributes) {
			path, ok := r.valueOf(a).constantText()
			if !ok || !slices.Contains(pathOptions, a.Name) {
				continue
			}
			if _, err := connector.File(filepath.Dir(name), a.Name, path); err != nil {
				found = append(found, f.Diagnostic(config.Warning, a.Expr.Range(), a.Name+": "+err.Error(), connector.Remedy(err, "correct the path")))
			}
		}
		for _, block := range b.Blocks {
			look(block.Body)
		}
	}
	look(f.Body)
	return found
}
