// Package fault says what an error means for delivery. Connectors wrap what they get
// from the other side in one of five kinds; the engine decides by the kind alone,
// through errors.As, so wrapping an error again never changes what happens to a message.
//
//	Transient  expected to pass: retry soon, with back-off (the default)
//	Throttled  the other side asks for less: retry later, quietly
//	Setup      somebody must change something: retry slowly, raise an alert
//	Invalid    this message will never be accepted: to the failure target, no retry
//	Fatal      stop the pipeline with a non-zero exit
//
// A throttled message may also only wait for its turn ([Pace]): the other side takes messages,
// and says when this one is due. That is no failed attempt. And the other side may have no room
// for any message ([Full]), as a disk or a store with a limit, or be out of reach for all of them
// ([Away]). That says nothing of the message.
package fault

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// Kind is what an error means for delivery.
type Kind uint8

// The kinds, from harmless to final.
const (
	Transient Kind = iota
	Throttled
	Setup
	Invalid
	Fatal
)

func (k Kind) String() string {
	switch k {
	case Transient:
		return "transient"
	case Throttled:
		return "throttled"
	case Setup:
		return "setup"
	case Invalid:
		return "invalid"
	case Fatal:
		return "fatal"
	}
	return "unknown"
}

// Error is an error with its meaning for delivery.
type Error struct {
	Kind Kind
	Err  error
	// After is how long the other side asked us to wait; zero when it did not say.
	After time.Duration
	// Paced says that the other side takes messages, and this one when After is over: it waits
	// for its turn, no longer than that, and this was no failed attempt.
	Paced bool
	// Full says that the other side has no room for anything until something is taken away there.
	Full bool
	// Away says that the other side takes nothing because it cannot be reached. Full is set then too.
	Away bool
	// Detail is what failure payloads and reports may show of the error.
	Detail Detail
}

// Detail is the part of an error that is safe to show outside the process.
type Detail struct {
	// Type is where the failure arose: "transformation", "template" or "api".
	Type string
	// Code is the other side's own code: "400 Bad Request", "TypeError".
	Code string
	// Safe is a message without payload, secrets or response bodies.
	Safe string
	// Answer is how the other side's answer begins, without secrets: for the log only.
	Answer string
	// Fix is what to write into the config where the outcome is not what is wanted.
	Fix string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Of is the kind of err: that of the outermost Error in its chain, Transient when there
// is none, or when its kind is not one of the five.
func Of(err error) Kind {
	var e *Error
	if errors.As(err, &e) && e.Kind <= Fatal {
		return e.Kind
	}
	return Transient
}

// After is how long the other side asked to wait before the next try; zero if it did not say.
func After(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.After
	}
	return 0
}

// DetailOf is what may be shown of err outside the process; zero when err carries none.
func DetailOf(err error) Detail {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return Detail{}
}

// New gives err a kind. A nil err stays nil.
func New(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err}
}

// Describe gives err a kind and the detail that may be shown of it. A nil err stays nil.
func Describe(k Kind, err error, d Detail) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err, Detail: d}
}

// Throttle is a Throttled error; after is how long the other side asked to wait, or zero.
func Throttle(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Throttled, Err: err, After: after}
}

// Pace is the Throttled error of a message that is due after a time, when its turn comes.
func Pace(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Throttled, Err: err, After: after, Paced: true}
}

// Paced reports whether err is that of a message which waits for its turn: see [Error].
func Paced(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Paced
}

// NoRoom is the Throttled error of another side that is full: a disk, or a store with a limit.
func NoRoom(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Throttled, Err: err, After: after, Full: true}
}

// OutOfReach is the Transient error of another side that cannot be reached, and will be heard of when
// it can: nothing is to be given up for it, and whoever can be told to come back is told so.
func OutOfReach(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Transient, Err: err, After: after, Full: true, Away: true}
}

// Full reports whether err is that of another side that has no room for anything, or is out of
// reach: see [Error]. Of the error of a batch, whether that of any message is.
func Full(err error) bool { return anyOf(err, func(e *Error) bool { return e.Full }) }

// Away reports whether err is that of another side that cannot be reached, as Full does.
func Away(err error) bool { return anyOf(err, func(e *Error) bool { return e.Away }) }

// anyOf reports whether an Error anywhere in the tree of err is such a one.
func anyOf(err error, is func(*Error) bool) bool {
	if e, ok := err.(*Error); ok && is(e) { //nolint:errorlint // the tree is walked here, all of it
		return true
	}
	switch x := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		return anyOf(x.Unwrap(), is)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(x.Unwrap(), func(err error) bool { return anyOf(err, is) })
	}
	return false
}

// diskAfter is how long whoever writes to a full disk waits before the next try.
const diskAfter = 5 * time.Second

// OfDisk gives the error of a write to a disk its meaning where the disk, or what one may have of
// it, is used up ([NoRoom]); any other error stays as it is.
func OfDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return NoRoom(err, diskAfter)
	}
	return err
}
