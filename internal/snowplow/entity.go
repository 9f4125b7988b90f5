package snowplow

import (
	"fmt"

	"github.com/weirdata/weir/internal/jsontext"
)

// Entity is one self-describing datum of an event.
type Entity struct {
	Schema string // "iglu:com.acme/page/jsonschema/1-0-0"
	Name   string // shredded name: "contexts_com_acme_page_1"
	Data   string // JSON text: an object, or null

	spaced bool // Data holds white space outside strings
}

// Contexts lists the entities of the contexts field and those of derived_contexts, in
// their order. An error names the field whose JSON is invalid. The slices are the
// event's own.
func (e *Event) Contexts() (contexts, derived []Entity, err error) {
	if !e.shredded {
		if err := e.shred(); err != nil {
			return nil, nil, err
		}
	}
	return e.entities[:e.derivedAt:e.derivedAt], e.entities[e.derivedAt:], nil
}

func (e *Event) shred() error {
	list, err := appendEntities(e.few[:0], e.Raw(contextsField))
	if err != nil {
		return fieldError(contextsField, err)
	}
	at := len(list)
	if list, err = appendEntities(list, e.Raw(derivedField)); err != nil {
		return fieldError(derivedField, err)
	}
	e.entities, e.derivedAt, e.shredded = list, at, true
	return nil
}

// Unstruct is the entity of the unstruct_event field. The error of an event without one
// is [ErrEmpty].
func (e *Event) Unstruct() (Entity, error) {
	raw := e.Raw(unstructField)
	if raw == "" {
		return Entity{}, ErrEmpty
	}
	u, err := parseUnstruct(raw)
	if err != nil {
		return Entity{}, fieldError(unstructField, err)
	}
	return u, nil
}

// scanner reads the JSON of self-describing fields.
type scanner struct{ jsontext.Scanner }

func scan(raw string) scanner { return scanner{jsontext.Scanner{Text: raw}} }

// err describes why the text is not JSON.
func (p *scanner) err() error {
	e := p.Err()
	return fmt.Errorf("invalid JSON at byte %d: %s", e.Offset, e.Message)
}

// appendEntities reads {"schema": ..., "data": [{"schema": ..., "data": {...}}, ...]}.
// The outer schema, and members with other names, are checked for their syntax only.
func appendEntities(list []Entity, raw string) ([]Entity, error) {
	if raw == "" {
		return list, nil
	}
	p := scan(raw)
	base := len(list)
	list, ok, err := p.wrapper(list, base)
	if err != nil {
		return list, err
	}
	if !ok || !p.End() {
		return list, p.err()
	}
	for i := base; i < len(list); i++ {
		names, err := NamesOf(list[i].Schema)
		if err != nil {
			return list, fmt.Errorf("entity %d: %w", i-base, err)
		}
		list[i].Name = names.Context
	}
	return list, nil
}

// wrapper reads the outer object; a later "data" takes the place of an earlier one.
func (p *scanner) wrapper(list []Entity, base int) ([]Entity, bool, error) {
	switch p.Next() {
	case 'n':
		return list, p.Word("null"), nil
	case '{':
	default:
		return list, p.Value(), p.unlike("an object")
	}
	if !p.Enter() {
		return list, false, nil
	}
	for first := true; ; first = false {
		more, ok := p.More(first, '}')
		if !more {
			return list, ok, nil
		}
		name, ok := p.Key()
		if !ok {
			return list, false, nil
		}
		var err error
		if name == "data" {
			list, ok, err = p.entities(list[:base])
		} else {
			ok = p.Value()
		}
		if !ok || err != nil {
			return list, ok, err
		}
	}
}

func (p *scanner) entities(list []Entity) ([]Entity, bool, error) {
	switch p.Next() {
	case 'n':
		return list, p.Word("null"), nil
	case '[':
	default:
		return list, p.Value(), p.unlike(`"data" as an array`)
	}
	if !p.Enter() {
		return list, false, nil
	}
	for first := true; ; first = false {
		more, ok := p.More(first, ']')
		if !more {
			return list, ok, nil
		}
		var en Entity
		ok, err := p.entity(&en)
		if !ok || err != nil {
			return list, ok, err
		}
		list = append(list, en)
	}
}

// entity reads {"schema": "iglu:...", "data": {...}} or null.
func (p *scanner) entity(en *Entity) (bool, error) {
	en.Data = "null"
	switch p.Next() {
	case 'n':
		return p.Word("null"), nil
	case '{':
	default:
		return p.Value(), p.unlike("an entity as an object")
	}
	if !p.Enter() {
		return false, nil
	}
	for first := true; ; first = false {
		more, ok := p.More(first, '}')
		if !more {
			return ok, nil
		}
		name, ok := p.Key()
		if !ok {
			return false, nil
		}
		var err error
		switch name {
		case "schema":
			ok, err = p.schema(en)
		case "data":
			ok, err = p.data(en)
		default:
			ok = p.Value()
		}
		if !ok || err != nil {
			return ok, err
		}
	}
}

func (p *scanner) schema(en *Entity) (bool, error) {
	switch p.Next() {
	case 'n':
		return p.Word("null"), nil
	case '"':
	default:
		return p.Value(), p.unlike(`"schema" as a string`)
	}
	start := p.At
	if _, ok := p.String(); !ok {
		return false, nil
	}
	en.Schema = jsontext.Unquoted(p.Text[start:p.At])
	return true, nil
}

func (p *scanner) data(en *Entity) (bool, error) {
	c := p.Next()
	start, spaces := p.At, p.Spaces
	if !p.Value() {
		return false, nil
	}
	en.Data, en.spaced = p.Text[start:p.At], p.Spaces > spaces
	if c != '{' && c != 'n' {
		return true, p.unlike(`an entity's "data" as an object`)
	}
	return true, nil
}

// unlike is the error of valid JSON of the wrong shape, nil if it was not even valid.
func (p *scanner) unlike(want string) error {
	if p.Failed() {
		return nil
	}
	return fmt.Errorf("JSON before byte %d: expected %s", p.At, want)
}

// parseUnstruct reads {"schema": ..., "data": {"schema": "iglu:...", "data": {...}}}.
func parseUnstruct(raw string) (Entity, error) {
	p := scan(raw)
	var en Entity
	ok, err := p.unstruct(&en)
	if err != nil {
		return en, err
	}
	if !ok || !p.End() {
		return en, p.err()
	}
	names, err := NamesOf(en.Schema)
	if err != nil {
		return en, err
	}
	en.Name = names.Unstruct
	return en, nil
}

func (p *scanner) unstruct(en *Entity) (bool, error) {
	if p.Next() != '{' {
		return p.Value(), p.unlike("an object")
	}
	if !p.Enter() {
		return false, nil
	}
	for first := true; ; first = false {
		more, ok := p.More(first, '}')
		if !more {
			return ok, nil
		}
		name, ok := p.Key()
		if !ok {
			return false, nil
		}
		var err error
		if name == "data" {
			*en = Entity{}
			ok, err = p.entity(en)
		} else {
			ok = p.Value()
		}
		if !ok || err != nil {
			return ok, err
		}
	}
}
