package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// An option that is a time says its unit in its name: timeout_ms, buffer_sec. Its value is a
// number of that unit, or a duration as text, "1.5s"; and with a duration the name may do
// without the unit: timeout = "1.5s".

// unit is a unit that names of options end with.
type unit struct {
	suffix, words string
	short         string // as it is written behind a number
	size          time.Duration
}

var units = []unit{
	{"_in_millis", "milliseconds", "ms", time.Millisecond},
	{"_in_seconds", "seconds", "s", time.Second},
	{"_millis", "milliseconds", "ms", time.Millisecond},
	{"_ms", "milliseconds", "ms", time.Millisecond},
	{"_seconds", "seconds", "s", time.Second},
	{"_secs", "seconds", "s", time.Second},
	{"_sec", "seconds", "s", time.Second},
	{"_minutes", "minutes", "m", time.Minute},
	{"_hours", "hours", "h", time.Hour},
	{"_days", "days", "d", 24 * time.Hour},
}

// unitOf is the unit of an option of a Go type, and its name without it.
func unitOf(name string, t reflect.Type) (u unit, plain string, ok bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !isInteger(t) && t.Kind() != reflect.Float64 {
		return unit{}, "", false
	}
	for _, u := range units {
		if plain, found := strings.CutSuffix(name, u.suffix); found {
			return u, plain, plain != "" && !strings.HasSuffix(plain, "_per")
		}
	}
	return unit{}, "", false
}

// Unit is the unit of an option that is a time, in words, and the name it has where its value
// is written with a unit: "milliseconds" and "timeout" of timeout_ms.
func Unit(name string, t reflect.Type) (words, plain string, ok bool) {
	u, plain, ok := unitOf(name, t)
	return u.words, plain, ok
}

// parseDuration reads what [time.ParseDuration] does, and days: "1d12h".
func parseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of days", days)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

// duration is the expression of an option with a unit: text that is a duration has the value
// of its number of units.
type duration struct {
	hclsyntax.Expression
	unit unit
}

func (e *duration) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	if diags.HasErrors() || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return v, diags
	}
	d, err := parseDuration(v.AsString())
	if err != nil || strings.TrimSpace(v.AsString()) == "0" {
		return v, diags // a number in quotes, or none: what is wrong is told where numbers are
	}
	return cty.NumberFloatVal(float64(d) / float64(e.unit.size)), diags
}

// durations has the options of b that are times take durations, also under their names
// without the unit.
func (c *checker) durations(b *hclsyntax.Body, s *schema) {
	plain := map[string]string{} // to the whole name
	for name, f := range s.attributes {
		u, short, ok := unitOf(name, f.typ)
		if !ok {
			continue
		}
		if a := b.Attributes[name]; a != nil {
			if _, done := a.Expr.(*duration); !done {
				a.Expr = &duration{a.Expr, u}
			}
		}
		if !s.knows(short) {
			plain[short] = name
		}
	}
	for short, name := range plain {
		a := b.Attributes[short]
		if a == nil {
			continue
		}
		if other := b.Attributes[name]; other != nil {
			c.errorAt(a.NameRange, fmt.Sprintf("%s and %s are the same option", short, name), "keep one of the two")
			delete(b.Attributes, short)
			continue
		}
		v, ds := c.doc.value(a.Expr)
		if len(ds) == 0 && (v.IsNull() || v.Type() != cty.String || !isDuration(v.AsString())) {
			u, _, _ := unitOf(name, s.attributes[name].typ)
			c.errorAt(a.Expr.Range(), fmt.Sprintf("%s must be a duration with its unit, as text", short),
				fmt.Sprintf(`write %s = "10s", or %s = 10 for %s`, short, name, u.words))
			delete(b.Attributes, short)
			continue
		}
		u, _, _ := unitOf(name, s.attributes[name].typ)
		moved := *a
		moved.Name, moved.Expr = name, &duration{a.Expr, u}
		delete(b.Attributes, short)
		b.Attributes[name] = &moved
	}
}

func isDuration(s string) bool {
	_, err := parseDuration(s)
	return err == nil
}
