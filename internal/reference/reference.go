// Package reference is the reference of every connector and config block: what commands
// show, what docs/reference holds, and the JSON schema of the config.
//
// All of it is made by [Generate] from the connectors themselves: the comment of a config
// struct's field is its documentation, the hcl tag its syntax, the default config its
// default. The result is kept in reference.json, which is embedded, so a running binary
// needs no source. A test generates it again and fails when anything is stale; go
// generate writes it.
//
// # Invariants
//
//   - An option without documentation, or a connector without a summary or an example
//     that loads, fails the generator.
//   - The same source gives the same bytes.
//   - Every file the generator wrote carries a mark; one with the mark that it would not
//     write is stale.
package reference

//go:generate go test -run ^Test(GeneratedFilesAre|OpenAPIIs)Fresh$ . -update

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// The kinds of page beside config.KindSource and its like.
const (
	// KindConfig is the kind of the one page about top-level blocks, whose name is "config".
	KindConfig = "config"
	// KindStatsReceiver is the kind of the pages of what stats_receiver can use.
	KindStatsReceiver = "stats_receiver"
)

// Page is the reference of one connector, or of the top-level blocks.
type Page struct {
	// Kind is "source", "transform", "target", "store", "stats_receiver" or "config".
	Kind string `json:"kind"`
	// Name is what is written in use "name".
	Name string `json:"name"`
	// Summary is one sentence.
	Summary   string `json:"summary"`
	Stability string `json:"stability,omitempty"`
	// Options are in the order of the struct, those of a block after the block itself.
	Options []Option `json:"options"`
	// Minimal and Full are examples in HCL.
	Minimal string `json:"minimal,omitempty"`
	Full    string `json:"full,omitempty"`
	// Guides are the pages for people that speak of it.
	Guides []Guide `json:"guides,omitempty"`
}

// Option is one attribute or block.
type Option struct {
	// Path is the option's name after the names of the blocks it is in:
	// "batching.max_batch_bytes".
	Path string `json:"path"`
	// Type is "string", "int", "number", "bool", "any", "list(T)", "map(T)", "block" for
	// at most one block, "blocks" for any number of them, or "use" and "uses" for blocks
	// that choose a component by name.
	Type string `json:"type"`
	// Default is the default in HCL; "" when the option is required, or when leaving it
	// out means something that no value says.
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	// Label is what the name after a block's type stands for; "" for blocks without one.
	Label string `json:"label,omitempty"`
	// Open says that a block takes more than is listed: the options of a connector.
	Open bool `json:"open,omitempty"`
	// Scope is "pipeline" for top-level options that may also be in a pipeline block.
	Scope string `json:"scope,omitempty"`
	// Unit is the unit of an option that is a time, "milliseconds"; its value may be a duration
	// as text too, and then its name may be Plain.
	Unit  string `json:"unit,omitempty"`
	Plain string `json:"plain,omitempty"`
	Doc   string `json:"doc"`
}

// IsBlock reports whether o is written as a block.
func (o Option) IsBlock() bool {
	return o.Type == "block" || o.Type == "blocks" || o.Type == "use" || o.Type == "uses"
}

// Name is the last part of o's path.
func (o Option) Name() string { return o.Path[strings.LastIndexByte(o.Path, '.')+1:] }

// Block is the path of the block o is in; "" at the top.
func (o Option) Block() string {
	if i := strings.LastIndexByte(o.Path, '.'); i >= 0 {
		return o.Path[:i]
	}
	return ""
}

//go:embed reference.json
var embedded []byte

var pages = sync.OnceValue(func() []Page {
	var ps []Page
	if err := json.Unmarshal(embedded, &ps); err != nil {
		panic("reference.json: " + err.Error() + " (run go generate ./internal/reference)")
	}
	return ps
})

// Lookup finds the page of a kind and name.
func Lookup(kind, name string) (Page, bool) {
	for _, p := range pages() {
		if p.Kind == kind && p.Name == name {
			return p, true
		}
	}
	return Page{}, false
}

// Pages lists the pages of a kind in the order they are documented; every page when kind
// is "".
func Pages(kind string) []Page {
	return slices.DeleteFunc(slices.Clone(pages()), func(p Page) bool { return kind != "" && p.Kind != kind })
}

// Option finds an option of p by its path.
func (p Page) Option(path string) (Option, bool) {
	for _, o := range p.Options {
		if o.Path == path {
			return o, true
		}
	}
	return Option{}, false
}

// In lists the options of p directly in a block; those at the top for "".
func (p Page) In(block string) []Option {
	var out []Option
	for _, o := range p.Options {
		if o.Block() == block {
			out = append(out, o)
		}
	}
	return out
}
