package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
)

// Build makes the pages of every connector in set, and of the top-level blocks, with the
// source code below root. The error joins everything that is missing.
func Build(root string, set connector.Set) ([]Page, error) {
	b := &builder{comments: comments{root: root, packages: map[string]map[string]string{}}, known: config.Known{
		Sources: connector.Names(set.Sources), Transforms: connector.Names(set.Transforms), Targets: connector.Names(set.Targets),
		Stores: connector.Names(set.Stores),
	}}
	ps := []Page{b.config()}
	ps = append(ps, entries(b, config.KindSource, set.Sources)...)
	ps = append(ps, entries(b, config.KindTransform, set.Transforms)...)
	ps = append(ps, entries(b, config.KindTarget, set.Targets)...)
	ps = append(ps, entries(b, config.KindStore, set.Stores)...)
	statsd := &config.Statsd{}
	statsd.SetDefaults()
	ps = append(ps, Page{Kind: KindStatsReceiver, Name: "statsd", Summary: "Sends metrics to a statsd server by UDP, with tags in the Datadog style.",
		Stability: string(connector.Stable), Options: b.options("", reflect.ValueOf(statsd).Elem())})
	return ps, errors.Join(b.errs...)
}

type builder struct {
	comments
	known config.Known
	errs  []error
}

func (b *builder) fail(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

// entries makes the pages of one kind of connector.
func entries[T any](b *builder, kind config.Kind, list []connector.Entry[T]) []Page {
	var ps []Page
	for _, e := range list {
		p := Page{Kind: string(kind), Name: e.Name, Summary: e.Summary, Stability: string(e.Stability)}
		if !sentence(e.Summary) {
			b.fail("%s %s: its summary %q is not a sentence", kind, e.Name, e.Summary)
		}
		if e.Stability == "" {
			b.fail("%s %s says nothing of its stability", kind, e.Name)
		}
		p.Options = b.options("", reflect.ValueOf(e.Default()).Elem())
		dir, err := b.folder(e.Config.PkgPath())
		if err != nil {
			b.fail("%s %s: %w", kind, e.Name, err)
			continue
		}
		// The full example shows options that exclude one another, so it need not be valid.
		p.Minimal = b.example(filepath.Join(dir, "examples_minimal.hcl"), kind, e.Name, func(u *config.Use) error { return u.Decode(e.Default()) })
		p.Full = b.example(filepath.Join(dir, "examples_full.hcl"), kind, e.Name, func(u *config.Use) error { return u.Check(e.Default()) })
		ps = append(ps, p)
	}
	return ps
}

// config makes the page of the top-level blocks.
func (b *builder) config() Page {
	p := Page{Kind: KindConfig, Name: "config", Summary: "The blocks and options at the top level of a config, and in a pipeline block."}
	pipeline, process := &config.Pipeline{}, &config.Process{}
	pipeline.SetDefaults()
	process.SetDefaults()
	name, err := b.of(reflect.TypeFor[config.Pipeline](), "Name")
	if err != nil {
		b.errs = append(b.errs, err)
	}
	p.Options = b.options("", reflect.ValueOf(pipeline).Elem())
	for i := range p.Options {
		p.Options[i].Scope = "pipeline"
	}
	p.Options = append(p.Options, Option{Path: "pipeline", Type: "blocks", Label: "name",
		Doc: "One more pipeline: the options above that can be in a pipeline block, for a pipeline of this name. " + name})
	p.Options = append(p.Options, b.options("", reflect.ValueOf(process).Elem())...)
	return p
}

// defaulter is what package config calls on the struct of an optional block.
type defaulter interface{ SetDefaults() }

// options lists what the struct v allows, with the values of v as defaults.
func (b *builder) options(prefix string, v reflect.Value) []Option {
	var out []Option
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("hcl")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(tag, ",")
		switch kind {
		case "", "attr", "optional":
			o := Option{Path: prefix + name, Type: typeOf(f.Type), Required: kind != "optional", Doc: b.doc(t, f, name)}
			if !o.Required {
				o.Default = literal(v.Field(i))
			}
			o.Unit, o.Plain, _ = config.Unit(name, f.Type)
			out = append(out, o)
		case "block":
			out = append(out, b.block(prefix+name, b.doc(t, f, name), v.Field(i))...)
		case "remain":
			if f.Type.Kind() == reflect.Struct {
				out = append(out, b.options(prefix, v.Field(i))...)
			}
		}
	}
	return out
}

// block lists a block and what it allows.
func (b *builder) block(path, doc string, v reflect.Value) []Option {
	o := Option{Path: path, Type: "block", Doc: doc}
	t := v.Type()
	if t.Kind() == reflect.Slice {
		o.Type, t = "blocks", t.Elem()
	}
	value := v
	switch {
	case t.Kind() == reflect.Pointer:
		t = t.Elem()
		if o.Type == "block" && !v.IsNil() {
			value = v.Elem()
		} else {
			value = fresh(t)
		}
	case o.Type == "blocks":
		value = fresh(t)
	default:
		o.Required = true
	}
	if t == reflect.TypeFor[config.Use]() {
		o.Type, o.Label = map[string]string{"block": "use", "blocks": "uses"}[o.Type], "name"
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			o.Default = fmt.Sprintf("use %q {}", v.Interface().(*config.Use).Name)
		}
		return []Option{o}
	}
	for field := range t.Fields() {
		if name, kind, _ := strings.Cut(field.Tag.Get("hcl"), ","); kind == "label" {
			o.Label = name
		} else if kind == "remain" && field.Type == reflect.TypeFor[hcl.Body]() {
			o.Open = true
		}
	}
	if strings.Count(path, ".") > 8 {
		b.fail("%s: blocks inside blocks without an end", path)
		return nil
	}
	return append([]Option{o}, b.options(path+".", value)...)
}

func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := reflect.TypeAssert[defaulter](v); ok {
		d.SetDefaults()
	}
	return v.Elem()
}

// compound tells names that only Go code has from words of a sentence.
var compound = regexp.MustCompile(`[a-z0-9][A-Z]|[A-Z]{2}[a-z]`)

// doc is the documentation of a field. Go's way to begin it with the field's name
// becomes the option's name, where the field's name is no word.
func (b *builder) doc(t reflect.Type, f reflect.StructField, name string) string {
	text, err := b.of(t, f.Name)
	if err != nil {
		b.errs = append(b.errs, err)
		return ""
	}
	if rest, ok := strings.CutPrefix(text, f.Name+" "); ok && compound.MatchString(f.Name) {
		text = name + " " + rest
	}
	if !strings.HasSuffix(text, ".") {
		b.fail("%s.%s.%s: its comment %q does not end as a sentence does", t.PkgPath(), t.Name(), f.Name, text)
	}
	return text
}

func sentence(s string) bool {
	return len(s) > 1 && strings.HasSuffix(s, ".") && strings.ToUpper(s[:1]) == s[:1]
}

// typeOf is how the reference names a Go type.
func typeOf(t reflect.Type) string {
	switch k := t.Kind(); {
	case k == reflect.Pointer && t != reflect.TypeFor[*hcl.Attribute]():
		return typeOf(t.Elem())
	case k == reflect.String:
		return "string"
	case k == reflect.Bool:
		return "bool"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "int"
	case k == reflect.Float32, k == reflect.Float64:
		return "number"
	case k == reflect.Slice:
		return "list(" + typeOf(t.Elem()) + ")"
	case k == reflect.Map:
		return "map(" + typeOf(t.Elem()) + ")"
	}
	return "any"
}

// literal is the HCL of a default value.
func literal(v reflect.Value) string {
	switch k := v.Kind(); {
	case k == reflect.Pointer, k == reflect.Interface:
		if v.IsNil() {
			return ""
		}
		return literal(v.Elem())
	case k == reflect.String:
		return hclString(v.String())
	case k == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case k == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case k == reflect.Map:
		var parts []string
		for _, key := range v.MapKeys() {
			parts = append(parts, hclString(key.String())+" = "+literal(v.MapIndex(key)))
		}
		slices.Sort(parts)
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return ""
}

func hclString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strings.TrimSpace(b.String()))
}

// example reads a connector's example, which must load, use it and pass the check, and
// takes out of it what is about this connector.
func (b *builder) example(path string, kind config.Kind, name string, check func(*config.Use) error) string {
	src, err := os.ReadFile(path)
	if err != nil {
		b.fail("%s %s has no example: %w", kind, name, err)
		return ""
	}
	rel, err := filepath.Rel(b.root, path)
	if err != nil {
		rel = path
	}
	// Examples may read any environment variable.
	env := func(string) (string, bool) { return "1", true }
	c, ds := config.ParseFiles([]config.File{{Name: filepath.ToSlash(rel), Src: src}}, config.Options{Env: env, Known: b.known, Older: snowbridge.Older})
	if err := ds.Err(); err != nil {
		b.fail("%s %s: its example does not load:\n%w", kind, name, err)
		return ""
	}
	used := []*config.Use{c.Store.Use}
	for _, p := range c.Pipelines {
		used = append(used, p.Uses()...)
	}
	found := false
	for _, u := range used {
		if u.Kind != kind || u.Name != name || u.Body == nil {
			continue
		}
		found = true
		if err := check(u); err != nil {
			b.fail("%s %s: its example is refused:\n%w", kind, name, err)
		}
	}
	if !found {
		b.fail("%s %s: its example %s does not use it", kind, name, filepath.ToSlash(rel))
	}
	return excerpt(src, name)
}
