package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/weirdata/weir/internal/connector"
)

// maxContent is the most bytes of a file that an expression reads.
const maxContent = 1 << 20

// content is what a file that an expression reads held when it was read first: all of a config
// sees one text of it, though somebody may replace it meanwhile.
type content struct {
	text string
	err  error
}

// scope is what expressions of a file see: that of the document, and the function file, whose
// relative paths mean from the directory of the config file.
func (d *document) scope(filename string) *hcl.EvalContext {
	d.read.Lock()
	defer d.read.Unlock()
	if s, ok := d.scopes[filename]; ok {
		return s
	}
	s := d.eval.NewChild()
	s.Functions = map[string]function.Function{"file": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			c := d.content(filename, args[0].AsString())
			if c.err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "cannot be read")
			}
			return cty.StringVal(c.text), nil
		},
	})}
	d.scopes[filename] = s
	return s
}

// content is what the file at path holds, seen from the config file.
func (d *document) content(from, path string) content {
	dir := ""
	if from != "" {
		dir = filepath.Dir(from)
	}
	at, err := connector.File(dir, "file", path)
	if err != nil {
		return content{err: err}
	}
	d.read.Lock()
	defer d.read.Unlock()
	c, ok := d.contents[at]
	if !ok {
		c.text, c.err = readContent(at)
		d.contents[at] = c
	}
	return c
}

// readContent is the text of a file, without the end of its last line.
func readContent(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	switch {
	case len(text) > maxContent:
		return "", fmt.Errorf("it has more than %d bytes", maxContent)
	case !utf8.Valid(text):
		return "", errors.New("it is not a text in UTF-8")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// contentsOf are what the files hold that e reads.
func (d *document) contentsOf(e hclsyntax.Expression) (texts []string) {
	d.eachContent(e, func(_ *hclsyntax.FunctionCallExpr, _ string, c content) {
		if c.err == nil {
			texts = append(texts, c.text)
		}
	})
	return texts
}

// unread finds the files that e reads and that cannot be.
func (d *document) unread(e hclsyntax.Expression) (ds Diagnostics) {
	d.eachContent(e, func(call *hclsyntax.FunctionCallExpr, path string, c content) {
		if c.err == nil {
			return
		}
		if ReadsEnvironment(call.Args[0]) {
			path = hiddenText
		}
		what := fmt.Sprintf("cannot read the file %s: %s", path, reason(c.err))
		ds = append(ds, d.errorAt(call.Range(), what, connector.Remedy(c.err, "check the path and its permissions; a relative path means from the directory of the config file")))
	})
	return ds
}

// eachContent calls fn for each file that e reads, as far as its path can be told.
func (d *document) eachContent(e hclsyntax.Expression, fn func(call *hclsyntax.FunctionCallExpr, path string, c content)) {
	visit(e, func(x hclsyntax.Expression) {
		call, ok := x.(*hclsyntax.FunctionCallExpr)
		if !ok || call.Name != "file" || len(call.Args) != 1 {
			return
		}
		from := call.NameRange.Filename
		v, diags := call.Args[0].Value(d.scope(from))
		if diags.HasErrors() || v.Type() != cty.String || !v.IsKnown() || v.IsNull() {
			return
		}
		fn(call, v.AsString(), d.content(from, v.AsString()))
	})
}
