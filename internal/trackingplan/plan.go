package trackingplan

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/weirdata/weir/internal/jsontext"
)

// track is the type of event whose events a plan names.
const track = "track"

// plan is a version of a tracking plan with its rules compiled. Many goroutines may use it at once.
type plan struct {
	rules map[key]*rule
}

// key is what a rule is for; the name is empty for all types but track.
type key struct{ kind, name string }

// rule is a compiled schema.
type rule struct {
	schema *jsonschema.Schema
	doc    any // as it was written
	err    error
}

// broken reports whether there is a rule, and it cannot be used.
func (r *rule) broken() bool { return r.err != nil }

// planDocument is a plan as the control plane gives it, in its newer form and, by Rules, its older.
type planDocument struct {
	Events []struct {
		Name string          `json:"name"`
		Kind string          `json:"eventType"`
		Rule json.RawMessage `json:"rules"`
	} `json:"events"`
	Rules map[string]json.RawMessage `json:"rules"`
}

// read makes a plan of its text, which compiles its schemas. Rules that cannot be used are in it with the reason.
func read(text []byte) (*plan, error) {
	var d planDocument
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	if d.Events == nil && d.Rules == nil {
		return nil, errors.New("it is no tracking plan: it has neither \"events\" nor \"rules\"")
	}
	p := &plan{rules: map[key]*rule{}}
	for _, e := range d.Events {
		k := key{strings.ToLower(e.Kind), ""}
		if k.kind == "" {
			k.kind = track
		}
		if k.kind == track {
			k.name = e.Name
		}
		p.add(k, e.Rule)
	}
	for kind, text := range d.Rules {
		if kind != "events" {
			p.add(key{strings.ToLower(kind), ""}, text)
			continue
		}
		var events []struct {
			Name string          `json:"name"`
			Rule json.RawMessage `json:"rules"`
		}
		if err := json.Unmarshal(text, &events); err != nil {
			return nil, fmt.Errorf("rules.events: %w", err)
		}
		for _, e := range events {
			p.add(key{track, e.Name}, e.Rule)
		}
	}
	return p, nil
}

func (p *plan) add(k key, text json.RawMessage) {
	if p.rules[k] != nil || len(text) == 0 || string(text) == "null" {
		return
	}
	r := &rule{}
	r.schema, r.doc, r.err = compile(text)
	p.rules[k] = r
}

// broken are the rules that cannot be used.
func (p *plan) broken() (all []error) {
	for k, r := range p.rules {
		if r.err != nil {
			all = append(all, fmt.Errorf("the rule for %s %q: %w", k.kind, k.name, r.err))
		}
	}
	return all
}

// place is what a schema is called; nothing is ever read from there.
const place = "plan:///rule.json"

// nothing refuses whatever a schema refers to outside of itself.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: a rule may refer to its own parts only", url)
}

// compile compiles a schema. As with RudderStack draft 4 is what says so, and all else is read as
// draft 2019-09, which drafts 6 and 7 are parts of.
func compile(text []byte) (s *jsonschema.Schema, doc any, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("the schema cannot be compiled: %v", r)
		}
	}()
	if doc, err = decode(text); err != nil {
		return nil, nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	c.UseRegexpEngine(expression)
	c.AssertFormat()
	c.DefaultDraft(jsonschema.Draft2019)
	taken := doc
	if m, ok := doc.(map[string]any); ok {
		named, _ := m["$schema"].(string)
		if strings.Contains(named, "draft-04") {
			c.DefaultDraft(jsonschema.Draft4)
		}
		own := make(map[string]any, len(m))
		for k, v := range m {
			if k != "$schema" && k != "version" {
				own[k] = v
			}
		}
		taken = own
	}
	if err := c.AddResource(place, taken); err != nil {
		return nil, nil, err
	}
	s, err = c.Compile(place)
	return s, taken, err
}

// decode is text as the schema library takes it: numbers keep their digits, but where those are no
// number to a JavaScript engine.
func decode(text []byte) (any, error) {
	return jsontext.Decode(string(text), func(token string) (any, error) {
		if len(token) < 300 && !strings.ContainsAny(token, "eE") {
			return json.Number(token), nil
		}
		x, _ := jsontext.Float(token)
		if math.IsInf(x, 0) {
			return math.Copysign(math.MaxFloat64, x), nil
		}
		return x, nil
	})
}

// patience bounds a search with an expression that may take for ever.
const patience = 100 * time.Millisecond

// expression compiles a pattern of ECMAScript: with an engine that never takes long where that knows
// its syntax.
func expression(text string) (jsonschema.Regexp, error) {
	if re, err := regexp.Compile(text); err == nil && !strings.Contains(text, `\s`) {
		return re, nil
	}
	re, err := regexp2.Compile(text, regexp2.ECMAScript|regexp2.Unicode)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = patience
	return backtracking{re}, nil
}

type backtracking struct{ *regexp2.Regexp }

// MatchString is false too for a search that takes too long.
func (b backtracking) MatchString(s string) bool {
	found, err := b.Regexp.MatchString(s)
	return err == nil && found
}
