package snowplow

import (
	"bytes"
	"time"
	"unsafe"

	"github.com/weirdata/weir/internal/event"
)

// Collected is when the collector had the messages of b that have no error in failed: the
// earliest and the latest time, whether there is one (timed is not 0), and how many do not
// say. Timestamps in the usual
// form sort as text, so only the first and the last of them are parsed.
func Collected(b event.Batch, failed []error) (first, last time.Time, timed, untimed int64) {
	add := func(text string) bool {
		at, err := time.Parse(collectorLayout, text)
		if err != nil {
			return false
		}
		if timed++; timed == 1 || at.Before(first) {
			first = at
		}
		if timed == 1 || at.After(last) {
			last = at
		}
		return true
	}
	var low, high string
	sorted := int64(0)
	for i, m := range b {
		if failed != nil && failed[i] != nil {
			continue
		}
		switch text := collected(m); {
		case usual(text):
			if sorted++; sorted == 1 {
				low, high = text, text
			}
			low, high = min(low, text), max(high, text)
		case !add(text):
			untimed++
		}
	}
	if sorted == 0 || add(low) && add(high) {
		return first, last, timed, untimed
	}
	// One has the form and is no date, such as the 30th of February: each for itself.
	for i, m := range b {
		if failed != nil && failed[i] != nil {
			continue
		}
		if text := collected(m); usual(text) && !add(text) {
			untimed++
		}
	}
	return first, last, timed, untimed
}

const collectorLayout = "2006-01-02 15:04:05.999"

// usual reports whether text has the form of a collector's timestamp: digits where it has
// digits, to the second, and then perhaps a fraction.
func usual(text string) bool {
	const form = "0000-00-00 00:00:00."
	if len(text) < len(form)-1 {
		return false
	}
	for i := range len(text) {
		digit := text[i]-'0' <= 9
		if i >= len(form) || form[i] == '0' {
			if !digit {
				return false
			}
		} else if text[i] != form[i] {
			return false
		}
	}
	return true
}

// collected is the text of the collector's timestamp in the Snowplow event that m carries
// or was made from; empty when it is none. Of a payload that is not parsed, no more is read
// than up to that field. The text is valid as long as the payload is.
func collected(m *event.Message) string {
	if e, ok := m.View().(*Event); ok {
		return e.Raw(CollectorTstamp)
	}
	line := m.Raw()
	for range CollectorTstamp {
		tab := bytes.IndexByte(line, '\t')
		if tab < 0 {
			return ""
		}
		line = line[tab+1:]
	}
	return unsafe.String(unsafe.SliceData(line), max(bytes.IndexByte(line, '\t'), 0))
}
