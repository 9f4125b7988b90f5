package glue

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/parquet"
)

// hiveType is a type as Hive writes it: bigint, array<string>, struct<a:bigint,b:array<double>>,
// map<string,bigint>.
type hiveType struct {
	name    string // of what is no struct, array or map, with what stands in brackets: decimal(10,2)
	members []hiveMember
	kind    byte // 's', 'a', 'm', or 0
}

// hiveMember is one of a struct; the names of those of arrays and maps are empty.
type hiveMember struct {
	name string
	typ  *hiveType
}

// String is the type as text.
func (t *hiveType) String() string {
	if t.kind == 0 {
		return t.name
	}
	parts := make([]string, len(t.members))
	for i, m := range t.members {
		parts[i] = m.typ.String()
		if t.kind == 's' {
			parts[i] = m.name + ":" + parts[i]
		}
	}
	return map[byte]string{'s': "struct", 'a': "array", 'm': "map"}[t.kind] + "<" + strings.Join(parts, ",") + ">"
}

// deepest is how deep types are read; those of columns are far below.
const deepest = 600

// parseHive reads the text of a type.
func parseHive(text string) (*hiveType, error) {
	t, rest, err := parseType(text, deepest)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q stands behind its end", rest)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is no type of Hive: %w", text, err)
	}
	return t, nil
}

func parseType(text string, depth int) (t *hiveType, rest string, err error) {
	if depth == 0 {
		return nil, "", errors.New("it is too deep")
	}
	end := strings.IndexAny(text, "<>,(")
	if end < 0 {
		end = len(text)
	}
	name, rest := strings.TrimSpace(text[:end]), text[end:]
	if strings.HasPrefix(rest, "(") {
		inside, after, ok := strings.Cut(rest, ")")
		if !ok {
			return nil, "", errors.New("a bracket is not closed")
		}
		name, rest = name+inside+")", after
	}
	if name == "" {
		return nil, "", errors.New("a name is missing")
	}
	if !strings.HasPrefix(rest, "<") {
		return &hiveType{name: name}, rest, nil
	}
	kind := map[string]byte{"struct": 's', "array": 'a', "map": 'm'}[strings.ToLower(name)]
	if kind == 0 {
		return nil, "", fmt.Errorf("%s has no members", name)
	}
	t = &hiveType{kind: kind}
	for more := true; more; {
		rest = rest[1:]
		var m hiveMember
		if kind == 's' {
			called, after, ok := strings.Cut(rest, ":")
			if !ok {
				return nil, "", errors.New("a member has no type")
			}
			m.name, rest = strings.TrimSpace(called), after
		}
		if m.typ, rest, err = parseType(rest, depth-1); err != nil {
			return nil, "", err
		}
		t.members = append(t.members, m)
		more = strings.HasPrefix(rest, ",")
	}
	if !strings.HasPrefix(rest, ">") {
		return nil, "", errors.New("a bracket is not closed")
	}
	if n := len(t.members); kind == 'a' && n != 1 || kind == 'm' && n != 2 {
		return nil, "", fmt.Errorf("%s has %d members", name, n)
	}
	return t, rest[1:], nil
}

// grown is have with the members of structs that only want has. What is declared already stays:
// somebody may have declared it otherwise.
func grown(have, want *hiveType) *hiveType {
	if have.kind != want.kind || have.kind == 0 {
		return have
	}
	out := &hiveType{kind: have.kind, members: slices.Clone(have.members)}
	for i, w := range want.members {
		at := i
		if out.kind == 's' {
			at = slices.IndexFunc(out.members, func(m hiveMember) bool { return strings.EqualFold(m.name, w.name) })
		}
		if at < 0 {
			out.members = append(out.members, w)
		} else {
			out.members[at].typ = grown(out.members[at].typ, w.typ)
		}
	}
	return out
}

// hiveOf is the type of a column of a dataset; nil for one that no file has.
func hiveOf(f *parquet.Field) *hiveType {
	switch f.Kind {
	case parquet.Bool:
		return &hiveType{name: "boolean"}
	case parquet.Int:
		return &hiveType{name: "bigint"}
	case parquet.Double:
		return &hiveType{name: "double"}
	case parquet.String, parquet.JSON:
		return &hiveType{name: "string"}
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs, parquet.TimestampNs, parquet.LocalTime:
		return &hiveType{name: "timestamp"}
	case parquet.Date:
		return &hiveType{name: "date"}
	case parquet.UUID:
		return &hiveType{name: "binary"} // Hive has no other
	case parquet.Decimal:
		return &hiveType{name: f.TypeName()}
	case parquet.List:
		if elem := hiveOf(f.Elem); elem != nil {
			return &hiveType{kind: 'a', members: []hiveMember{{typ: elem}}}
		}
	case parquet.Object:
		if members := hiveFields(f.Fields); len(members) > 0 {
			return &hiveType{kind: 's', members: members}
		}
	}
	return nil
}

// hiveFields are columns with their types, in lower case as the catalog has names. Those of a
// dataset have letters, digits and _, and are told apart in lower case too.
func hiveFields(fields []*parquet.Field) []hiveMember {
	var all []hiveMember
	for _, f := range fields {
		if t := hiveOf(f); t != nil {
			all = append(all, hiveMember{strings.ToLower(f.Name), t})
		}
	}
	return all
}
