package snowplow

import (
	"errors"
	"strings"
)

// Keys lists the keys of the event's JSON form in their order. With [Event.Get] it lets a
// script see the event as an object of which only what it reads is ever typed.
func (e *Event) Keys() ([]string, error) {
	contexts, derived, err := e.Contexts()
	if err != nil {
		return nil, err
	}
	u, err := e.Unstruct()
	if err != nil && !errors.Is(err, ErrEmpty) {
		return nil, err
	}
	keys := make([]string, 0, 64)
	for f := range Field(NumFields) {
		if f.Kind() < Contexts && e.Raw(f) != "" {
			keys = append(keys, f.String())
		}
	}
	late := make(map[string]bool, len(derived))
	for i := range derived {
		late[derived[i].Name] = true
	}
	seen := make(map[string]bool, len(contexts)+len(derived))
	for i := range contexts {
		if name := contexts[i].Name; !late[name] && !seen[name] {
			seen[name] = true
			keys = append(keys, name)
		}
	}
	if u.Name != "" {
		keys = append(keys, u.Name)
	}
	for i := range derived {
		if name := derived[i].Name; !seen[name] {
			seen[name] = true
			keys = append(keys, name)
		}
	}
	return keys, nil
}

// Get is the value under a key of the event's JSON form, with the types [Event.Map] has;
// found is false when the event has no such key. Only that value is looked at: an error
// says that it, or the self-describing field it would be in, is malformed.
func (e *Event) Get(key string) (value any, found bool, err error) {
	if f, ok := FieldOf(key); ok {
		if f.Kind() >= Contexts || e.Raw(f) == "" {
			return nil, false, nil
		}
		value, err = e.Value(f)
		return value, err == nil, err
	}
	switch {
	case strings.HasPrefix(key, "contexts_"):
		return e.getContexts(key)
	case strings.HasPrefix(key, "unstruct_event_"):
		u, err := e.Unstruct()
		if errors.Is(err, ErrEmpty) || (err == nil && u.Name != key) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		data, err := u.Object()
		if err != nil {
			return nil, false, fieldError(unstructField, err)
		}
		return data, true, nil
	}
	return nil, false, nil
}

func (e *Event) getContexts(name string) (any, bool, error) {
	contexts, derived, err := e.Contexts()
	if err != nil {
		return nil, false, err
	}
	field, list := derivedField, derived
	if !hasName(derived, name) {
		field, list = contextsField, contexts
	}
	var out []any
	for i := range list {
		if list[i].Name != name {
			continue
		}
		data, err := list[i].Object()
		if err != nil {
			return nil, false, fieldError(field, err)
		}
		out = append(out, data)
	}
	if out == nil {
		return nil, false, nil
	}
	return out, true, nil
}
