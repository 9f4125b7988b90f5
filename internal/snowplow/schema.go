package snowplow

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// Names are the keys under which an entity of one schema appears in the JSON form.
type Names struct {
	Context  string // contexts_com_acme_page_1
	Unstruct string // unstruct_event_com_acme_page_1
}

const (
	cachedSchemas   = 4096 // slots; a schema that falls on a taken slot takes it over
	maxCachedSchema = 256  // bytes of a URI worth keeping
)

type cachedNames struct {
	uri   string
	names Names
}

var (
	schemaSeed  = maphash.MakeSeed()
	schemaCache [cachedSchemas]atomic.Pointer[cachedNames]
)

// NamesOf is the shredded names of a schema URI. Answers are remembered in a table of
// fixed size, so a flood of distinct URIs costs time but no memory.
func NamesOf(uri string) (Names, error) {
	slot := &schemaCache[maphash.String(schemaSeed, uri)%cachedSchemas]
	if c := slot.Load(); c != nil && c.uri == uri {
		return c.names, nil
	}
	names, err := shredName(uri)
	if err == nil && len(uri) <= maxCachedSchema {
		slot.Store(&cachedNames{uri: strings.Clone(uri), names: names})
	}
	return names, err
}

func shredName(uri string) (Names, error) {
	bad := func(part string) (Names, error) {
		return Names{}, fmt.Errorf("schema %s is not iglu:vendor/name/format/model-revision-addition: %s", brief(uri), part)
	}
	rest, ok := strings.CutPrefix(uri, "iglu:")
	if !ok {
		return bad(`it does not start with "iglu:"`)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 4 {
		return bad(fmt.Sprintf("it has %d parts", len(parts)))
	}
	vendor, name, format, version := parts[0], parts[1], parts[2], parts[3]
	switch {
	case !isWord(vendor, true):
		return bad("vendor")
	case !isWord(name, false):
		return bad("name")
	case !isWord(format, false):
		return bad("format")
	}
	numbers := strings.Split(version, "-")
	if len(numbers) != 3 || numbers[0] == "0" {
		return bad("version")
	}
	for _, n := range numbers {
		if digits(n, 0) != len(n) || n == "" || (n[0] == '0' && n != "0") {
			return bad("version")
		}
	}
	tail := "_" + strings.ToLower(strings.ReplaceAll(vendor, ".", "_")) + "_" + snake(name) + "_" + numbers[0]
	return Names{Context: "contexts" + tail, Unstruct: "unstruct_event" + tail}, nil
}

func isWord(s string, dots bool) bool {
	for i := range len(s) {
		c := s[i]
		if c-'0' <= 9 || c|0x20-'a' < 26 || c == '-' || c == '_' || (dots && c == '.') {
			continue
		}
		return false
	}
	return s != ""
}

// snake puts an underscore before each capital that does not follow one, and lowers it:
// fooBar is foo_bar, FooBAR is foo_b_a_r, Foo_Bar is foo_bar.
func snake(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c-'A' < 26 {
			if i > 0 && name[i-1] != '_' {
				b.WriteByte('_')
			}
			c |= 0x20
		}
		b.WriteByte(c)
	}
	return b.String()
}

// brief quotes s for an error, cut to a length that can be read.
func brief(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q (cut at %d of %d bytes)", s[:most], most, len(s))
	}
	return fmt.Sprintf("%q", s)
}
