package snowplow

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// ErrEmpty is the error of a lookup of a field that is absent from the event.
var ErrEmpty = errors.New("field is empty")

// Event is a parsed enriched event. It aliases the bytes it was parsed from, which must
// never change while it is in use, and types its fields when they are asked for. An
// Event belongs to one goroutine at a time.
type Event struct {
	line   string
	starts [NumFields + 1]int32 // field f is line[starts[f] : starts[f+1]-1]

	shredded  bool
	entities  []Entity // of contexts, then of derived_contexts
	derivedAt int      // index of the first derived one
	few       [8]Entity
}

// Parse splits a line into its fields. An error says that it does not have 131 of them;
// the types of the fields are not looked at.
func Parse(line []byte) (*Event, error) {
	if len(line) >= math.MaxInt32 {
		return nil, fmt.Errorf("cannot parse tsv event - %d bytes is more than the %d an event may have", len(line), math.MaxInt32-1)
	}
	e := &Event{line: unsafe.String(unsafe.SliceData(line), len(line))}
	s := e.line
	n, i := 1, 0
	for {
		if i >= len(s) {
			break
		}
		if s[i] != '\t' {
			next := strings.IndexByte(s[i:], '\t')
			if next < 0 {
				break
			}
			i += next
		}
		i++
		if n < NumFields {
			e.starts[n] = int32(i)
		}
		n++
	}
	if n != NumFields {
		return nil, fmt.Errorf("cannot parse tsv event - wrong number of fields provided: %d", n)
	}
	e.starts[NumFields] = int32(len(s) + 1)
	return e, nil
}

// Raw is the text of a field as it stands in the line, empty when it is absent.
func (e *Event) Raw(f Field) string {
	return e.line[e.starts[f] : e.starts[f+1]-1]
}

// Line is the whole line the event was parsed from.
func (e *Event) Line() string { return e.line }

// Value is a field with its type: string, int, float64, bool, time.Time in UTC, and
// map[string]any for the three self-describing fields. The error of an absent field is
// [ErrEmpty].
func (e *Event) Value(f Field) (any, error) {
	raw := e.Raw(f)
	if raw == "" {
		return nil, ErrEmpty
	}
	v, err := e.value(f, raw)
	if err != nil {
		return nil, fieldError(f, err)
	}
	return v, nil
}

func (e *Event) value(f Field, raw string) (any, error) {
	switch f.Kind() {
	case Int:
		return parseInt(raw)
	case Double:
		return parseDouble(raw)
	case Bool:
		return parseBool(raw)
	case Time:
		return parseTime(raw)
	case Contexts, Unstruct:
		return e.objects(f)
	}
	return raw, nil
}

// AppendText appends a field's value in the form fmt's %v prints it, which is what
// filters match and partition keys are made of. A string is its own text; true and
// false stand for booleans; a timestamp is "2006-01-02 15:04:05.999 +0000 UTC". The
// error of an absent field is [ErrEmpty].
func (e *Event) AppendText(dst []byte, f Field) ([]byte, error) {
	raw := e.Raw(f)
	if raw == "" {
		return dst, ErrEmpty
	}
	switch f.Kind() {
	case String:
		return append(dst, raw...), nil
	case Int:
		n, err := parseInt(raw)
		if err != nil {
			return dst, fieldError(f, err)
		}
		return strconv.AppendInt(dst, int64(n), 10), nil
	}
	v, err := e.Value(f)
	if err != nil {
		return dst, err
	}
	return fmt.Append(dst, v), nil
}

func fieldError(f Field, err error) error {
	return fmt.Errorf("field %s: %w", f, err)
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%s is not an integer", brief(s))
	}
	return n, nil
}

func parseDouble(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number", brief(s))
	}
	return v, nil
}

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%s is not a boolean like 0 or 1", brief(s))
	}
	return v, nil
}

const timeLayout = "2006-01-02 15:04:05.999"

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a timestamp like %s", brief(s), timeLayout)
	}
	return t, nil
}

// Map is the event as Go values under the keys of its JSON form: string, int, float64,
// bool, time.Time in UTC; each shredded context a []any of map[string]any, the
// unstruct_event a map[string]any. Numbers inside entities are float64. The maps are
// the caller's to change.
func (e *Event) Map() (map[string]any, error) {
	m := make(map[string]any, 64)
	for f := range Field(NumFields) {
		raw := e.Raw(f)
		if raw == "" {
			continue
		}
		if k := f.Kind(); k == Contexts || k == Unstruct {
			objects, err := e.objects(f)
			if err != nil {
				return nil, fieldError(f, err)
			}
			// a derived entity takes the place of one in contexts
			maps.Copy(m, objects)
			continue
		}
		v, err := e.value(f, raw)
		if err != nil {
			return nil, fieldError(f, err)
		}
		m[f.String()] = v
	}
	return m, nil
}
