package machine

import (
	"strings"
	"testing"
)

func TestIntrinsics(t *testing.T) {
	t.Parallel()
	const input = `{"s":"a,b;c","n":1.5,"l":[1,2,2,3],"o":{"x":1,"y":[true,null]},"p":{"y":2,"z":3},"t":"Hi {}, \\{\\}","q":"it's"}`
	for _, row := range []struct{ call, want string }{
		{`States.Array()`, `[]`},
		{`States.Array(1, 'two', true, null, $.n, States.Array(3))`, `[1,"two",true,null,1.5,[3]]`},
		{`States.ArrayPartition($.l, 3)`, `[[1,2,2],[3]]`},
		{`States.ArrayPartition($.l, 0)`, `! the chunk size must be a positive number`},
		{`States.ArrayContains($.l, 2.0)`, `true`},
		{`States.ArrayContains($.s, 2)`, `! argument 1 must be an array, it is a string`},
		{`States.ArrayRange(1, 9, 2)`, `[1,3,5,7,9]`},
		{`States.ArrayRange(3, 1, -1)`, `[3,2,1]`},
		{`States.ArrayRange(1, 2, 0)`, `! the step must not be zero`},
		{`States.ArrayRange(1, 1001, 1)`, `! the range has more than 1000 items`},
		{`States.ArrayGetItem($.l, 3)`, `3`},
		{`States.ArrayGetItem($.l, 4)`, `! index 4 is outside an array of 4 items`},
		{`States.ArrayLength($.l)`, `4`},
		{`States.ArrayUnique(States.Array(1, 1.0, 'a', 'a', $.o, $.o, '1'))`, `[1,"a",{"x":1,"y":[true,null]},"1"]`},
		{`States.Base64Encode('Data to encode')`, `"RGF0YSB0byBlbmNvZGU="`},
		{`States.Base64Decode('RGF0YSB0byBlbmNvZGU=')`, `"Data to encode"`},
		{`States.Hash('x', 'MD5')`, `"9dd4e461268c8034f5c8564e155c67a6"`},
		{`States.Hash('x', 'SHA-1')`, `"11f6ad8ec52a2984abaafd7c3b516503785c2072"`},
		{`States.Hash('x', 'CRC')`, `! "CRC" is no hashing algorithm; there are MD5, SHA-1, SHA-256, SHA-384 and SHA-512`},
		{`States.JsonMerge($.o, $.p, false)`, `{"x":1,"y":2,"z":3}`},
		{`States.JsonMerge($.o, $.p, true)`, `! argument 3 must be false: only a shallow merge is supported`},
		{`States.StringToJson('{"a":[1.0]}')`, `{"a":[1.0]}`},
		{`States.JsonToString($.o)`, `"{\"x\":1,\"y\":[true,null]}"`},
		{`States.MathAdd($.n, -1)`, `1`},
		{`States.MathAdd(4611686018427387904, 4611686018427387904)`, `! the sum is too large`},
		{`States.MathRandom(5, 6)`, `5`},
		{`States.MathRandom(1, 10)`, `5`},
		{`States.MathRandom(6, 5)`, `! the end must be greater than the start`},
		{`States.StringSplit($.s, ',;')`, `["a","b","c"]`},
		{`States.StringSplit('héé', 'é')`, `["h"]`},
		{`States.StringSplit('abc', '')`, `["abc"]`},
		{`States.Format('{}: {}, \{\} it\'s {}', $.o, $.l, $.q)`, `"{x=1, y=[true, null]}: [1, 2, 2, 3], {} it's it's"`},
		{`States.Format($.t, 'you')`, `"Hi you, {}"`},
		{`States.Format('{}')`, `! the template has more {} than the 0 arguments`},
		{`States.Format('x', 1)`, `! the template has 0 {} for 1 arguments`},
		{`States.Format('{x}')`, `! the template has a '{' that is not escaped by a backslash`},
		{`States.UUID()`, `"80808080-8080-4080-8080-808080808080"`},
	} {
		d := newDriver(t, alone(`"Type":"Pass","Parameters":{"r.$":`+quote(row.call)+`}`))
		d.run(input)
		var got string
		if d.x.Cause != nil {
			_, got, _ = strings.Cut(*d.x.Cause, "the following error:")
			got = "!" + got
			if *d.x.Error != errorIntrinsic {
				got += " " + *d.x.Error
			}
		} else {
			got = d.x.Output.Get("r").JSON()
		}
		if got != row.want {
			t.Errorf("%s gives %s, want %s", row.call, got, row.want)
		}
	}
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func TestRefusedCalls(t *testing.T) {
	t.Parallel()
	for _, call := range []string{
		`States.`, `States.Format`, `States.Format(`, `States.Format('a'`, `States.Format('a')x`, `States.Format('a',)`, `States.Format(a)`, `States.Format("a")`,
		`States.MathAdd(1)`, `States.UUID(1)`, `States.Array($.a[)`, `States.Array([1])`, `States.Nope()`, `Stats.Array()`,
		strings.Repeat(`States.Array(`, 11) + strings.Repeat(`)`, 11),
	} {
		if _, err := compileIntrinsic(call); err == nil {
			t.Errorf("%s was accepted", call)
		}
	}
}
