package jsontext_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/jsontext"
)

var texts = []string{
	``, ` `, `null`, `true`, `false`, `nul`, `tru`, `0`, `-0`, `00`, `01`, `-`, `1.`, `1.5e+7`, `1e`, `.5`, `1E9`, `"`, `""`, `"a`,
	`"\u00e9\ud83d\ude00\ud800x"`, `"\x"`, `"\u12g4"`, "\"tab\there\"", `"12345678\"90"`, `[]`, `[1,]`, `[,1]`, `[1 2]`, `{}`, `{"a"}`,
	`{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, ` { "a" : [ 1 , { "b" : "x y" } ] , "c\u0041" : null } `, `{"a":1}x`, "\ufeff{}", `{"a":"\n"}`,
	strings.Repeat("[", 50) + strings.Repeat("]", 50), "[\x00]", "\"\x7f\"", "\"\xff\"", `{"":""}`, `{"a":{"b":[true,false,null,-1.5e-3]}}`,
}

func TestValidAsEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range texts {
		if got, want := jsontext.Valid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("Valid(%q) is %t, want %t", text, got, want)
		}
	}
	for _, depth := range []int{jsontext.MaxDepth, jsontext.MaxDepth + 1} {
		text := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		if got, want := jsontext.Valid([]byte(text)), depth <= jsontext.MaxDepth; got != want {
			t.Errorf("depth %d: %t", depth, got)
		}
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	data := []byte("x { \"a\" : [1, 2] ,\"\\u0062\":{},\"c\":\"\\\"\"} y")
	s := jsontext.ScanFrom(data, 1)
	ms, ok := s.Object(nil)
	if !ok || string(data[s.At:]) != " y" {
		t.Fatalf("ok %t, the rest is %q", ok, data[s.At:])
	}
	var got []string
	for _, m := range ms {
		got = append(got, string(m.Name(data)), string(m.Of(data)), string(data[m.Start:m.End]))
	}
	want := []string{"a", "[1, 2]", `"a" : [1, 2]`, "b", "{}", `"\u0062":{}`, "c", `"\""`, `"c":"\""`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzAsEncodingJSON(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		valid := json.Valid(data)
		if got := jsontext.Valid(data); got != valid {
			t.Fatalf("Valid is %t, encoding/json says %t", got, valid)
		}
		if valid {
			var want bytes.Buffer
			if err := json.Compact(&want, data); err != nil {
				t.Fatal(err)
			}
			if got := jsontext.Compact(nil, data); !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("compact: %q, want %q", got, want.Bytes())
			}
			var text string
			if data[0] == '"' && data[len(data)-1] == '"' && json.Unmarshal(data, &text) == nil && utf8.Valid(data) {
				if got := jsontext.Unquote(nil, data); string(got) != text {
					t.Fatalf("unquote: %q, want %q", got, text)
				}
			}
			var members map[string]json.RawMessage
			if json.Unmarshal(data, &members) == nil && members != nil && utf8.Valid(data) {
				s := jsontext.Scan(data)
				ms, ok := s.Object(nil)
				if !ok || !s.End() {
					t.Fatal("an object is not taken for one")
				}
				got := map[string]json.RawMessage{}
				for _, m := range ms {
					got[string(m.Name(data))] = m.Of(data)
				}
				if len(got) != len(members) {
					t.Fatalf("%d members, want %d", len(got), len(members))
				}
				for k, v := range members {
					if !bytes.Equal(got[k], v) {
						t.Fatalf("member %q is %q, want %q", k, got[k], v)
					}
				}
			}
		}
		text := strings.ToValidUTF8(string(data), "\ufffd")
		var back string
		if err := json.Unmarshal(jsontext.AppendString(nil, string(data)), &back); err != nil {
			t.Fatalf("AppendString(%q): %v", data, err)
		}
		if utf8.Valid(data) && back != text {
			t.Fatalf("%q comes back as %q", text, back)
		}
	})
}

func BenchmarkObject(b *testing.B) {
	data := []byte(`{"type":"track","messageId":"0b9d8c1c-5a3f-4a53-b5a1-6a7b0c5f9d10","anonymousId":"anon-1","event":"Order Completed","properties":{"price":12.5,"items":[{"sku":"a","n":1},{"sku":"b","n":2}]},"context":{"library":{"name":"bench","version":"1"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)"}}`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var ms []jsontext.Member
	for b.Loop() {
		s := jsontext.Scan(data)
		ms, _ = s.Object(ms[:0])
	}
	if len(ms) != 6 {
		b.Fatal(len(ms))
	}
}
