package executor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// A Task's Resource names a function in one of three ways:
//
//	NAME                                              the function NAME
//	arn:aws:lambda:REGION:ACCOUNT:function:NAME[:V]   likewise, as AWS writes it
//	arn:aws:states:::lambda:invoke                    the function that Parameters.FunctionName
//	                                                  names, in either way; it is given
//	                                                  Parameters.Payload, and its output is
//	                                                  Payload of an object with StatusCode 200
const invokeResource = ":states:::lambda:invoke"

// functionName is the function that a resource or FunctionName names, and whether it is
// known to name one at all.
func functionName(resource string) (name string, ok bool) {
	if !strings.HasPrefix(resource, "arn:") {
		name, _, _ = strings.Cut(resource, ":") // NAME:version
		return name, name != ""
	}
	parts := strings.Split(resource, ":")
	if len(parts) < 7 || parts[2] != "lambda" || parts[5] != "function" || parts[6] == "" {
		return "", false
	}
	return parts[6], true
}

func invokes(resource string) bool {
	return strings.HasPrefix(resource, "arn:") && strings.HasSuffix(resource, invokeResource)
}

// called is a function and what it is given.
type called struct {
	function Function
	payload  []byte
	wrap     bool
}

// target finds what a resource means for an input.
func (m *Machine) target(resource string, input []byte) (called, error) {
	c := called{payload: input}
	name, ok := functionName(resource)
	if invokes(resource) {
		v, err := jsonvalue.Parse(input)
		if err != nil {
			return c, fmt.Errorf("read the parameters of %s: %w", resource, err)
		}
		name, ok = functionName(v.Get("FunctionName").Text())
		c.wrap, c.payload = true, []byte("{}")
		if p := v.Get("Payload"); p.Defined() {
			c.payload = p.Append(nil)
		}
	}
	if c.function = m.o.Functions[name]; !ok || c.function == nil {
		return c, Failure(ErrorMissing, fmt.Sprintf("there is no function %q for the resource %q", name, resource), nil)
	}
	return c, nil
}

func wrapped(output []byte) []byte {
	if len(output) == 0 {
		output = []byte("null")
	}
	return slices.Concat([]byte(`{"ExecutedVersion":"$LATEST","Payload":`), output, []byte(`,"StatusCode":200}`))
}

// CheckResources finds the tasks of a definition that name no function.
func CheckResources(def *machine.Definition, functions []string) machine.Problems {
	v, err := jsonvalue.ParseString(def.Text())
	if err != nil {
		// Parse accepted it: this is for the day it accepts more.
		return machine.Problems{{Code: machine.CodeJSON, Location: "/", Line: 1, Column: 1, Message: err.Error()}}
	}
	c := resourceCheck{text: def.Text(), functions: functions}
	c.block(v, nil)
	return c.problems
}

// Doubts finds what a definition may have and nobody can have meant: states of which none ends
// the execution, or its branch.
func Doubts(def *machine.Definition) machine.Problems {
	v, err := jsonvalue.ParseString(def.Text())
	if err != nil {
		return nil //nolint:nilerr // CheckResources says so
	}
	c := resourceCheck{text: def.Text(), endless: true}
	c.block(v, nil)
	return c.problems
}

type resourceCheck struct {
	endless   bool // the end is looked at, and not the resources
	text      string
	functions []string
	problems  machine.Problems
}

func (c *resourceCheck) block(v jsonvalue.Value, at []any) {
	states := v.Get("States")
	if c.endless {
		c.ends(states, at)
	}
	for i, name := range states.Keys() {
		s, here := states.Item(i), append(slices.Clip(at), "States", name)
		switch s.Get("Type").Text() {
		case "Task":
			if !c.endless {
				c.task(s, here)
			}
		case "Parallel":
			for n, b := range s.Get("Branches").Items() {
				c.block(b, append(slices.Clip(here), "Branches", n))
			}
		case "Map":
			for _, field := range [...]string{"ItemProcessor", "Iterator"} {
				if b := s.Get(field); b.Defined() {
					c.block(b, append(slices.Clip(here), field))
				}
			}
		}
	}
}

// ends reports states of which none is the last.
func (c *resourceCheck) ends(states jsonvalue.Value, at []any) {
	for i := range states.Keys() {
		s := states.Item(i)
		if kind := s.Get("Type").Text(); kind == "Succeed" || kind == "Fail" || s.Get("End").Bool() {
			return
		}
	}
	c.report(append(slices.Clip(at), "States"), "no state ends the execution: it goes on until something fails",
		`give a state "End": true, or add one of type Succeed or Fail`)
}

func (c *resourceCheck) task(s jsonvalue.Value, at []any) {
	resource, place := s.Get("Resource").Text(), append(slices.Clip(at), "Resource")
	if invokes(resource) {
		p := s.Get("Parameters")
		if p.Get("FunctionName.$").Defined() {
			return // known when it runs
		}
		if !p.Get("FunctionName").Defined() {
			c.report(append(slices.Clip(at), "Resource"), "the task invokes a function and names none", `add "Parameters": { "FunctionName": "...", "Payload.$": "$" }`)
			return
		}
		resource, place = p.Get("FunctionName").Text(), append(slices.Clip(at), "Parameters", "FunctionName")
	}
	name, ok := functionName(resource)
	switch {
	case strings.Contains(resource, "${"):
		c.report(place, fmt.Sprintf("the resource %q holds a placeholder, as Terraform's templatefile and CloudFormation's DefinitionSubstitutions fill in", resource),
			"fill it in before, or write the name of a function in its place")
	case !ok:
		c.report(place, fmt.Sprintf("the resource %q cannot be run here", resource),
			`name a function of the config, as "NAME", "arn:aws:lambda:...:function:NAME" or with "arn:aws:states:::lambda:invoke"`)
	case !slices.Contains(c.functions, name):
		c.report(place, fmt.Sprintf("there is no function %q", name), fmt.Sprintf("declare it with a block function %q { ... }", name))
	}
}

func (c *resourceCheck) report(at []any, message, fix string) {
	offset := jsonvalue.Locate(c.text, at)
	before := c.text[:min(offset, len(c.text))]
	c.problems = append(c.problems, machine.Problem{
		Code: machine.CodeSchema, Line: 1 + strings.Count(before, "\n"), Column: offset - strings.LastIndexByte(before, '\n'),
		Message: message, Fix: fix,
	})
}

// FunctionNames lists the names of fs, sorted.
func FunctionNames(fs map[string]Function) []string { return slices.Sorted(maps.Keys(fs)) }
