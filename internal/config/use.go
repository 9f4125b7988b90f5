package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/weirdata/weir/internal/connector"
)

// Kind says which registry a component is looked up in.
type Kind string

// The kinds of component.
const (
	KindSource        Kind = "source"
	KindTransform     Kind = "transform"
	KindTarget        Kind = "target"
	KindStatsReceiver Kind = "stats_receiver"
	KindStore         Kind = "store"
)

// Use is a component chosen by name: use "kafka" { ... }. Its body stays undecoded,
// with the environment its expressions are evaluated in, until the connector of that
// name decodes it.
type Use struct {
	// Name of the component.
	Name string `hcl:"name,label"`
	// Body is the undecoded content; nil when the use is a default that no file wrote.
	Body hcl.Body `hcl:",remain"`
	// DefRange is where the use's header is.
	DefRange hcl.Range `hcl:",def_range"`
	// NameRange is where the name is.
	NameRange hcl.Range `hcl:"name,label_range"`

	// Kind says what is used.
	Kind Kind
	// Block is the block the use is in: "source", "transform", "target",
	// "failure_target", "filter_target", "backup_target" or "stats_receiver".
	Block string
	// Pipeline is the name of the pipeline; empty for a use outside of one.
	Pipeline string
	// Index counts the uses of one block from 0.
	Index int

	// Other is the config struct of the connector of the other kind that has the same name, where
	// there is one: of a source for a target, and the other way round. An option of it, written here,
	// is told for what it is.
	Other reflect.Type

	doc      *document
	fallback hcl.Range // the place of its pipeline
	implied  bool      // no file wrote it: what a block stands for
}

// Dir is the directory of the file u is in; relative paths in its body mean from there.
func (u *Use) Dir() string {
	if r := u.place(); r.Filename != "" {
		return filepath.Dir(r.Filename)
	}
	return ""
}

// Implied reports whether u is part of what a block stands for, and written nowhere.
func (u *Use) Implied() bool { return u.implied }

// String names u's place in the config: pipeline "default", target "kafka".
func (u *Use) String() string {
	s := fmt.Sprintf("%s %q", u.Block, u.Name)
	if u.Pipeline != "" {
		s = fmt.Sprintf("pipeline %q, %s", u.Pipeline, s)
	}
	return s
}

// Position is where u is written, as file:line:column; the place of its pipeline when it
// is a default that no file wrote, and empty for the built-in default config.
func (u *Use) Position() string {
	if r := u.place(); r.Filename != "" {
		return position(r)
	}
	return ""
}

// Decode sets what u's body says on into, a pointer to a connector's config struct that
// holds the defaults already. Blocks that are left out keep what into has; partial
// blocks keep the rest. An optional block whose pointer is nil in into, or a repeated
// one, starts from its zero value, or from what its method SetDefaults() sets.
//
// The struct is then validated if it is a [connector.Validator]. The error is a
// [Diagnostics]: what is wrong, each at the attribute or block it is about.
func (u *Use) Decode(into any) error {
	if err := u.Check(into); err != nil {
		return err
	}
	d := u.document()
	return d.decodeUse(u, u.body(), into).Sorted(d.names()...).Err()
}

// Check is the part of [Use.Decode] before decoding: it reports what the struct that into
// points to does not allow, and leaves into as it is.
func (u *Use) Check(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decode %s: want a pointer to a struct, not %T", u, into)
	}
	d := u.document()
	c := &checker{doc: d}
	at := place{name: fmt.Sprintf("use %q", u.Name), header: u.place()}
	if u.Other != nil {
		at.other, at.kind, at.otherKind = schemaOf(u.Other), KindTarget, KindSource
		if u.Kind == KindSource {
			at.kind, at.otherKind = KindSource, KindTarget
		}
	}
	c.body(u.body(), schemaOf(v.Elem().Type()), at)
	return c.ds.Sorted(d.names()...).Err()
}

// decodeUse is decode, with what Snowbridge says before a problem of a target's batching.
func (d *document) decodeUse(u *Use, body *hclsyntax.Body, into any) Diagnostics {
	if u.Kind != KindTarget {
		return d.decode(body, into, u.place())
	}
	return d.decode(body, into, u.place(), func(p *connector.Problem) {
		const invalid = "target has invalid batching configuration"
		if strings.HasPrefix(p.Field, "batching") && !strings.Contains(p.What, invalid) {
			p.What = fmt.Sprintf("%s %s: %s", u.Name, invalid, p.What)
		}
	})
}

// Diagnose makes diagnostics of an error that arose from u after decoding, at the place
// of u: when its connector could not be built, for instance. One that blames an attribute
// ([connector.Misconfigured]) is placed there. Errors that are diagnostics already stay as
// they are. Hidden values are taken out of the text.
func (u *Use) Diagnose(err error) Diagnostics {
	if err == nil {
		return nil
	}
	if ds, ok := errors.AsType[Diagnostics](err); ok {
		return ds
	}
	d := u.document()
	p := connector.Problem{What: fmt.Sprintf("%s: %s", u, err)}
	if m, ok := errors.AsType[*connector.Misconfigured](err); ok {
		p.Field, p.Fix = m.Field, m.Fix
	}
	return Diagnostics{d.problem(u.body(), u.place(), p, d.hiddenValues(u.body()))}
}

// Warn is a warning about u, at its place.
func (u *Use) Warn(what string) Diagnostic {
	d := u.document()
	w := d.problem(u.body(), u.place(), connector.Problem{What: what}, d.hiddenValues(u.body()))
	w.Severity = Warning
	return w
}

// Doubt is a warning about an option of u, or about u where the option is not written.
func (u *Use) Doubt(p connector.Problem) Diagnostic {
	d := u.document()
	p.What = fmt.Sprintf("%s: %s", u, p.What)
	w := d.problem(u.body(), u.place(), p, d.hiddenValues(u.body()))
	w.Severity = Warning
	return w
}

// Queue is the durable queue that u reads or writes; "" when it does neither, or when the name
// cannot be told.
func (u *Use) Queue() string {
	known := u.document().known.WriteQueue
	if u.Kind == KindSource {
		known = u.document().known.ReadQueue
	}
	return u.named(known)
}

// Machine is the machine that u starts executions of; "" when it does not, or when the name
// cannot be told.
func (u *Use) Machine() string {
	if u.Kind != KindTarget {
		return ""
	}
	return u.named(u.document().known.StartMachine)
}

// named is the value of the attribute that known has for u.
func (u *Use) named(known map[string]string) string {
	attribute, ok := known[u.Name]
	if !ok {
		return ""
	}
	name, _ := u.Attribute(attribute)
	return name
}

// Evaluate is the value of an expression in u's body, and what is wrong with it.
func (u *Use) Evaluate(e hclsyntax.Expression) (cty.Value, Diagnostics) {
	return u.document().value(e)
}

// Attribute is the value of an attribute of u's body as text, for what has to be known of a
// component before it is built. It is not there when it cannot be evaluated.
func (u *Use) Attribute(name string) (string, bool) {
	a, ok := u.body().Attributes[name]
	if !ok {
		return "", false
	}
	v, diags := a.Expr.Value(u.document().scope(a.SrcRange.Filename))
	if diags.HasErrors() || !v.IsWhollyKnown() || v.IsNull() {
		return "", false
	}
	v, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", false
	}
	return v.AsString(), true
}

func (u *Use) document() *document {
	if u.doc != nil {
		return u.doc
	}
	d := &document{env: os.LookupEnv}
	d.prepare()
	return d
}

// body is the syntax tree of u's body, empty for a default that no file wrote.
func (u *Use) body() *hclsyntax.Body {
	if b, ok := u.Body.(*hclsyntax.Body); ok {
		return b
	}
	return &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: u.place(), EndRange: u.place()}
}

// written reports whether a file has u, so that it is no default.
func (u *Use) written() bool { return u.DefRange.Start.Line > 0 }

// place is where u is written, or the place of its pipeline when no file wrote it.
func (u *Use) place() hcl.Range {
	if u.DefRange.Filename == "" {
		return u.fallback
	}
	return u.DefRange
}
