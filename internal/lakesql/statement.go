package lakesql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/fault"
)

// readsOnly refuses what is not one statement that only reads.
func readsOnly(query string) error {
	first, rest := "", query
	for i := 0; i < len(query); {
		switch c := query[i]; {
		case c == ';':
			if first == "" {
				i++
				rest = query[i:]
				continue
			}
			if tail := blank(query[i+1:]); tail != "" {
				return fault.New(fault.Setup, fmt.Errorf("one statement at a time: another begins at %q", cut(tail)))
			}
			i = len(query)
		case first == "" && letter(c):
			n := i
			for n < len(query) && letter(query[n]) {
				n++
			}
			first, i = strings.ToLower(query[i:n]), n
		default:
			i = past(query, i)
		}
	}
	if first == "" {
		if blank(rest) == "" {
			return fault.New(fault.Setup, errors.New("the query is empty; SELECT count(*) FROM the table of a dataset is one"))
		}
		first = cut(blank(rest))
	}
	if !slices.Contains([]string{"select", "with", "values", "explain"}, first) {
		return fault.New(fault.Setup, fmt.Errorf("a query begins with SELECT, WITH, VALUES or EXPLAIN, not with %s: datasets are only read", strings.ToUpper(first)))
	}
	return nil
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// past is the place behind what begins at i: a text or a name in quotes, a comment, or one byte.
func past(s string, i int) int {
	var end string
	switch c := s[i]; {
	case c == '\'' || c == '"' || c == '`':
		end = string(c) // two of them within it are two texts, for this purpose
	case c == '[':
		end = "]"
	case strings.HasPrefix(s[i:], "--"):
		end = "\n"
	case strings.HasPrefix(s[i:], "/*"):
		if n := strings.Index(s[i+2:], "*/"); n >= 0 {
			return i + 2 + n + 2
		}
		return len(s)
	default:
		return i + 1
	}
	if n := strings.Index(s[i+1:], end); n >= 0 {
		return i + 1 + n + 1
	}
	return len(s)
}

// blank is s without white space, comments and semicolons in front.
func blank(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n\f;")
		if !strings.HasPrefix(s, "--") && !strings.HasPrefix(s, "/*") {
			return strings.TrimRight(s, " \t\r\n")
		}
		s = s[past(s, 0):]
	}
}

func cut(s string) string {
	if r := []rune(s); len(r) > 20 {
		return string(r[:20]) + "..."
	}
	return s
}
