package failures

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/snowplow"
)

// Format makes the rows of failed events.
type Format struct {
	// Artifact and Version name the processor in each row.
	Artifact, Version string
	// Forwarding writes invalid events as event forwarding errors instead of generic errors.
	Forwarding bool
	// Context is what the rows say of their message beside its payload.
	Context Context
}

// rows makes rows of at most limit bytes.
func (f Format) rows(limit int) (snowplow.BadRows, error) {
	beside, err := f.Context.member(limit)
	return snowplow.BadRows{Artifact: f.Artifact, Version: f.Version, Beside: beside}, err
}

// Artifact is the name that our rows give their processor. Only in rows of this name do cut
// marks and data URLs mean anything.
const Artifact = "weir"

// binaryPrefix is how a payload begins that is encoded.
const binaryPrefix = "data:application/octet-stream;base64,"

// How the error begins that says that a payload, or a latest state, was cut.
const (
	cutMark    = "the payload was cut to fit the failure target and cannot be replayed"
	latestMark = "the latest state was cut to fit the failure target"
)

// cutOf is the error that says that one of n bytes was cut.
func cutOf(mark string, n int) error { return fmt.Errorf("%s: it had %d bytes", mark, n) }

// encode is payload as text that JSON can hold.
func encode(payload []byte) []byte {
	if utf8.Valid(payload) && !bytes.HasPrefix(payload, []byte(binaryPrefix)) {
		return payload
	}
	out := make([]byte, 0, len(binaryPrefix)+base64.StdEncoding.EncodedLen(len(payload)))
	return base64.StdEncoding.AppendEncode(append(out, binaryPrefix...), payload)
}

// Invalid is the row of an event that cannot be delivered because of cause, at most limit
// bytes long; 0 means no limit. read is when it was read, original the payload as it was
// read, latest as transforms left it.
func (f Format) Invalid(read time.Time, original, latest []byte, cause error, limit int) ([]byte, error) {
	if cause == nil {
		cause = errNoReason
	}
	had, left := len(original), len(latest)
	original, latest = encode(original), encode(latest)
	rows, err := f.rows(limit)
	if err != nil {
		return nil, err
	}
	write := func(original, latest []byte, cut error) ([]byte, error) {
		if f.Forwarding {
			err := cause
			if cut != nil {
				err = fmt.Errorf("%w: %w", cut, cause)
			}
			return rows.ForwardingError(read, original, latest, err)
		}
		return rows.GenericError(read, latest, cause, cut)
	}
	row, err := write(original, latest, nil)
	if err != nil || limit <= 0 || len(row) <= limit {
		return row, err
	}
	cut := cutOf(cutMark, left)
	if f.Forwarding {
		// The latest state is cut first. Is there room for the payload without it?
		cut = cutOf(latestMark, left)
		if row, err = write(original, nil, cut); err != nil {
			return nil, err
		}
		if len(row) > limit {
			cut = cutOf(cutMark, had)
		}
	}
	rows.Limit = limit
	return write(original, latest, cut)
}

var errNoReason = errors.New("the message was refused without a reason")

// sizeHead is what a size violation begins with.
const sizeHead = `{"data":{"failure":{"actualSizeBytes":`

// Oversized is the row of an event whose payload is larger than the maximum that its target
// takes, at most limit bytes long; 0 means no limit.
func (f Format) Oversized(read time.Time, payload []byte, maximum, limit int) ([]byte, error) {
	text := encode(payload)
	rows, err := f.rows(limit)
	if err != nil {
		return nil, err
	}
	rows.Limit = limit
	row, err := rows.SizeViolation(read, text, maximum)
	if err != nil || len(text) == len(payload) {
		return row, err
	}
	// The size is that of the payload, not of its encoding.
	rest := bytes.TrimLeft(bytes.TrimPrefix(row, []byte(sizeHead)), "0123456789")
	return append(strconv.AppendInt([]byte(sizeHead), int64(len(payload)), 10), rest...), nil
}
