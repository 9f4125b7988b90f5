package jq

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/script"
)

// outputs are the first outputs of a program, errors as texts.
func outputs(t *testing.T, c *gojq.Code, input any) (all []string) {
	t.Helper()
	it := c.Run(input)
	for range 50 {
		v, ok := it.Next()
		if !ok {
			break
		}
		if err, is := v.(error); is {
			return append(all, "error: "+err.Error())
		}
		text, err := gojq.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%T %s", v, text))
	}
	return all
}

// TestSameAsGojq: what is done here in place of gojq gives what gojq gives: values, their order,
// and errors.
func TestSameAsGojq(t *testing.T) {
	t.Parallel()
	values := []string{"null", "true", "0", "1", "-1", "3", "9223372036854775807", "-9223372036854775808", "4611686018427387904", "1e400", "1.5", "-0.5", "nan", `""`, `"ab"`, `[]`, `[1,[2,"x"]]`, `{}`, `{"a":{"b":1}}`, `{"a":{"c":2},"d":3}`, ".s", ".l[]", ".o"}
	var programs []string
	for _, l := range values {
		for _, r := range values {
			for _, op := range []string{"+", "*"} {
				programs = append(programs, l+" "+op+" "+r, fmt.Sprintf("[(%s,%s) %s (%s,%s)]", l, r, op, r, l))
			}
		}
		for _, f := range []string{"tojson", "tostring", "add", "add(.[]?)", "flatten", "flatten(1)", `join(",")`, `join(.[]?)`, "explode", "@json", "@text", "@html", "@csv", "@sh", `@base64 "x\(.)y"`, `"\(.) and \([.])"`, `"\("in \(.)")"`, `format("text")`} {
			programs = append(programs, l+" | "+f, fmt.Sprintf("try (%s | %s) catch .", l, f), fmt.Sprintf("[%s | %s?]", l, f))
		}
	}
	programs = append(programs,
		`.o.a += 1`, `.l[] += (10, 20)`, `.l[] *= 2`, `.s += .s`, `.new += 1`, `(.l[0], .l[1]) += .l[2]`, `.o += {z: 1}`, `.l |= map(. + 1)`,
		`.l as [$a, $b] | $a + $b * $a`, `def f(x): x + x; f(.l[])`, `def add: 7; [1, 2] | add`, `def join(f): [f]; .l | join(length)`, `reduce .l[] as $x (0; . + $x)`,
		`[.l[] | tostring] | join("-") | explode | implode`, `path(.l + .l)`, `.l | add / length`, `[limit(3; repeat("x" + .s))]`, `.s[1:] + "z"`, `-.l[0] + +.l[1]`, `{(.s + "k"): .l[0]}`, `.l | tojson[1:3]`, `"a" * (0, 1, 2)`, `. + {a: 1} | .a`, `if .l[0] + 1 == 2 then "y" else "n" end`, `try error("x" + "y") catch . + "z"`, `.l[1 + 1]`, `.l[.l[0] + 0:]`, `[.l[] += 1 | .l[]] | add`, `label $f | 1 + 2, break $f`, `?//1`, `.l as [$x] ?// $x | $x + 1`)
	input := map[string]any{"s": "héllo", "l": []any{1, 2.5, 3}, "o": map[string]any{"a": 1, "b": "x"}}
	for _, text := range programs {
		theirs, err := gojq.Parse(text)
		if err != nil {
			continue // the lists meet without sense
		}
		mine, _ := gojq.Parse(text)
		boundSizes(reflect.ValueOf(mine))
		want, err := gojq.Compile(theirs)
		got, mistake := gojq.Compile(mine, functions(defaults())...)
		if err != nil || mistake != nil {
			if (err == nil) != (mistake == nil) {
				t.Errorf("%s: %v, for gojq %v", text, mistake, err)
			}
			continue
		}
		if diff := cmp.Diff(outputs(t, want, input), outputs(t, got, input)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// TestMemory: a program that would take all memory fails its message alone, whether it takes it
// in one operation or in many, and the heap does not grow far beyond what it may take.
func TestMemory(t *testing.T) { // not parallel: it looks at the heap
	const limit = 32
	for _, text := range []string{
		`reduce range(100) as $i (.a; . + .)`,
		`reduce range(100) as $i (.a; "\(.)\(.)")`,
		`.a * 100000000`,
		`100000000 * .a`,
		`(.a * 2000000) as $t | [range(1000) | $t] | add`,
		`(.a * 2000000) as $t | [range(1000) | $t] | add(.[])`,
		`(.a * 2000000) as $t | [range(1000) | $t] | join(",")`,
		`(.a * 2000000) as $t | [range(1000) | 1] | join($t)`,
		`[reduce range(60) as $i (.a; [., .])] | tojson`,
		`[reduce range(60) as $i (.a; [., .])] | flatten`,
		`reduce range(60) as $i (.a; [., .]) | @json`,
		`reduce range(60) as $i (.a; [., .]) | @base64 "x\(.)"`,
		`reduce range(60) as $i ([.a]; . + .)`,
		`reduce range(60) as $i ({a: .a}; .a += .a)`,
		`reduce range(60) as $i ({a: .a}; .a *= 4)`,
		`.a * 3000000 | explode`,
		`[repeat(.a + "x")]`,
		`def f: ., (. + "y" | f); [.a * 1000 | f]`,
	} {
		tr := build(t, JQ, text, func(c *Config) { c.TimeoutMillis, c.MemoryLimitMB = 120_000, limit })
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := tr.Apply(context.Background(), nil, event.New([]byte(`{"a":"0123456789"}`)))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, script.ErrMemory) {
			t.Errorf("%s: %v", text, err)
		}
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 20*limit<<20 {
			t.Errorf("%s: the heap has grown by %d MiB", text, grown>>20)
		}
		if out, err := tr.Apply(context.Background(), nil, event.New([]byte(`{"a":"0"}`))); err == nil && strings.Contains(text, "add") && len(out) != 1 {
			t.Errorf("%s: the next message: %d", text, len(out))
		}
	}
}
