package glue

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/parquet"
)

func TestTypesOfHive(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"bigint": "bigint", "decimal(10, 2)": "decimal(10, 2)", "array<string>": "array<string>", "ARRAY<string>": "array<string>",
		"struct<a:bigint,b:array<struct<c:map<string,double>>>>": "", "map<string,array<int>>": "", "struct<a:decimal(3,1),b:char(5)>": "",
	} {
		got, err := parseHive(text)
		if want == "" {
			want = text
		}
		if err != nil || got.String() != want {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "array<", "array<>", "array<a,b>", "map<a>", "struct<a>", "struct<a:int", "bigint<a>", "bigint>", "decimal(10", "a,b", strings.Repeat("array<", 1000) + "int" + strings.Repeat(">", 1000)} {
		if got, err := parseHive(text); err == nil {
			t.Errorf("%.40q is read as %v", text, got)
		}
	}
}

func FuzzTypesOfHive(f *testing.F) {
	f.Add("struct<a:bigint,b:array<struct<c:map<string,decimal(10,2)>>>>", "struct<b:array<struct<d:int>>,e:int>")
	f.Fuzz(func(t *testing.T, one, two string) {
		a, err := parseHive(one)
		if err != nil {
			return
		}
		again, err := parseHive(a.String())
		if err != nil || again.String() != a.String() {
			t.Fatalf("%q is written as %q, which is read as %v, %v", one, a, again, err)
		}
		if b, err := parseHive(two); err == nil {
			g := grown(a, b)
			if twice := grown(g, b).String(); twice != g.String() {
				t.Fatalf("%s grows by %s to %s, and again to %s", a, b, g, twice)
			}
		}
	})
}

func TestTypesGrow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ have, want, now string }{
		{"bigint", "double", "bigint"},
		{"decimal(10,2)", "double", "decimal(10,2)"},
		{"struct<a:int>", "struct<a:bigint,b:string>", "struct<a:int,b:string>"},
		{"array<struct<A:int>>", "array<struct<a:bigint,b:string>>", "array<struct<A:int,b:string>>"},
		{"struct<b:int,a:int>", "struct<a:int,b:int,c:array<string>>", "struct<b:int,a:int,c:array<string>>"},
		{"string", "struct<a:int>", "string"},
		{"map<string,struct<a:int>>", "struct<a:int>", "map<string,struct<a:int>>"},
	} {
		have, err := parseHive(c.have)
		if err != nil {
			t.Fatal(err)
		}
		want, err := parseHive(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := grown(have, want).String(); got != c.now {
			t.Errorf("%s grows by %s to %s, not %s", c.have, c.want, got, c.now)
		}
	}
}

func TestColumnsOfADataset(t *testing.T) {
	t.Parallel()
	d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: 10, MaxColumns: 100, Types: map[string]parquet.Type{"at": {Kind: parquet.Timestamp}, "any": {Kind: parquet.JSON}}})
	if err := d.Decode([]byte(`{"Name":"a","at":"2026-01-01T00:00:00Z","any":{"x":1},"n":1,"f":1.5,"ok":true,"none":null,"o":{"In":[{"x":1}],"a:b":2},"odd":{"a,b":1,"A,B":2},"l":[["s"]]}`)); err != nil {
		t.Fatal(err)
	}
	r := parquet.NewRows()
	r.Append(d)
	got := map[string]string{}
	for _, m := range hiveFields(d.Schema().Columns()) {
		got[m.name] = m.typ.String()
	}
	want := map[string]string{"name": "string", "at": "timestamp", "any": "string", "n": "bigint", "f": "double", "ok": "boolean", "o": "struct<in:array<struct<x:bigint>>,a_b:bigint>", "odd": "struct<a_b:bigint,a_b_2:bigint>", "l": "array<array<string>>"}
	for column, typ := range want {
		if got[column] != typ {
			t.Errorf("the column %s is %q, not %q", column, got[column], typ)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the columns are %v", got)
	}
}
