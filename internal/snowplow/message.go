package snowplow

import (
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Of is the enriched event m carries: the one kept with it by an earlier transform, or
// else its payload parsed now and kept for the next. The error of a payload that is no
// enriched event means that m is invalid.
func Of(m *event.Message) (*Event, error) {
	if e, ok := m.View().(*Event); ok {
		return e, nil
	}
	e, err := Parse(m.Data)
	if err != nil {
		return nil, Invalid("intermediate state cannot be parsed as parsedEvent", err)
	}
	m.Keep(e)
	return e, nil
}

// Invalid is the error of a transform that refuses a message: safe says what could not
// be done without a word of the payload, err says why. A nil err adds nothing to safe.
func Invalid(safe string, err error) error {
	if err == nil {
		err = errors.New(safe)
	} else {
		err = fmt.Errorf("%s: %w", safe, err)
	}
	return fault.Describe(fault.Invalid, err, fault.Detail{
		Type: "transformation", Code: "TransformationError", Safe: safe,
	})
}
