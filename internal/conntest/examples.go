package conntest

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/workspace"
)

// The example files in a connector's folder, each the body of a whole pipeline config.
const (
	minimal = "examples_minimal.hcl"
	full    = "examples_full.hcl"
)

// One is a registry of a single entry, for the tests of the connector itself.
func One[T any](e connector.Entry[T]) connector.Set {
	var s connector.Set
	switch e := any(e).(type) {
	case connector.Entry[connector.Source]:
		s.Sources = append(s.Sources, e)
	case connector.Entry[connector.Transform]:
		s.Transforms = append(s.Transforms, e)
	case connector.Entry[connector.Target]:
		s.Targets = append(s.Targets, e)
	case connector.Entry[connector.StoreOpener]:
		s.Stores = append(s.Stores, e)
	}
	return s
}

// Exclusive says that a connector has options that exclude each other and that its full
// example sets all the same, so that the example is no config that anybody can run.
type Exclusive struct {
	Connector string // its kind and name, as in "target http"
	Why       string // which options, and why one file shows them together
}

// Examples asserts of every connector in set that its two example files decode, that the
// full one sets every option, to a value that is not zero, that the minimal one leaves out
// what is optional, that every option and every connector is documented, and that
// building one touches nothing (rule 1). Options that exclude each other are shown by
// several uses in one file; where they are not, exclusive has a row for the connector, and
// its full example is decoded, but neither validated nor built. module is the root of the
// module.
func Examples(t *testing.T, set connector.Set, module string, exclusive ...Exclusive) {
	t.Helper()
	x := examples{module: module, comments: map[string]map[string]string{}, exclusive: map[string]string{}}
	for _, row := range exclusive {
		x.exclusive[row.Connector] = row.Why
	}
	check(t, x, config.KindSource, set.Sources)
	check(t, x, config.KindTransform, set.Transforms)
	check(t, x, config.KindTarget, set.Targets)
	check(t, x, config.KindStore, set.Stores)
}

type examples struct {
	module    string
	comments  map[string]map[string]string // by package directory, then Type.Field
	exclusive map[string]string            // why, by kind and name
}

func check[T any](t *testing.T, x examples, kind config.Kind, entries []connector.Entry[T]) {
	for _, e := range entries {
		title := fmt.Sprintf("%s %s", kind, e.Name)
		t.Run(title, func(t *testing.T) {
			if !strings.HasSuffix(e.Summary, ".") || e.Stability == "" {
				t.Errorf("summary %q is no sentence, or stability %q is not set", e.Summary, e.Stability)
			}
			x.documented(t, e.Config)
			for _, name := range []string{minimal, full} {
				set := map[string]bool{} // options, by path: whether to a value that is not zero
				_, excludes := x.exclusive[title]
				excludes = excludes && name == full
				refused := false
				for _, u := range x.uses(t, kind, e.Name, e.Config, name) {
					c := e.Default()
					if err := u.use.Decode(c); err != nil && !excludes {
						t.Fatalf("%s: %v", name, err)
					} else if err != nil {
						refused = true
						if c, err = unvalidated(u.use, e.Default()); err != nil {
							t.Fatalf("%s: %v", name, err)
						}
					}
					sets(set, "", u.body, reflect.ValueOf(c))
					if excludes {
						continue // what is refused is never built
					}
					touchesNothing(t, name, func(ctx context.Context, d connector.Deps) (any, error) {
						d.Dir, d.Queues, d.Machines, d.Workspaces = x.dir(e.Config), u.deps.Queues, u.deps.Machines, u.deps.Workspaces
						d.Component = u.use.Block + "." + e.Name
						return e.Build(ctx, d, u.use.Decode)
					})
				}
				if excludes && !refused {
					t.Errorf("%s is valid as it is: take %s out of the list of those whose options exclude each other", name, title)
				}
				if name == full {
					setsAll(t, "", e.Config, set)
				} else {
					leavesOut(t, e.Config, set)
				}
			}
		})
	}
}

// unvalidated decodes u over the defaults that c points to, with every check but those of
// its method Validate: in a field of a struct, c has no such method.
func unvalidated(u *config.Use, c any) (any, error) {
	v := reflect.ValueOf(c).Elem()
	outer := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Config", Type: v.Type(), Tag: `hcl:",remain"`}}))
	inner := outer.Elem().Field(0)
	inner.Set(v)
	if err := u.Decode(outer.Interface()); err != nil {
		return nil, err
	}
	return inner.Addr().Interface(), nil
}

// dir is the directory of the package that t is declared in.
func (x examples) dir(t reflect.Type) string {
	_, path, _ := strings.Cut(t.PkgPath(), "/internal/")
	return filepath.Join(x.module, "internal", filepath.FromSlash(path))
}

// used is a component in an example: decoded by package config, and as it is written.
type used struct {
	use  *config.Use
	body *hclsyntax.Body
	deps connector.Deps // with the queues and machines that the example declares
}

// idle is a declared machine. Examples are built and never run.
type idle struct{ connector.Machine }

// uses finds the components called name in an example file. There may be several, since
// some options exclude each other.
func (x examples) uses(t *testing.T, kind config.Kind, name string, c reflect.Type, file string) (found []used) {
	t.Helper()
	path := filepath.Join(x.dir(c), file)
	src, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("an example is missing: %v", err)
		return nil
	}
	env := func(name string) (string, bool) {
		if strings.HasSuffix(name, "_DSN") {
			return "postgres://user:password@localhost/weir", true
		}
		return "from-the-environment", true
	}
	cfg, ds := config.ParseFiles([]config.File{{Name: path, Src: src}}, config.Options{Env: env, Older: snowbridge.Older})
	if ds.HasErrors() {
		t.Errorf("%s: %v", file, ds.Err())
		return nil
	}
	parsed, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		t.Errorf("%s: %v", file, diags)
		return nil
	}
	bodies := map[int]*hclsyntax.Body{} // by where the block begins
	bodiesOf(parsed.Body.(*hclsyntax.Body), bodies)
	declared := connector.Deps{Queues: map[string]connector.Queue{}, Machines: map[string]connector.Machine{}, Workspaces: map[string]workspace.Live{}}
	for _, q := range cfg.Queues {
		declared.Queues[q.Name] = connector.Queue{Name: q.Name}
	}
	for _, w := range cfg.Workspaces {
		declared.Workspaces[w.Name] = &workspace.State{}
	}
	for _, m := range cfg.Machines {
		declared.Machines[m.Name] = idle{}
	}
	components := []*config.Use{cfg.Store.Use}
	for _, p := range cfg.Pipelines {
		components = append(components, p.Uses()...)
	}
	for _, u := range components {
		if b := bodies[u.DefRange.Start.Byte]; b != nil && u.Body != nil && u.Kind == kind && u.Name == name {
			found = append(found, used{u, b, declared})
		}
	}
	if len(found) == 0 {
		t.Errorf("%s uses no %s %q", file, kind, name)
	}
	return found
}

func bodiesOf(b *hclsyntax.Body, into map[int]*hclsyntax.Body) {
	for _, inner := range b.Blocks {
		into[inner.DefRange().Start.Byte] = inner.Body
		bodiesOf(inner.Body, into)
	}
}

// option is a struct field with an hcl tag.
type option struct {
	reflect.StructField
	name, kind string
}

func optionsOf(t reflect.Type) (os []option) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	for f := range t.Fields() {
		tag, ok := f.Tag.Lookup("hcl")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(tag, ",")
		os = append(os, option{f, name, kind})
	}
	return os
}

// sets notes which options body writes, and whether v has a value that is not zero there.
func sets(set map[string]bool, path string, body *hclsyntax.Body, v reflect.Value) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for _, o := range optionsOf(v.Type()) {
		value := v.FieldByIndex(o.Index)
		switch o.kind {
		case "", "attr", "optional":
			if body.Attributes[o.name] != nil {
				set[path+o.name] = set[path+o.name] || !value.IsZero()
			}
		case "block":
			n := 0
			for _, b := range body.Blocks {
				if b.Type != o.name {
					continue
				}
				inner := value
				if value.Kind() == reflect.Slice {
					inner = value.Index(n)
				}
				sets(set, path+o.name+".", b.Body, inner)
				n++
			}
		case "remain":
			if o.Type.Kind() == reflect.Struct {
				sets(set, path, body, value)
			}
		}
	}
}

// setsAll asserts that every option of typ is in set, and with a value.
func setsAll(t *testing.T, path string, typ reflect.Type, set map[string]bool) {
	t.Helper()
	for _, o := range optionsOf(typ) {
		switch o.kind {
		case "", "attr", "optional":
			if value, written := set[path+o.name]; !written {
				t.Errorf("%s does not set %s%s", full, path, o.name)
			} else if !value {
				t.Errorf("%s sets %s%s to its zero value, which shows nothing", full, path, o.name)
			}
		case "block":
			setsAll(t, path+o.name+".", o.Type, set)
		case "remain":
			if o.Type.Kind() == reflect.Struct {
				setsAll(t, path, o.Type, set)
			}
		}
	}
}

// leavesOut asserts that set, the options of the minimal example, holds no optional one. A
// config without required options is let off: one of several may have to be given.
func leavesOut(t *testing.T, typ reflect.Type, set map[string]bool) {
	t.Helper()
	required := false
	var optional []string
	for _, o := range optionsOf(typ) {
		_, written := set[o.name]
		required = required || o.kind == "" || o.kind == "attr"
		if written && o.kind == "optional" {
			optional = append(optional, o.name)
		}
	}
	if required && len(optional) > 0 {
		t.Errorf("%s sets %s, which may be left out", minimal, strings.Join(optional, ", "))
	}
}

// touchesNothing builds a connector with a context that has ended, and compares what the
// process has open before and after.
func touchesNothing(t *testing.T, what string, build func(context.Context, connector.Deps) (any, error)) {
	t.Helper()
	d := connector.Deps{Pipeline: "test", Component: "test", Log: slog.New(slog.DiscardHandler), Version: "test"}
	for try := 0; ; try++ {
		before, goroutines := openFiles(), runtime.NumGoroutine()
		var c any
		var err error
		within(t, prompt, "New", func() { c, err = build(cancelled(), d) })
		if errors.Is(err, fs.ErrNotExist) {
			return // an example may name files that only a user has
		}
		if err != nil {
			t.Errorf("%s: rule 1: New with a context that has ended: %v", what, err)
			return
		}
		after, started := openFiles(), runtime.NumGoroutine()-goroutines
		if closer, ok := c.(connector.Closer); ok {
			_ = closer.Close()
		}
		if after == before && started <= 0 {
			return
		}
		if try == 3 { // not a file or goroutine of another test
			t.Errorf("%s: rule 1: New opened %q or started %d goroutines", what, after, started)
			return
		}
	}
}

// openFiles names the sockets and files of this process, where the system shows them.
func openFiles() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasSuffix(to, "/fd") {
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// documented asserts that every option of typ, and of the blocks in it, has a comment
// that is a sentence.
func (x examples) documented(t *testing.T, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	dir := x.dir(typ)
	comments, ok := x.comments[dir]
	if !ok {
		comments = fieldComments(t, dir)
		x.comments[dir] = comments
	}
	for _, o := range optionsOf(typ) {
		if o.kind == "block" || (o.kind == "remain" && o.Type.Kind() == reflect.Struct) {
			x.documented(t, o.Type)
		}
		if o.kind == "remain" || o.kind == "label" {
			continue
		}
		c := strings.TrimSpace(comments[typ.Name()+"."+o.Name])
		if c == "" || !strings.ContainsAny(c[len(c)-1:], ".:)") || c[:1] != strings.ToUpper(c[:1]) {
			t.Errorf("option %s (%s.%s) is not documented by a sentence: %q", o.name, typ, o.Name, c)
		}
	}
}

// fieldComments is the comment above each field of each struct in the package at dir.
func fieldComments(t *testing.T, dir string) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("no Go files in %s: %v", dir, err)
	}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					comments[spec.Name.Name+"."+name.Name] = field.Doc.Text()
				}
			}
			return true
		})
	}
	return comments
}
