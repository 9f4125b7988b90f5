package snowplow

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	en := Entity{Data: `{"a":{"b":[{"c":"x\"\u00e9"},[7,8],1000000,0.1]},"n":null,"t":true,"":"empty","b c":"space","1":"one","d":1,"d":{"e":2}}`}
	tests := []struct {
		path, want string
		found      bool
	}{
		{"a.b[0].c", `x"é`, true},
		{"a.b[1][1]", "8", true},
		{"a.b[1]", "[7 8]", true},
		{"a.b[2]", "1e+06", true},
		{"a.b[3]", "0.1", true},
		{"a.b[0]", `map[c:x"é]`, true},
		{"a.b[4]", "", false},
		{"a.b[00]", `map[c:x"é]`, true},
		{"a.b.c", "", false},
		{"a[0]", "", false},
		{"a..b[2]", "1e+06", true},
		{".t.", "true", true},
		{"n", "", true},
		{"n.x", "", false},
		{"t.x", "", false},
		{"b c", "space", true},
		{"1", "one", true},
		{"d.e", "2", true},
		{"x", "", false},
	}
	for _, tt := range tests {
		path, err := ParsePath(tt.path)
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		got, found, err := en.Lookup([]byte("="), path)
		if err != nil || found != tt.found || string(got) != "="+tt.want {
			t.Errorf("%s: %q %t %v, want %q %t", tt.path, got, found, err, tt.want, tt.found)
		}
	}
	all, _ := ParsePath("")
	whole := Entity{Data: `{"b":[1,null],"a":"x"}`}
	if got, found, err := whole.Lookup(nil, all); err != nil || !found || string(got) != "map[a:x b:[1 <nil>]]" {
		t.Errorf("the empty path: %q %t %v", got, found, err)
	}
	huge := Entity{Data: `{"a":1e999}`}
	for _, path := range []string{"a", ""} {
		p, _ := ParsePath(path)
		if _, found, err := huge.Lookup(nil, p); !found || err == nil {
			t.Errorf("%q: a number beyond float64: %t %v", path, found, err)
		}
	}
}

func TestParsePathErrors(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"a[0":                     "unmatched brace in path: a[0",
		"a]0[":                    "unmatched brace in path: a]0[",
		"a]":                      "unmatched brace in path: a]",
		"][":                      "unmatched brace in path: ][",
		"a[b]":                    "error parsing path element: [b] is not an index like [0]",
		"a[]":                     "error parsing path element: [] is not an index like [0]",
		"a[-1]":                   "error parsing path element: [-1] is not an index like [0]",
		"a[99999999999999999999]": "error parsing path element: [99999999999999999999] is not an index like [0]",
	} {
		if _, err := ParsePath(path); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

// walk follows a path through decoded JSON.
func walk(v any, steps []step) (any, bool) {
	for _, s := range steps {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[s.name]
			if !ok || s.index >= 0 {
				return nil, false
			}
			v = next
		case []any:
			if s.index < 0 || s.index >= len(x) {
				return nil, false
			}
			v = x[s.index]
		default:
			return nil, false
		}
	}
	return v, true
}

func FuzzPath(f *testing.F) {
	f.Add("a.b[0].c", `{"a":{"b":[{"c":1}]}}`)
	f.Add("a[1][2]", `{"a":[0,[1,2,"x\n"]]}`)
	f.Add("", `{"a":null}`)
	f.Add("a]b[", `[]`)
	f.Fuzz(func(t *testing.T, text, data string) {
		path, err := ParsePath(text)
		if err != nil {
			return
		}
		if path.String() != text {
			t.Errorf("%q prints as %q", text, path)
		}
		for _, s := range path.steps {
			if strings.ContainsAny(s.name, ".[]") || (s.name == "") != (s.index >= 0) {
				t.Errorf("%q has step %+v", text, s)
			}
		}
		en := Entity{Data: data}
		var v any
		if json.Unmarshal([]byte(data), &v) != nil {
			_, _ = path.find(data) // must not panic
			return
		}
		en.Data = strings.TrimSpace(data)
		want, wantFound := walk(v, path.steps)
		got, found, err := en.Lookup(nil, path)
		if err != nil {
			t.Fatalf("lookup %q: %v", text, err)
		}
		wantText := fmt.Sprint(want)
		if want == nil {
			wantText = ""
		}
		// encoding/json mends bad UTF-8, a lookup leaves it.
		if found != wantFound || strings.ToValidUTF8(string(got), "\uFFFD") != strings.ToValidUTF8(wantText, "\uFFFD") && !strings.ContainsRune(wantText, '\uFFFD') {
			t.Errorf("%q in %s: %q %t, want %q %t", text, data, got, found, wantText, wantFound)
		}
	})
}

func TestDecodeMatchesEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, ` { "a" : [ 1 , -2.5e3 , true , false , null , "x" ] } `, `"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\ud800x\udc00"`, `[[[]]]`, `-0`, `"\ud800\u0041"`} {
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		got, err := decode(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", text, diff)
		}
	}
}
