package workspace

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/jsontext"
)

// TrackingPlan names a version of a tracking plan, and says what is done with violations. It is
// shared: never write into it.
type TrackingPlan struct {
	ID      string
	Version int

	options map[string][]PlanOption // by type of event
}

// PlanOption is an option for the events of a type: what is no text is its JSON, and all of it is in
// lower case.
type PlanOption struct{ Key, Value string }

// The options that count.
const (
	PlanUnplannedEvents     = "allowUnplannedEvents"
	PlanUnplannedProperties = "unplannedProperties"
	PlanOtherViolations     = "anyOtherViolation"
	PlanSendViolated        = "sendViolatedEventsTo"
	PlanPropagate           = "propagateValidationErrors"
	PlanEngine              = "ajvOptions"
)

var planValues = map[string][]string{
	PlanUnplannedEvents:     {"true", "false"},
	PlanUnplannedProperties: {"forward", "drop"},
	PlanOtherViolations:     {"forward", "drop"},
	PlanSendViolated:        {"procerrors"},
	PlanPropagate:           {"true", "false"},
}

// planned are the types of events that tracking plans are about.
var planned = []string{"track", "identify", "group", "page", "screen"}

// Options are the options for events of a type, in their order. Without any, they are not validated.
func (p *TrackingPlan) Options(kind string) []PlanOption {
	if p == nil {
		return nil
	}
	return p.options[kind]
}

// newTrackingPlan reads the options of a plan: the merged config where there is one, and otherwise that of
// all types and over it that of each. Odd is what of it means nothing.
func newTrackingPlan(id string, version int, config, merged json.RawMessage) (p *TrackingPlan, odd []string) {
	p = &TrackingPlan{ID: id, Version: version, options: map[string][]PlanOption{}}
	say := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(odd, text) {
			odd = append(odd, text)
		}
	}
	members := func(name string, text json.RawMessage) (all []PlanOption, objects map[string]json.RawMessage) {
		if null(text) {
			return nil, nil
		}
		s := jsontext.Scan(text)
		ms, ok := s.Object(nil)
		if !ok {
			say("dgSourceTrackingPlanConfig.%s is no object, and is as if it were not there", name)
			return nil, nil
		}
		objects = map[string]json.RawMessage{}
		for _, m := range ms {
			key, value := string(m.Name(text)), m.Of(text)
			objects[key] = value
			if value[0] == '"' {
				value = jsontext.Unquoted(value)
			}
			all = overlaid(all, PlanOption{key, strings.ToLower(string(value))})
		}
		return all, objects
	}
	whole, _ := members("mergedConfig", merged)
	_, of := members("config", config)
	for _, kind := range planned {
		options := whole
		if null(merged) {
			options, _ = members("config.global", of["global"])
			own, _ := members("config."+kind, of[kind])
			for _, o := range own {
				options = overlaid(options, o)
			}
		}
		for _, o := range options {
			if values := planValues[o.Key]; values != nil && !slices.Contains(values, o.Value) {
				say("the tracking plan %s has %s %q, which is none of %s and does nothing", id, o.Key, o.Value, strings.Join(values, ", "))
			}
		}
		if len(options) > 0 {
			p.options[kind] = options
		}
	}
	return p, odd
}

// overlaid is all with o in the place of one with its key, or at the end.
func overlaid(all []PlanOption, o PlanOption) []PlanOption {
	for i := range all {
		if all[i].Key == o.Key {
			all = slices.Clone(all)
			all[i] = o
			return all
		}
	}
	return append(slices.Clip(all), o)
}
