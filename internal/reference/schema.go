package reference

import (
	"encoding/json"
	"fmt"
	"strings"
)

// node is one JSON Schema. Objects of encoding/json are written in the order of names,
// so the same pages give the same bytes.
type node = map[string]any

// schema is the JSON Schema (draft 2020-12) of a config in the JSON form that editors
// and tools use for HCL: a block is an object, a block with a name an object with that
// name as its key, and a repeatable block a list.
func schema(ps []Page) ([]byte, error) {
	defs := node{"expression": node{
		"type": "string", "pattern": `\$\{`,
		"description": "An HCL expression in a string, such as \"${env.NAME}\".",
	}, "duration": node{
		"type": "string", "pattern": `^([0-9]+d)?([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))*$`, "minLength": 2,
		"description": "A time with its units, such as \"10s\", \"1.5h\" or \"1d12h\".",
	}}
	for _, kind := range []string{"source", "transform", "target", "store", KindStatsReceiver} {
		names := node{}
		for _, p := range ps {
			if p.Kind != kind {
				continue
			}
			o := object(p.Options, "", kind)
			o["description"] = p.Summary
			if p.Stability == "deprecated" {
				o["deprecated"] = true
			}
			defs[kind+"."+p.Name] = o
			names[p.Name] = ref(kind + "." + p.Name)
		}
		defs["use."+kind] = node{
			"type": "object", "properties": names, "additionalProperties": false,
			"minProperties": 1, "maxProperties": 1,
		}
	}
	pipeline, process := split(ps[0])
	defs["pipeline"] = object(pipeline.Options, "", "")
	root := object(append(append([]Option{}, pipeline.Options...), process.Options...), "", "")
	root["properties"].(node)["pipeline"] = node{
		"type": "object", "additionalProperties": ref("pipeline"),
		"propertyNames": node{"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
		"description":   mustOption(ps[0], "pipeline").Doc,
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Weir config"
	root["$comment"] = "Generated from the config structs by go generate ./internal/reference. Do not edit."
	root["$defs"] = defs
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write the JSON schema: %w", err)
	}
	return []byte(b.String()), nil
}

func mustOption(p Page, path string) Option {
	o, ok := p.Option(path)
	if !ok {
		panic("reference: the page " + p.Name + " has no option " + path)
	}
	return o
}

func ref(def string) node { return node{"$ref": "#/$defs/" + def} }

// object is the schema of the options in a block.
func object(options []Option, block, kind string) node {
	properties := node{}
	var required []string
	for _, o := range options {
		if o.Block() != block {
			continue
		}
		// Over the shorter name of a time that is called alike.
		properties[o.Name()] = property(options, o, kind)
		if o.Unit != "" && !o.Required && properties[o.Plain] == nil {
			properties[o.Plain] = node{"anyOf": []any{ref("duration"), ref("expression")}, "description": o.Doc}
		}
		if o.Required {
			required = append(required, o.Name())
		}
	}
	n := node{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		n["required"] = required
	}
	return n
}

func property(options []Option, o Option, kind string) node {
	var n node
	switch o.Type {
	case "block":
		n = object(options, o.Path, kind)
	case "blocks":
		n = node{"type": "array", "items": object(options, o.Path, kind)}
	case "use":
		n = ref("use." + usedKind(o))
	case "uses":
		n = node{"type": "array", "items": ref("use." + usedKind(o))}
	default:
		n = value(o.Type)
		if o.Unit != "" {
			n["anyOf"] = append(n["anyOf"].([]any), ref("duration"))
		}
		if v, ok := jsonDefault(o.Default); ok {
			n["default"] = v
		}
	}
	if n["description"] = o.Doc; o.Open {
		delete(n, "additionalProperties")
	}
	return n
}

// usedKind is the kind of component that a use block chooses from, by the block it is in.
func usedKind(o Option) string {
	b := o.Block()
	switch b = b[strings.LastIndexByte(b, '.')+1:]; b {
	case "failure_target", "filter_target", "backup_target":
		return "target"
	default:
		return b
	}
}

// value is the schema of an attribute's value.
func value(typ string) node {
	or := func(n node) node { return node{"anyOf": []any{n, ref("expression")}} }
	switch {
	case typ == "string":
		return node{"type": "string"}
	case typ == "int":
		return or(node{"type": "integer"})
	case typ == "number":
		return or(node{"type": "number"})
	case typ == "bool":
		return or(node{"type": "boolean"})
	case strings.HasPrefix(typ, "list("):
		return or(node{"type": "array", "items": value(strings.TrimSuffix(strings.TrimPrefix(typ, "list("), ")"))})
	case strings.HasPrefix(typ, "map("):
		return or(node{"type": "object", "additionalProperties": value(strings.TrimSuffix(strings.TrimPrefix(typ, "map("), ")"))})
	}
	return node{}
}

// jsonDefault is a default that is written alike in HCL and JSON.
func jsonDefault(hcl string) (any, bool) {
	if hcl == "" {
		return nil, false
	}
	var v any
	d := json.NewDecoder(strings.NewReader(hcl))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, false
	}
	return v, true
}
