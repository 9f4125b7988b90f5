package spenriched

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/snowplow"
)

// Filter is the transform spEnrichedFilter.
var Filter = connector.Of(connector.Spec[FilterConfig, connector.Transform]{
	Name:      "spEnrichedFilter",
	Summary:   "Keeps or drops Snowplow enriched events by a regular expression on an atomic field.",
	Stability: connector.Stable,
	Default:   func() FilterConfig { return FilterConfig{} },
	New: func(_ context.Context, _ connector.Deps, c FilterConfig) (connector.Transform, error) {
		f, err := fieldOf(c.AtomicField)
		if err != nil {
			return nil, err
		}
		return newFilter(c.AtomicField, c.Regex, c.FilterAction, atomic{f})
	},
})

// FilterConfig is the configuration of spEnrichedFilter.
type FilterConfig struct {
	// Name of the atomic field to look at, such as "platform". An event without a value
	// in it is matched as the empty text.
	AtomicField string `hcl:"atomic_field"`
	// Regular expression (RE2 syntax) searched for anywhere in the value; anchor it with
	// ^ and $ to match the whole. Numbers, booleans ("true") and timestamps
	// ("2006-01-02 15:04:05.999 +0000 UTC") are matched as text.
	Regex string `hcl:"regex"`
	// What to do with an event that matches: "keep" it and drop the others, or "drop" it
	// and keep the others. Dropped events go to the filter target.
	FilterAction string `hcl:"filter_action"`
}

// Validate names what could never work.
func (c FilterConfig) Validate() []connector.Problem {
	return append(checkField(c.AtomicField), checkMatch(c.Regex, c.FilterAction)...)
}

// FilterContext is the transform spEnrichedFilterContext.
var FilterContext = connector.Of(connector.Spec[FilterContextConfig, connector.Transform]{
	Name:      "spEnrichedFilterContext",
	Summary:   "Keeps or drops Snowplow enriched events by a regular expression on a value in a context.",
	Stability: connector.Stable,
	Default:   func() FilterContextConfig { return FilterContextConfig{} },
	New: func(_ context.Context, _ connector.Deps, c FilterContextConfig) (connector.Transform, error) {
		path, err := snowplow.ParsePath(c.CustomFieldPath)
		if err != nil {
			return nil, err
		}
		return newFilter(c.ContextFullName+" "+c.CustomFieldPath, c.Regex, c.FilterAction, entities{name: c.ContextFullName, path: path})
	},
})

// FilterContextConfig is the configuration of spEnrichedFilterContext.
type FilterContextConfig struct {
	// Full name of the context as it appears in the JSON form of the event, such as
	// "contexts_com_acme_page_1". Entities of both contexts and derived_contexts count;
	// one that matches is enough.
	ContextFullName string `hcl:"context_full_name"`
	// Path to the value in the context's data, such as "items[0].name". An event in
	// which it leads nowhere is matched as the empty text.
	CustomFieldPath string `hcl:"custom_field_path"`
	// Regular expression (RE2 syntax) searched for anywhere in the value; anchor it with
	// ^ and $ to match the whole.
	Regex string `hcl:"regex"`
	// What to do with an event that matches: "keep" it and drop the others, or "drop" it
	// and keep the others. Dropped events go to the filter target.
	FilterAction string `hcl:"filter_action"`
}

// Validate names what could never work.
func (c FilterContextConfig) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.ContextFullName == "" {
		ps = append(ps, connector.Problem{Field: "context_full_name", What: "context_full_name is empty",
			Fix: `name the context as it appears in JSON, such as "contexts_com_acme_page_1"`})
	}
	ps = append(ps, checkPath(c.CustomFieldPath)...)
	return append(ps, checkMatch(c.Regex, c.FilterAction)...)
}

// FilterUnstruct is the transform spEnrichedFilterUnstructEvent.
var FilterUnstruct = connector.Of(connector.Spec[FilterUnstructConfig, connector.Transform]{
	Name:      "spEnrichedFilterUnstructEvent",
	Summary:   "Keeps or drops Snowplow enriched events by a regular expression on a value of the self-describing event.",
	Stability: connector.Stable,
	Default:   func() FilterUnstructConfig { return FilterUnstructConfig{UnstructEventVersionRegex: ".*"} },
	New: func(_ context.Context, _ connector.Deps, c FilterUnstructConfig) (connector.Transform, error) {
		path, err := snowplow.ParsePath(c.CustomFieldPath)
		if err != nil {
			return nil, err
		}
		version, err := regexp.Compile(c.UnstructEventVersionRegex)
		if err != nil {
			return nil, fmt.Errorf("unstruct_event_version_regex: %w", err)
		}
		return newFilter(c.UnstructEventName+" "+c.CustomFieldPath, c.Regex, c.FilterAction, unstruct{name: c.UnstructEventName, version: version, path: path})
	},
})

// FilterUnstructConfig is the configuration of spEnrichedFilterUnstructEvent.
type FilterUnstructConfig struct {
	// Name the event must have in event_name, exactly, such as "link_click". Other
	// events are matched as the empty text.
	UnstructEventName string `hcl:"unstruct_event_name"`
	// Regular expression (RE2 syntax) searched for anywhere in event_version, such as
	// "^1-"; events of other versions are matched as the empty text. Default: ".*".
	UnstructEventVersionRegex string `hcl:"unstruct_event_version_regex,optional"`
	// Path to the value in the event's data, such as "items[0].name". An event in which
	// it leads nowhere is matched as the empty text.
	CustomFieldPath string `hcl:"custom_field_path"`
	// Regular expression (RE2 syntax) searched for anywhere in the value; anchor it with
	// ^ and $ to match the whole.
	Regex string `hcl:"regex"`
	// What to do with an event that matches: "keep" it and drop the others, or "drop" it
	// and keep the others. Dropped events go to the filter target.
	FilterAction string `hcl:"filter_action"`
}

// Validate names what could never work.
func (c FilterUnstructConfig) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.UnstructEventName == "" {
		ps = append(ps, connector.Problem{Field: "unstruct_event_name", What: "unstruct_event_name is empty",
			Fix: `name the event as in event_name, such as "link_click"`})
	}
	ps = append(ps, checkRegex("unstruct_event_version_regex", c.UnstructEventVersionRegex)...)
	ps = append(ps, checkPath(c.CustomFieldPath)...)
	return append(ps, checkMatch(c.Regex, c.FilterAction)...)
}

func checkMatch(regex, action string) []connector.Problem {
	ps := checkRegex("regex", regex)
	if action != "keep" && action != "drop" {
		ps = append(ps, connector.Problem{Field: "filter_action",
			What: fmt.Sprintf("filter_action is %q", action), Fix: `use "keep" or "drop"`})
	}
	return ps
}

func checkRegex(field, regex string) []connector.Problem {
	if _, err := regexp.Compile(regex); err != nil {
		return []connector.Problem{{Field: field, What: fmt.Sprintf("%s cannot be compiled: %s", field, err),
			Fix: "use RE2 syntax: no look-ahead, look-behind or back-references"}}
	}
	return nil
}

func checkPath(path string) []connector.Problem {
	if _, err := snowplow.ParsePath(path); err != nil {
		return []connector.Problem{{Field: "custom_field_path", What: err.Error(),
			Fix: `write members with dots and indexes in brackets: "items[0].name"`}}
	}
	return nil
}

// filter keeps or drops an event by whether one of the values its getter finds matches.
type filter struct {
	regex  *regexp.Regexp
	keep   bool // what to do with a match
	from   getter
	reason string // why an event is dropped
}

// getter says whether any of its values in the event matches. An event without a value
// is matched as the empty text. buf is memory to build texts in, and is returned.
type getter interface {
	match(ev *snowplow.Event, re *regexp.Regexp, buf []byte) (matched bool, _ []byte, _ error)
}

// newFilter is a filter by the values that from finds, which are what it is asked for.
func newFilter(what, regex, action string, from getter) (connector.Transform, error) {
	if action != "keep" && action != "drop" {
		return nil, fmt.Errorf("filter_action is %q: use \"keep\" or \"drop\"", action)
	}
	re, err := regexp.Compile(regex)
	if err != nil {
		return nil, fmt.Errorf("regex: %w", err)
	}
	reason := what + " matches " + regex
	if action == "keep" {
		reason = what + " does not match " + regex
	}
	return filter{regex: re, keep: action == "keep", from: from, reason: reason}, nil
}

// Worker implements connector.Transform.
func (t filter) Worker() (connector.Worker, error) { return &filterWorker{filter: t}, nil }

// filterWorker is a filter with memory to build texts in.
type filterWorker struct {
	filter
	text []byte
}

// Apply keeps or drops m.
func (t *filterWorker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	ev, err := snowplow.Of(m)
	if err != nil {
		return out, err
	}
	var matched bool
	if matched, t.text, err = t.from.match(ev, t.regex, t.text[:0]); err != nil {
		return out, snowplow.Invalid("the value to filter by cannot be read", err)
	}
	if matched != t.keep {
		m.Drop(t.reason)
		return out, nil
	}
	return append(out, m), nil
}

type atomic struct{ field snowplow.Field }

func (g atomic) match(ev *snowplow.Event, re *regexp.Regexp, buf []byte) (bool, []byte, error) {
	if g.field.Kind() == snowplow.String {
		return re.MatchString(ev.Raw(g.field)), buf, nil
	}
	buf, err := ev.AppendText(buf, g.field)
	if err != nil && !errors.Is(err, snowplow.ErrEmpty) {
		return false, buf, err
	}
	return re.Match(buf), buf, nil
}

type entities struct {
	name string
	path snowplow.Path
}

func (g entities) match(ev *snowplow.Event, re *regexp.Regexp, buf []byte) (bool, []byte, error) {
	contexts, derived, err := ev.Contexts()
	if err != nil {
		return false, buf, err
	}
	some := false
	for _, list := range [2][]snowplow.Entity{contexts, derived} {
		for i := range list {
			if list[i].Name != g.name {
				continue
			}
			var found bool
			if buf, found, err = list[i].Lookup(buf[:0], g.path); err != nil {
				return false, buf, fmt.Errorf("%s.%s: %w", g.name, g.path, err)
			}
			if found && re.Match(buf) {
				return true, buf, nil
			}
			some = some || found
		}
	}
	return !some && re.MatchString(""), buf, nil
}

type unstruct struct {
	name    string
	version *regexp.Regexp
	path    snowplow.Path
}

func (g unstruct) match(ev *snowplow.Event, re *regexp.Regexp, buf []byte) (bool, []byte, error) {
	switch ev.Raw(snowplow.EventName) {
	case g.name:
	case "":
		return false, buf, fmt.Errorf("%s: %w", snowplow.EventName, snowplow.ErrEmpty)
	default:
		return re.MatchString(""), buf, nil
	}
	version := ev.Raw(snowplow.EventVersion)
	if version == "" {
		return false, buf, fmt.Errorf("%s: %w", snowplow.EventVersion, snowplow.ErrEmpty)
	}
	if !g.version.MatchString(version) {
		return re.MatchString(""), buf, nil
	}
	u, err := ev.Unstruct()
	if errors.Is(err, snowplow.ErrEmpty) {
		return re.MatchString(""), buf, nil
	}
	if err != nil {
		return false, buf, err
	}
	buf, found, err := u.Lookup(buf, g.path)
	if err != nil {
		return false, buf, fmt.Errorf("%s.%s: %w", u.Name, g.path, err)
	}
	if !found {
		buf = buf[:0]
	}
	return re.Match(buf), buf, nil
}
