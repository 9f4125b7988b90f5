package jsonpath

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

const store = `{"store":{"book":[
	{"category":"reference","author":"Rees","title":"Sayings","price":8.95},
	{"category":"fiction","author":"Waugh","title":"Sword","price":12.99},
	{"category":"fiction","author":"Melville","title":"Moby","isbn":"0-553","price":8.99},
	{"category":"fiction","author":"Tolkien","title":"Lord","isbn":"0-395","price":22.99}],
	"bicycle":{"color":"red","price":19.95}},"expensive":10,"n":null,"empty":[],"s":"text","a b":1,"it's":2,"k-d":3}`

func TestGet(t *testing.T) {
	t.Parallel()
	doc, err := jsonvalue.ParseString(store)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ path, want string }{
		{`$.expensive`, `10`},
		{`$.n`, `null`},
		{`$['expensive']`, `10`},
		{`$["a b"]`, `1`},
		{`$['it\'s']`, `2`},
		{`$.k-d`, `3`},
		{`$.["s"]`, `"text"`},
		{`$.store.book[0].title`, `"Sayings"`},
		{`$.store.book[-1].title`, `"Lord"`},
		{`$.store.bicycle['color','price']`, `{"color":"red","price":19.95}`},
		{`$.store.bicycle['color','none']`, `{"color":"red"}`},
		{`$.store.book[0,1].price`, `[8.95,12.99]`},
		{`$.store.book[1:3].price`, `[12.99,8.99]`},
		{`$.store.book[2:].price`, `[8.99,22.99]`},
		{`$.store.book[:1].price`, `[8.95]`},
		{`$.store.book[-2:].price`, `[8.99,22.99]`},
		{`$.store.book[:-3].price`, `[8.95]`},
		{`$.store.book[0:9:2].price`, `[8.95,12.99,8.99,22.99]`},
		{`$.store.book[1:-1].price`, `[]`},
		{`$.store.book[*].author`, `["Rees","Waugh","Melville","Tolkien"]`},
		{`$.store.*.color`, `["red"]`},
		{`$..author`, `["Rees","Waugh","Melville","Tolkien"]`},
		{`$.store..price`, `[8.95,12.99,8.99,22.99,19.95]`},
		{`$..book[2].title`, `["Moby"]`},
		{`$..book[?(@.isbn)].title`, `["Moby","Lord"]`},
		{`$.store.book[?(@.price < 10)].title`, `["Sayings","Moby"]`},
		{`$.store.book[?(@.price <= $['expensive'])].title`, `["Sayings","Moby"]`},
		{`$.store.book[?(@.category == 'fiction' && @.price > 20)].title`, `["Lord"]`},
		{`$.store.book[?(@.category == 'reference' || @.price > 20)].title`, `["Sayings","Lord"]`},
		{`$.store.book[?(!(@.isbn))].title`, `["Sayings","Sword"]`},
		{`$.store.book[?(@.author =~ /.*ees/i)].title`, `["Sayings"]`},
		{`$.store.book[?(@.author =~ /EES/)].title`, `[]`},
		{`$.store.book[?(@.category in ['reference', 'other'])].title`, `["Sayings"]`},
		{`$.store.book[?(@.category nin ["fiction"])].title`, `["Sayings"]`},
		{`$.store.book[?(@.title size 4)].title`, `["Moby","Lord"]`},
		{`$.store.book[?(@.price == "8.95")].title`, `["Sayings"]`},
		{`$.store.book[?(@.price === "8.95")].title`, `[]`},
		{`$.store.book[?(@.title contains 'or')].title`, `["Sword","Lord"]`},
		{`$.store.bicycle[?(@.color == 'red')].price`, `[19.95]`},
		{`$.store.book.length()`, `4`},
		{`$.empty.length()`, `0`},
		{`$.store.book[*].price.max()`, `22.99`},
		{`$.store.book[*].price.min()`, `8.95`},
		{`$.store.bicycle.keys()`, `["color","price"]`},
		{`$.store.book[*].author.first()`, `"Rees"`},
		{`$.store.book[*].author.last()`, `"Tolkien"`},
		{`$.empty.append(1, "x")`, `[1,"x"]`},
		{`$.store.book[*].title.concat("!", $.expensive)`, `"SayingsSwordMobyLord!10"`},
		{`$.nothing[*]`, `[]`},
		{`$.s[*]`, `[]`},
		{`$.empty[?(@.a)]`, `[]`},
		{`$`, doc.JSON()},
		// Definite paths that lead nowhere.
		{`$.none`, `No results for path: $['none']`},
		{`$.none.below`, `Missing property in path $['none']`},
		{`$.empty[0]`, `No results for path: $['empty'][0]`},
		{`$.s.below`, `Expected to find an object with property ['below'] in path $['s'] but found a value of type string`},
		{`$.s[0]`, `Filter: [0] can only be applied to arrays. Current context is a value of type string`},
		{`$.n[0]`, `The path $['n'] is null`},
		{`$.empty.sum()`, `Aggregation function attempted to calculate value using empty array`},
	} {
		p, err := Compile(row.path)
		if err != nil {
			t.Errorf("%s: %v", row.path, err)
			continue
		}
		var got string
		if v, err := p.Get(doc); err != nil {
			got = err.Error()
		} else {
			got = v.JSON()
		}
		if got != row.want {
			t.Errorf("%s gives %s, want %s", row.path, got, row.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `a`, `$a`, `$.`, `$..`, `$...a`, `$.a.`, `$[`, `$[]`, `$[a]`, `$[1`, `$[:]`, `$['a]`, `$['a'`, `$['a',]`, `$[?]`, `$[?()]`, `$[?(@.a]`,
		`$[?(@.a ==)]`, `$[?(@.a =~ /[/)]`, `$.a b`, `$.f()`, `$.a.length().b`, `$.a.index()`, `$ `, `$.a.append(`, `$[?(/a/)]`,
		`$[?(` + strings.Repeat("(", 200) + `@.a` + strings.Repeat(")", 200) + `)]`, `$.` + strings.Repeat("a", MaxLength),
	} {
		if p, err := Compile(text); err == nil {
			t.Errorf("%q was accepted as %+v", text, p)
		}
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ path, doc, want string }{
		{`$.a`, `{"b":1}`, `{"b":1,"a":0}`},
		{`$.a.b.c`, `{}`, `{"a":{"b":{"c":0}}}`},
		{`$.b`, `{"a":1,"b":2,"c":3}`, `{"a":1,"b":0,"c":3}`},
		{`$.a[1].x`, `{"a":[1,{"y":2}]}`, `{"a":[1,{"y":2,"x":0}]}`},
		{`$`, `5`, `0`},
		{`$.a[2]`, `{"a":[1]}`, ``},
		{`$.a.b`, `{"a":5}`, ``},
		{`$.a`, `[]`, ``},
	} {
		p, err := Compile(row.path)
		if err != nil || !p.Reference() {
			t.Fatalf("%s: %v", row.path, err)
		}
		doc, _ := jsonvalue.ParseString(row.doc)
		got := ""
		if v, err := p.Put(doc, jsonvalue.OfInt(0)); err == nil {
			got = v.JSON()
		}
		if got != row.want || doc.JSON() != row.doc {
			t.Errorf("%s in %s gives %s, want %s; the document is now %s", row.path, row.doc, got, row.want, doc.JSON())
		}
	}
}

// TestVisits checks that a path cannot make work without bound.
func TestVisits(t *testing.T) {
	t.Parallel()
	doc, err := jsonvalue.ParseString(strings.Repeat("[", 300) + strings.Repeat("]", 300))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(`$` + strings.Repeat("..*", 20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Get(doc); err == nil || !strings.Contains(err.Error(), "visits more than") {
		t.Errorf("the path gave %v", err)
	}
}

func TestAllocations(t *testing.T) {
	doc, err := jsonvalue.ParseString(store)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(`$.store.book[2].title`)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Get(doc) }); n > 0 {
		t.Errorf("a definite path takes %v allocations, want none", n)
	}
}

func FuzzJSONPath(f *testing.F) {
	for _, path := range []string{
		`$`, `$.a.b`, `$['a','b']`, `$[0,-1]`, `$[1:2]`, `$..a`, `$..*`, `$[?(@.a == 'x' && !(@.b))]`, `$[?(@.a =~ /x/i)]`,
		`$[?(@.a in [1,"x"])]`, `$.a.length()`, `$.a.concat("x", $.b)`, `$[?(@.a.length() > 2)]`, `$[?(1)]`, `$[?(@ size 1)]`,
	} {
		f.Add(path, store)
	}
	f.Fuzz(func(t *testing.T, path, text string) {
		p, err := Compile(path)
		if err != nil {
			return
		}
		if p.String() != path {
			t.Fatalf("%q compiles to %q", path, p.String())
		}
		doc, err := jsonvalue.ParseString(text)
		if err != nil {
			return
		}
		v, err := p.Get(doc)
		if err == nil && !v.Defined() {
			t.Fatal("the path gave neither a value nor an error")
		}
		if p.Reference() {
			if after, err := p.Put(doc, jsonvalue.TrueValue); err == nil {
				if got, err := p.Get(after); err != nil || got.Kind() != jsonvalue.True {
					t.Fatalf("what was put at %s is not there: %v", path, err)
				}
			}
		}
	})
}
