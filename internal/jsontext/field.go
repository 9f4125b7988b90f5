package jsontext

import "strings"

// Field is the text or number at path in a JSON payload; empty when there is none.
func Field(payload []byte, path []string) string {
	if !Valid(payload) {
		return ""
	}
	value, found := Find(string(payload), path)
	if !found {
		return ""
	}
	switch c := value[0]; {
	case c == '"':
		return Unquoted(value)
	case c == '-' || c >= '0' && c <= '9':
		return string(AppendPlain(nil, value))
	}
	return ""
}

// Path takes a path like "order.id" apart; a dot that is part of a name has a backslash.
func Path(text string) []string {
	const dot = "\x00"
	path := strings.Split(strings.ReplaceAll(text, `\.`, dot), ".")
	for i := range path {
		path[i] = strings.ReplaceAll(path[i], dot, ".")
	}
	return path
}
