package machine

import (
	"fmt"
	"strconv"

	"github.com/weirdata/weir/internal/fault"
)

// Restore reads a definition that Parse has accepted before, perhaps that of an earlier version
// of the program, with the limits and under the revision it had then. What Parse objects to by
// now is no reason to give up the executions of a definition: it is read as it was. A state that
// cannot be read at all fails with States.Runtime and the reason when an execution comes to it;
// the others go on. The error is of kind Setup: nothing can be made of the text.
func Restore(revision string, text []byte, limits Limits) (*Definition, error) {
	n, err := strconv.ParseUint(revision, 16, 64)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("%q is no revision of a definition", revision))
	}
	b := &builder{text: string(text), restores: true, broken: map[string]string{}}
	b.d = &Definition{limits: limits.withDefaults(), text: b.text, states: map[string]*state{}, headValues: headValues, revision: n}
	b.read()
	if len(b.problems) > 0 {
		sortProblems(b.problems)
		return nil, b.problems
	}
	for name, why := range b.broken {
		if s := b.d.states[name]; s != nil {
			s.broken = why
		}
	}
	return b.d, nil
}

// breaks notes that the innermost state of a place cannot be run; false where there is none.
func (b *builder) breaks(at place, why string) bool {
	name := ""
	for len(at) >= 2 && at[0] == "States" {
		s, ok := at[1].(string)
		if !ok {
			break
		}
		name, at = s, at[2:]
		switch {
		case len(at) >= 1 && (at[0] == "ItemProcessor" || at[0] == "Iterator"):
			at = at[1:]
		case len(at) >= 2 && at[0] == "Branches":
			at = at[2:]
		}
	}
	if name == "" {
		return false
	}
	if b.broken[name] == "" {
		b.broken[name] = why
	}
	return true
}

// unusable is the failure of a state that could not be restored.
func (r *run) unusable(s *state) *failure {
	return raise(errorRuntime, "The state cannot be run by this version of the program: %s", s.broken)
}
