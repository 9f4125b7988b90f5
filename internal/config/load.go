package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Options are what reading a config depends on beside its files.
type Options struct {
	// Env looks up an environment variable; nil means os.LookupEnv.
	Env func(name string) (string, bool)
	// Known names the connectors there are. A kind without names is not checked.
	Known Known
	// Decode decodes a use of a known connector to find what is wrong with it, so that
	// one reading of a config finds everything; nil leaves that to its connector. The
	// error is that of [Use.Decode].
	Decode func(*Use) error
	// Older reads older forms; nil reads the present one only.
	Older Older
}

// Older turns older forms of a config into the present one.
type Older interface {
	// Modernize rewrites the syntax tree of a file in place, and says what it found: a
	// warning for each older form, an error for one that cannot be read. It keeps what it
	// takes from a hidden part of the text hidden, by [Syntax.Hide].
	Modernize(*Syntax) Diagnostics
	// Environment is the config file, in the present form, that environment variables stand
	// for when no file is named. Without a text and without errors they are no config. The
	// name stands for that of the file in diagnostics.
	Environment(env func(name string) (string, bool)) (name string, src []byte, ds Diagnostics)
}

// Known names the connectors of each kind.
type Known struct {
	Sources, Transforms, Targets, Stores []string
	// ReadQueue and WriteQueue are the sources and targets that read or write a durable queue,
	// each with the attribute that names it.
	ReadQueue, WriteQueue map[string]string
	// StartMachine is the targets that start executions of a machine, each with the attribute
	// that names it.
	StartMachine map[string]string
	// Whole is the targets that hold messages of any size; nil: all do.
	Whole []string
}

// File is a config file in memory. Name is used in diagnostics, and its directory in
// [Use.Dir].
type File struct {
	Name string
	Src  []byte
}

// Load reads the files and directories at paths as one config; of a directory, every
// file *.hcl in it, in the order of names. Without paths it is what the environment says
// (see [Older]), or else the built-in default: one pipeline from stdin to stdout. The
// Config is nil exactly when the diagnostics hold an error; they may hold warnings in any
// case.
func Load(paths []string, o Options) (*Config, Diagnostics) {
	if len(paths) == 0 && o.Older != nil {
		if cfg, ds, ok := loadEnvironment(o); ok {
			return cfg, ds
		}
	}
	files, ds := Read(paths)
	if ds.HasErrors() {
		return nil, ds
	}
	return ParseFiles(files, o)
}

// loadEnvironment reads the config that environment variables are; ok is false when they
// are none.
func loadEnvironment(o Options) (cfg *Config, ds Diagnostics, ok bool) {
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	name, src, ds := o.Older.Environment(o.Env)
	if src == nil {
		return nil, ds, ds.HasErrors()
	}
	cfg, more := ParseFiles([]File{{Name: name, Src: src}}, o)
	if cfg != nil {
		cfg.Files, cfg.Dir, cfg.doc = nil, "", nil
	}
	return cfg, append(ds, more...), true
}

// Parse reads one config file in memory. A nil env means os.LookupEnv.
func Parse(filename string, src []byte, env func(name string) (string, bool)) (*Config, Diagnostics) {
	return ParseFiles([]File{{Name: filename, Src: src}}, Options{Env: env})
}

// ParseFiles reads files as one config.
func ParseFiles(files []File, o Options) (*Config, Diagnostics) {
	d := &document{env: o.Env, known: o.Known, decodeWith: o.Decode}
	if d.env == nil {
		d.env = os.LookupEnv
	}
	var ds Diagnostics
	for _, f := range files {
		ds = append(ds, d.parse(f.Name, f.Src)...)
	}
	if ds.HasErrors() {
		return nil, ds.Sorted(d.names()...)
	}
	if o.Older != nil {
		for _, f := range d.files {
			ds = append(ds, o.Older.Modernize(f)...)
		}
	}
	d.prepare()
	ds = append(ds, d.expand()...)
	c, more := d.build()
	ds = append(ds, more.without(ds.Errors())...).Sorted(d.names()...)
	if ds.HasErrors() {
		return nil, ds
	}
	c.Files = d.names()
	if len(c.Files) > 0 {
		c.Dir = filepath.Dir(c.Files[0])
	}
	return c, ds
}

// Read reads the files at paths, and of a directory every file *.hcl in it.
func Read(paths []string) ([]File, Diagnostics) {
	var files []File
	var ds Diagnostics
	var seen []fs.FileInfo
	fail := func(path, what, fix string) {
		ds = append(ds, Diagnostic{Severity: Error, File: path, What: what, Fix: fix})
	}
	for _, path := range paths {
		names, err := filesAt(path)
		if err != nil {
			fail(path, "cannot be read: "+reason(err), "check the path and its permissions")
			continue
		}
		if len(names) == 0 {
			fail(path, "the directory holds no file whose name ends in .hcl", "name a file, or another directory")
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err == nil && info.Size() > maxFileBytes {
				err = fmt.Errorf("it has %d bytes, and at most %d are read", info.Size(), maxFileBytes)
			}
			var src []byte
			if err == nil {
				src, err = os.ReadFile(name)
			}
			if err != nil {
				fail(name, "cannot be read: "+reason(err), "check the file and its permissions")
				continue
			}
			if slices.ContainsFunc(seen, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
				fail(name, "the file is given twice", "name it once, either by itself or by its directory")
				continue
			}
			seen = append(seen, info)
			files = append(files, File{Name: name, Src: src})
		}
	}
	return files, ds
}

// filesAt is path itself, or the config files in it when it is a directory.
func filesAt(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if filepath.Ext(name) != ".hcl" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		// Stat follows links: a mounted ConfigMap is a directory of links.
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// reason is err without the operation and path, which the diagnostic names already.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return err.Error()
}

// build checks and decodes the merged files.
func (d *document) build() (*Config, Diagnostics) {
	root, ds := d.merge()
	c := &checker{doc: d}
	whole := union(processType, pipelineType)
	whole.blocks["pipeline"] = blockField{labels: []string{"name"}, many: true, typ: pipelineType}
	whole.order = append(whole.order, "pipeline")
	c.body(root, whole, place{header: root.SrcRange})
	ds = append(ds, c.ds...)
	ds = append(ds, d.uses(root, DefaultPipeline)...)
	if ds = append(ds, d.functionUses(root)...); ds.HasErrors() {
		return nil, ds
	}

	cfg := &Config{doc: d}
	cfg.Process.SetDefaults()
	ds = append(ds, d.decode(part(root, schemaOf(processType)), &cfg.Process, root.SrcRange)...)
	ds = append(ds, d.bindProcess(&cfg.Process)...)
	ds = append(ds, d.queueNames(root)...)
	ds = append(ds, d.machines(root, &cfg.Process)...)
	ds = append(ds, d.workspaces(root, &cfg.Process)...)

	named := slices.DeleteFunc(slices.Clone(root.Blocks), func(b *hclsyntax.Block) bool { return b.Type != "pipeline" })
	top := part(root, schemaOf(pipelineType))
	cfg.Empty = len(named)+len(top.Blocks)+len(top.Attributes) == 0
	if len(named) == 0 || len(top.Blocks)+len(top.Attributes) > 0 {
		stray := d.strayDefault(top, named)
		if ds = append(ds, stray...); len(stray) == 0 {
			ds = append(ds, d.addPipeline(cfg, DefaultPipeline, false, top, firstOf(top, root.SrcRange))...)
		}
	}
	for _, b := range named {
		ds = append(ds, d.pipelineName(b, cfg, top)...)
		ds = append(ds, d.addPipeline(cfg, b.Labels[0], true, b.Body, HeaderOf(b))...)
	}
	cfg.overflow()
	return cfg, append(ds, d.sharedStdin(cfg)...)
}

var (
	processType  = reflect.TypeFor[Process]()
	pipelineType = reflect.TypeFor[Pipeline]()
)

// merge makes one body of all files.
func (d *document) merge() (*hclsyntax.Body, Diagnostics) {
	var ds Diagnostics
	root := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}
	for i, f := range d.files {
		if i == 0 {
			root.SrcRange, root.EndRange = startOf(f.Name), f.Body.EndRange
		}
		for _, a := range InOrder(f.Body.Attributes) {
			if other := root.Attributes[a.Name]; other != nil {
				ds = append(ds, d.errorAt(a.NameRange,
					fmt.Sprintf("%s is set twice; the other one is at %s", a.Name, position(other.NameRange)), "keep one of the two"))
				continue
			}
			root.Attributes[a.Name] = a
		}
		root.Blocks = append(root.Blocks, f.Body.Blocks...)
	}
	return root, ds
}

// part is the attributes and blocks of b that s allows.
func part(b *hclsyntax.Body, s *schema) *hclsyntax.Body {
	p := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: b.SrcRange, EndRange: b.EndRange}
	for name, a := range b.Attributes {
		if _, ok := s.attributes[name]; ok {
			p.Attributes[name] = a
		}
	}
	for _, block := range b.Blocks {
		if _, ok := s.blocks[block.Type]; ok {
			p.Blocks = append(p.Blocks, block)
		}
	}
	return p
}

// firstOf is where the content of b starts, or the given place when it has none.
func firstOf(b *hclsyntax.Body, otherwise hcl.Range) hcl.Range {
	if len(b.Blocks) > 0 {
		return HeaderOf(b.Blocks[0])
	}
	if as := InOrder(b.Attributes); len(as) > 0 {
		return as[0].NameRange
	}
	return otherwise
}

// strayDefault refuses top-level settings of a pipeline "default" that nobody meant to
// have: beside named pipelines, without a source or target of its own.
func (d *document) strayDefault(top *hclsyntax.Body, named []*hclsyntax.Block) Diagnostics {
	if len(named) == 0 || slices.ContainsFunc(top.Blocks, func(b *hclsyntax.Block) bool { return b.Type == "source" || b.Type == "target" }) {
		return nil
	}
	r := firstOf(top, top.SrcRange)
	return Diagnostics{d.errorAt(r,
		fmt.Sprintf("%s outside of a pipeline block belongs to the pipeline %q, which has no source and no target here", d.text(r), DefaultPipeline),
		"move it into the pipeline blocks it is meant for")}
}

// addPipeline decodes a pipeline's blocks into cfg.
func (d *document) addPipeline(cfg *Config, name string, named bool, b *hclsyntax.Body, header hcl.Range) Diagnostics {
	p := &Pipeline{}
	p.SetDefaults()
	ds := d.decode(b, p, header)
	p.Name, p.named, p.doc, p.body, p.header = name, named, d, b, header
	if len(d.files) > 0 {
		p.dir = filepath.Dir(cmpOr(header.Filename, d.files[0].Name))
	}
	cfg.Pipelines = append(cfg.Pipelines, p)
	ds = append(ds, d.resolveRetry(b, header, p)...)
	return append(ds, d.bindPipeline(p, b, header)...)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var pipelineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (d *document) pipelineName(b *hclsyntax.Block, cfg *Config, top *hclsyntax.Body) Diagnostics {
	name, r := b.Labels[0], b.LabelRanges[0]
	if !pipelineName.MatchString(name) {
		return Diagnostics{d.errorAt(r, "this is not a name for a pipeline", `use letters, digits, "_", "-" and ".", starting with a letter or digit; at most 64 characters`)}
	}
	if _, ok := cfg.Pipeline(name); !ok {
		return nil
	}
	other := firstOf(top, r)
	for _, f := range d.files {
		for _, x := range f.Body.Blocks {
			if x.Type == "pipeline" && x != b && x.Labels[0] == name {
				other = x.LabelRanges[0]
			}
		}
	}
	if name == DefaultPipeline && len(top.Blocks)+len(top.Attributes) > 0 {
		return Diagnostics{d.errorAt(r, fmt.Sprintf("the blocks outside of a pipeline block are the pipeline %q already; they start at %s", name, position(firstOf(top, r))),
			"give this one another name, or move the other blocks into it")}
	}
	return Diagnostics{d.errorAt(r, fmt.Sprintf("there is another pipeline %q, at %s", name, position(other)), "give one of the two another name")}
}

// queueNames refuses queues whose name is none, and a second queue of one name.
func (d *document) queueNames(root *hclsyntax.Body) Diagnostics {
	return d.blockNames(BlocksOf(root, "queue"), "queue")
}

// sharedStdin refuses a second pipeline that reads stdin: each would get some lines.
func (d *document) sharedStdin(cfg *Config) Diagnostics {
	var ds Diagnostics
	var first *Pipeline
	for _, p := range cfg.Pipelines {
		switch {
		case p.Source.Use.Name != "stdin":
		case first == nil:
			first = p
		default:
			ds = append(ds, d.errorAt(p.Source.Use.place(),
				fmt.Sprintf("the pipeline %q reads stdin, and so does the pipeline %q: each would get a part of the lines", p.Name, first.Name),
				"give one of the two a source of its own: source with use \"...\" { ... } in it"))
		}
	}
	return ds
}
