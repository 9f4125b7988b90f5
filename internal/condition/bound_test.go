package condition

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestBounds: a condition that would run for ever, or take all memory, is an error of its message,
// and the next message is decided.
func TestBounds(t *testing.T) {
	t.Parallel()
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 3000), ",") + "]"
	large := event.New(fmt.Appendf(nil, `{"l":%s,"s":%q}`, list, strings.Repeat("x", 1<<20)))
	small := event.New([]byte(`{"l":[1],"s":"x"}`))
	e := NewEvaluator()
	for _, text := range []string{
		`all(event.l, {let a = #; all(event.l, {let b = #; all(event.l, {a + b + # > 0})})})`,
		`count(event.l, {any(event.l, {sum(event.l, {# + 0}) < 0})}) == 0`,
		`len(filter(event.l, {len(map(event.l, {reduce(event.l, #acc + #, 0)})) > 0})) > 0`,
		`len(repeat(event.s, 100000)) > 0`,
		`len(repeat(data, 1000000)) > 10`,
		`len(replace(event.s, "", event.s)) > 0`,
		`len(replace(event.s, "x", event.s)) > 0`,
	} {
		c, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if yes, err := e.True(c, large); err == nil || fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %t, %v", text, yes, err)
		}
		if _, err := e.True(c, small); err != nil {
			t.Errorf("%s: the next message: %v", text, err)
		}
	}
	for _, text := range []string{
		`repeat("ab", 2) == "abab" and replace("aXbX", "X", "y") == "ayby" and replace("aXbX", "X", "y", 1) == "aybX"`,
		`all(event.l, {# == 1}) and any(event.l, # > 0) and map(event.l, {# + 1})[0] == 2 and filter(event.l, # == 1) == [1]`,
		`reduce(event.l, #acc + #, 10) == 11 and sum(event.l) == 1 and count(event.l, # == 1) == 1 and one(event.l, # == 1)`,
		`"1" in keys(groupBy(map(event.l, string(#)), #)) and sortBy(event.l, #)[0] == 1 and find(event.l, # == 1) == 1`,
		`"s" | repeat(3) == "sss"`,
	} {
		c, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if yes, err := e.True(c, small); err != nil || !yes {
			t.Errorf("%s: %t, %v", text, yes, err)
		}
	}
}
