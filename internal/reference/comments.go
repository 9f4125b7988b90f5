package reference

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// module is the path of the module whose packages have source below the root.
const module = "github.com/weirdata/weir"

// comments finds the comments of struct fields in Go source below root.
type comments struct {
	root     string
	packages map[string]map[string]string // package path -> "Type.Field" -> comment
}

// folder is where the source of a package is.
func (c *comments) folder(pkg string) (string, error) {
	rel, ok := strings.CutPrefix(pkg+"/", module+"/")
	if !ok {
		return "", fmt.Errorf("find the source of %s: it is not a package of %s", pkg, module)
	}
	// The package of an external test is in the folder of the package it tests.
	return filepath.Join(c.root, filepath.FromSlash(strings.TrimSuffix(strings.TrimSuffix(rel, "/"), "_test"))), nil
}

// of is the comment of a field of the struct t, on one line for each paragraph.
func (c *comments) of(t reflect.Type, field string) (string, error) {
	docs, ok := c.packages[t.PkgPath()]
	if !ok {
		var err error
		if docs, err = c.read(t.PkgPath()); err != nil {
			return "", err
		}
		c.packages[t.PkgPath()] = docs
	}
	doc, ok := docs[t.Name()+"."+field]
	if !ok {
		return "", fmt.Errorf("%s.%s.%s has no comment: say what the option does, with its unit and its limits", t.PkgPath(), t.Name(), field)
	}
	return doc, nil
}

func (c *comments) read(pkg string) (map[string]string, error) {
	dir, err := c.folder(pkg)
	if err != nil {
		return nil, err
	}
	docs := map[string]string{}
	set := token.NewFileSet()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the source of %s: %w", pkg, err)
	}
	external := strings.HasSuffix(pkg, "_test")
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") != external {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(dir, e.Name()), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse the source of %s: %w", pkg, err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					addFields(docs, spec.Name.Name, s)
				}
			}
			return true
		})
	}
	return docs, nil
}

func addFields(docs map[string]string, typ string, s *ast.StructType) {
	for _, f := range s.Fields.List {
		text := ""
		for _, group := range []*ast.CommentGroup{f.Doc, f.Comment} {
			if group != nil && text == "" {
				text = paragraphs(group.Text())
			}
		}
		if text == "" {
			continue
		}
		for _, name := range f.Names {
			docs[typ+"."+name.Name] = text
		}
	}
}

// paragraphs joins the lines of each paragraph.
func paragraphs(text string) string {
	var out []string
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		out = append(out, strings.Join(strings.Fields(p), " "))
	}
	return strings.Join(out, "\n\n")
}
