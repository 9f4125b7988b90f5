package jq

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/event"
)

// TestMatch: the functions defined anew give what the interpreter's own give.
func TestMatch(t *testing.T) {
	t.Parallel()
	texts := []string{"", "a", "abc abd", "aüb😀c", "aaa", "x=1, y=2", "line\nline", "\xffa", "A-b_C"}
	expressions := []string{"", "a", "a*", "b|", "(?<k>[a-z])=(?<v>[0-9])?", "^l", ".", "(a)|(b)", "[^a]+", "ü|😀", "\\b", "x*$", "("}
	for _, command := range []string{
		`[match($re)]`, `[match($re; "g")]`, `[match($re; "gi")]`, `[match([$re, "g"])]`, `[match($re; "gm")]`, `[match($re; "z")]`, `[match($re; null)]`, `[capture($re)]`, `[capture($re; "g")]`, `[scan($re)]`, `[scan($re; "i")]`,
		`[splits($re)]`, `split($re; null)`, `split($re; "i")`, `split($re)`, `[sub($re; "<x>")]`, `[gsub($re; "<\(.k // "-")>")]`, `[gsub($re; "1", "2")]`, `[gsub($re; empty)]`, `[sub($re; "y"; "gi")]`, `[gsub($re; "\(.)")]`, `test($re)`, `[1 | match($re)]`, `[match(1)?]`,
	} {
		q, err := gojq.Parse(command)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := gojq.Compile(q, gojq.WithVariables([]string{"$re"}))
		if err != nil {
			t.Fatal(err)
		}
		again, _ := gojq.Parse(command)
		defineMatch(again, command)
		ours, err := gojq.Compile(again, append(functions(defaults()), gojq.WithVariables([]string{"$re"}))...)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			for _, re := range expressions {
				answer := func(c *gojq.Code) string {
					v, _ := c.Run(text, re).Next()
					if _, failed := v.(error); failed {
						return "error"
					}
					b, err := json.Marshal(v)
					if err != nil {
						t.Fatal(err)
					}
					return string(b)
				}
				if got, want := answer(ours), answer(theirs); got != want {
					t.Errorf("%q | %s with %q: got %s, want %s", text, command, re, got, want)
				}
			}
		}
	}
}

// TestMatchOfLongText: the time is not in proportion to the square of the text. If it were,
// it would be half an hour where this takes a second.
func TestMatchOfLongText(t *testing.T) {
	t.Parallel()
	tr := build(t, JQ, `[.s | match("[a-z]+"; "g").length] | add`, func(c *Config) { c.TimeoutMillis = 300_000 })
	m := event.New(fmt.Appendf(nil, `{"s":%q}`, strings.Repeat("lorem ipsum ", 150_000)))
	if _, err := tr.Apply(context.Background(), nil, m); err != nil || string(m.Data) != "1500000" {
		t.Fatalf("%.100s, %v", m.Data, err)
	}
}
