package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Describe is the description of routes as OpenAPI 3.1.
func Describe(routes []Route) ([]byte, error) {
	d := describer{schemas: map[string]any{}}
	paths := map[string]map[string]any{}
	for i := range routes {
		r := &routes[i]
		if r.Summary == "" {
			continue
		}
		path := regexp.MustCompile(`\{(\w+)\.\.\.\}`).ReplaceAllString(r.Path, "{$1}")
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(r.Method)] = d.operation(r, path)
	}
	d.of(reflect.TypeFor[Problem]())
	return json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{"title": "Weir, for operators", "version": "1",
			"description": "What operators see and do, below the address and path of the admin block. A list goes on where it is asked for with the value that the answer had as next; what such a value is made of may change."},
		"paths": paths,
		"components": map[string]any{"schemas": d.schemas,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}}},
	}, "", "  ")
}

type describer struct{ schemas map[string]any }

var inPath = regexp.MustCompile(`\{(\w+)\}`)

func (d *describer) operation(r *Route, path string) map[string]any {
	kind := r.Kind
	ok := map[string]any{"description": "It is so."}
	switch {
	case r.Answer != nil:
		if kind == "" {
			kind = "application/json"
		}
		ok["content"] = map[string]any{kind: map[string]any{"schema": d.of(reflect.TypeOf(r.Answer))}}
	case kind != "":
		ok["content"] = map[string]any{kind: map[string]any{}}
	}
	status := "200"
	if r.Answer == nil && kind == "" {
		status = "204"
	}
	op := map[string]any{"summary": r.Summary, "responses": map[string]any{status: ok,
		"default": map[string]any{"description": "It was refused, or failed.", "content": map[string]any{"application/problem+json": map[string]any{"schema": ref("Problem")}}}}}
	var parameters []any
	for _, m := range inPath.FindAllStringSubmatch(path, -1) {
		parameters = append(parameters, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, p := range r.Query {
		parameters = append(parameters, map[string]any{"name": p.Name, "in": "query", "description": p.Doc, "schema": map[string]any{"type": "string"}})
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if r.Body != nil && r.Method != http.MethodGet {
		op["requestBody"] = map[string]any{"required": true, "content": map[string]any{"application/json": map[string]any{"schema": d.of(reflect.TypeOf(r.Body))}}}
	}
	if r.Right > Open {
		op["security"] = []any{map[string]any{"token": []string{}}}
		op["description"] = "Needs the right \"" + max(r.Right, See).String() + "\"."
	}
	return op
}

func ref(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }

// of is the schema of what a type is as JSON.
func (d *describer) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case t.Kind() == reflect.Pointer:
		return d.of(t.Elem())
	case t.Implements(reflect.TypeFor[json.Marshaler]()), reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()):
		return map[string]any{"description": "A text, or {\"base64\": \"...\"} where that is not UTF-8; events' headers are a list of them."}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "format": "byte"}
		}
		return map[string]any{"type": "array", "items": d.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.Struct:
		return d.object(t)
	}
	return map[string]any{"type": "string"}
}

func (d *describer) object(t reflect.Type) map[string]any {
	name := strings.ToUpper(t.Name()[:min(1, len(t.Name()))]) + t.Name()[min(1, len(t.Name())):]
	if _, known := d.schemas[name]; known && name != "" {
		return ref(name)
	}
	properties := map[string]any{}
	out := map[string]any{"type": "object", "properties": properties}
	if name != "" {
		d.schemas[name] = out
	}
	d.members(t, properties)
	if name == "" {
		return out
	}
	return ref(name)
}

func (d *describer) members(t reflect.Type, into map[string]any) {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "":
			d.members(f.Type, into)
		case !f.IsExported() || tag == "-":
		case tag == "":
			into[f.Name] = d.of(f.Type)
		default:
			into[tag] = d.of(f.Type)
		}
	}
}
