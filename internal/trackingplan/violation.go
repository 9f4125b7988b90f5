package trackingplan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// The types of violations.
const (
	Unplanned  = "Unplanned-Event"
	Additional = "Additional-Properties"
	Missing    = "Required-Missing"
	Datatype   = "Datatype-Mismatch"
	Advanced   = "Advance-Rules-Violation"
	Unknown    = "Unknown-Violation"
)

// Violation is one thing that a plan does not allow of an event.
type Violation struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Property string `json:"property,omitempty"`
	Meta     Place  `json:"meta"`
}

// Place is where a violation is, in the event and in the schema; empty where there is no schema.
type Place struct {
	Instance *string `json:"instancePath,omitempty"`
	Schema   string  `json:"schemaPath,omitempty"`
}

// violations are what is wrong with a value by a schema: in the words, the paths and, as far as a schema
// has one, the order of the validator that RudderStack uses.
func (r *rule) violations(v any) (all []Violation, err error) {
	defer func() {
		if x := recover(); x != nil {
			all, err = nil, fmt.Errorf("the validation failed: %v", x)
		}
	}()
	wrong := r.schema.Validate(v)
	if wrong == nil {
		return nil, nil
	}
	found, ok := wrong.(*jsonschema.ValidationError) //nolint:errorlint // what Validate returns is not wrapped
	if !ok {
		return nil, wrong
	}
	t := telling{doc: r.doc}
	t.all(found.Causes)
	return t.told, nil
}

type telling struct {
	doc  any
	told []Violation
}

// all tells of errors of one place in the schema, those of its own before those of parts of the value.
func (t *telling) all(errs []*jsonschema.ValidationError) {
	errs = slices.Clone(errs)
	slices.SortStableFunc(errs, func(a, b *jsonschema.ValidationError) int {
		return cmp.Or(slices.Compare(a.InstanceLocation, b.InstanceLocation), cmp.Compare(a.SchemaURL, b.SchemaURL))
	})
	for _, e := range errs {
		t.one(e)
	}
}

// one tells of an error. What it is because of comes before it.
func (t *telling) one(e *jsonschema.ValidationError) {
	at := path(e.SchemaURL)
	tell := func(kindOf, property, message string, keyword ...string) {
		instance := pointer(e.InstanceLocation)
		t.told = append(t.told, Violation{kindOf, message, property, Place{&instance, fragment(append(slices.Clone(at), keyword...))}})
	}
	// limit tells of a keyword whose value in the schema the message ends with.
	limit := func(keyword, message string) {
		tell(Advanced, "", fmt.Sprintf(message, t.value(at, keyword)), keyword)
	}
	defer t.conditional(e, at, len(t.told))
	if names, ok := e.ErrorKind.(*kind.PropertyNames); ok {
		t.propertyNames(e, names.KeywordPath(), &at)
	}
	t.all(e.Causes)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			tell(Missing, name, "must have required property '"+name+"'", "required")
		}
	case *kind.Type:
		tell(Datatype, "", "must be "+t.types(at, k.Want), "type")
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		for _, name := range k.Properties {
			tell(Additional, name, "must NOT have additional properties '"+name+"'", "additionalProperties")
		}
	case *kind.FalseSchema:
		t.never(e, at, tell)
	case *kind.MinLength:
		limit("minLength", "must NOT have fewer than %s characters")
	case *kind.MaxLength:
		limit("maxLength", "must NOT have more than %s characters")
	case *kind.MinItems:
		limit("minItems", "must NOT have fewer than %s items")
	case *kind.MaxItems:
		limit("maxItems", "must NOT have more than %s items")
	case *kind.Pattern:
		limit("pattern", "must match pattern \"%s\"")
	case *kind.Format:
		limit("format", "must match format \"%s\"")
	case *kind.MultipleOf:
		limit("multipleOf", "must be multiple of %s")
	case *kind.Minimum:
		limit("minimum", "must be >= %s")
	case *kind.Maximum:
		limit("maximum", "must be <= %s")
	case *kind.ExclusiveMinimum:
		limit(t.exclusive(at, "minimum", "exclusiveMinimum"), "must be > %s")
	case *kind.ExclusiveMaximum:
		limit(t.exclusive(at, "maximum", "exclusiveMaximum"), "must be < %s")
	case *kind.UniqueItems:
		tell(Advanced, "", fmt.Sprintf("must NOT have duplicate items (items ## %d and %d are identical)", k.Duplicates[0], k.Duplicates[1]), "uniqueItems")
	case *kind.Enum:
		tell(Advanced, "", "must be equal to one of the allowed values", "enum")
	case *kind.Group, *kind.Reference, *kind.AllOf, *kind.Schema: // what is wrong are their causes
	case *kind.AdditionalItems:
		list, _ := t.find(append(slices.Clone(at), "items")).([]any)
		tell(Unknown, "", fmt.Sprintf("must NOT have more than %d items", len(list)), "additionalItems")
	default:
		other(e, func(message string, keyword ...string) { tell(Unknown, "", message, keyword...) }, t.value(at, e.ErrorKind.KeywordPath()...))
	}
}

// propertyNames has an error of a property's name be where the object is, as its causes.
func (t *telling) propertyNames(e *jsonschema.ValidationError, keyword []string, at *[]string) {
	if n := len(*at) - len(keyword); n >= 0 {
		*at = (*at)[:n]
	}
	var move func([]*jsonschema.ValidationError)
	move = func(errs []*jsonschema.ValidationError) {
		for _, x := range errs {
			x.InstanceLocation = e.InstanceLocation
			move(x.Causes)
		}
	}
	move(e.Causes)
}

// other tells of keywords that have no type of their own.
func other(e *jsonschema.ValidationError, tell func(message string, keyword ...string), value string) {
	needed := func(keyword, property string, missing []string) {
		for range missing {
			what := "properties"
			if len(missing) == 1 {
				what = "property"
			}
			tell(fmt.Sprintf("must have %s %s when property %s is present", what, strings.Join(missing, ", "), property), keyword)
		}
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf:
		tell("must match a schema in anyOf", "anyOf")
	case *kind.OneOf:
		tell("must match exactly one schema in oneOf", "oneOf")
	case *kind.Not:
		tell("must NOT be valid", "not")
	case *kind.Const:
		tell("must be equal to constant", "const")
	case *kind.PropertyNames:
		tell("property name must be valid", "propertyNames")
	case *kind.Contains:
		tell("must contain at least 1 valid item(s)", "contains")
	case *kind.MinContains:
		tell("must contain at least "+value+" valid item(s)", "contains")
	case *kind.MaxContains:
		tell("must contain no more than "+value+" valid item(s)", "contains")
	case *kind.MinProperties:
		tell("must NOT have fewer than "+value+" properties", "minProperties")
	case *kind.MaxProperties:
		tell("must NOT have more than "+value+" properties", "maxProperties")
	case *kind.Dependency:
		needed("dependencies", k.Prop, k.Missing)
	case *kind.DependentRequired:
		needed("dependentRequired", k.Prop, k.Missing)
	default:
		tell("must be valid", e.ErrorKind.KeywordPath()...)
	}
}

// neverKeyword is what a schema that allows nothing is called in a path, which is no name of a member.
const neverKeyword = "false schema"

// never tells of a schema that allows nothing: of what is not evaluated, it is the property's fault.
func (t *telling) never(e *jsonschema.ValidationError, at []string, tell func(kind, property, message string, keyword ...string)) {
	last := ""
	if len(at) > 0 {
		last = at[len(at)-1]
	}
	n := len(e.InstanceLocation)
	if last != "unevaluatedProperties" || n == 0 || t.named(at) {
		tell(Unknown, "", "boolean schema is false", neverKeyword)
		return
	}
	name, instance := e.InstanceLocation[n-1], pointer(e.InstanceLocation[:n-1])
	t.told = append(t.told, Violation{Additional, "must NOT have unevaluated properties '" + name + "'", name, Place{&instance, fragment(at)}})
}

// conditional tells, once after the errors of a "then" or "else", that the condition before it holds.
func (t *telling) conditional(e *jsonschema.ValidationError, at []string, from int) {
	n := len(at)
	if n == 0 || len(t.told) == from || (at[n-1] != "then" && at[n-1] != "else") || t.named(at) {
		return
	}
	if t.find(append(slices.Clone(at[:n-1]), "if")) == nil {
		return
	}
	instance := pointer(e.InstanceLocation)
	v := Violation{Advanced, "must match \"" + at[n-1] + "\" schema", "", Place{&instance, fragment(append(slices.Clone(at[:n-1]), "if"))}}
	t.told = append(t.told, v)
}

// named reports whether the end of a path is the name of a property and no keyword.
func (t *telling) named(at []string) bool {
	n := len(at)
	if n < 2 || !slices.Contains([]string{"properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"}, at[n-2]) {
		return false
	}
	return n == 2 || !t.named(at[:n-1])
}

// find is what is at a path of the schema; nil when nothing is.
func (t *telling) find(at []string) any {
	v := t.doc
	for _, name := range at {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// value is the value of a keyword as text.
func (t *telling) value(at []string, keyword ...string) string {
	switch v := t.find(append(slices.Clone(at), keyword...)).(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

// types is the types that a schema wants, in its order.
func (t *telling) types(at, want []string) string {
	list, ok := t.find(append(slices.Clone(at), "type")).([]any)
	if !ok {
		return strings.Join(want, ",")
	}
	var names []string
	for _, x := range list {
		names = append(names, fmt.Sprint(x))
	}
	return strings.Join(names, ",")
}

// exclusive is the keyword that a bound is written with: in draft 4 the plain one.
func (t *telling) exclusive(at []string, plain, keyword string) string {
	if _, boolean := t.find(append(slices.Clone(at), keyword)).(bool); boolean {
		return plain
	}
	return keyword
}

// path is the place in the schema that an address names.
func path(address string) []string {
	_, f, _ := strings.Cut(address, "#")
	if f, _ = strings.CutPrefix(f, "/"); f == "" {
		return nil
	}
	all := strings.Split(f, "/")
	for i, s := range all {
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		all[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return all
}

var escaping = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(names []string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteByte('/')
		b.WriteString(escaping.Replace(n))
	}
	return b.String()
}

// fragment is a path as the part of an address behind "#", with it.
func fragment(names []string) string {
	var b strings.Builder
	b.WriteByte('#')
	for _, n := range names {
		b.WriteByte('/')
		if n == "$defs" || n == neverKeyword {
			b.WriteString(n)
			continue
		}
		for _, c := range []byte(escaping.Replace(n)) {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()", c) >= 0 {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
	}
	return b.String()
}
