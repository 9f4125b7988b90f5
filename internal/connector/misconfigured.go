package connector

import (
	"errors"

	"github.com/weirdata/weir/internal/fault"
)

// Misconfigured is an error of New that one attribute of the config is to blame for, so that
// the diagnostic has its place and says what to do.
type Misconfigured struct {
	Field string // HCL path of the attribute within the block, as in [Problem]
	Fix   string
	Err   error
}

// Blame makes err a [Misconfigured] of kind setup. What err blames already stays to blame.
func Blame(field, fix string, err error) error {
	if m, ok := errors.AsType[*Misconfigured](err); ok {
		field, fix = m.Field, m.Fix
	}
	return fault.New(fault.Setup, &Misconfigured{field, fix, err})
}

func (m *Misconfigured) Error() string { return m.Err.Error() }

func (m *Misconfigured) Unwrap() error { return m.Err }

// Remedy is what to do about err, which may blame an attribute; otherwise is said when it does
// not.
func Remedy(err error, otherwise string) string {
	if m, ok := errors.AsType[*Misconfigured](err); ok {
		return m.Fix
	}
	return otherwise
}
