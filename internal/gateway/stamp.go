package gateway

import (
	"time"

	"github.com/weirdata/weir/internal/jsontext"
)

// stamped reports whether a member is written anew, and so not copied.
func (w *writer) stamped(f int) bool {
	switch f {
	case fieldType:
		return w.call.event != ""
	case fieldMessageID, fieldRudderID, fieldReceivedAt, fieldOriginalTimestamp, fieldSentAt, fieldTimestamp:
		return true
	case fieldWriteKey:
		return w.call.segment || w.call.source == nil
	}
	return false
}

// copy writes an opening brace and the members that stay, each followed by a comma. Of
// members with one name that is read, the last stays.
func (w *writer) copy(data []byte, at *[fields]int, spaced bool) {
	out := append(w.out, '{')
	run := -1 // where what is copied next begins
	end := 0
	flush := func() {
		if run >= 0 {
			if spaced {
				out = jsontext.Compact(out, data[run:end])
			} else {
				out = append(out, data[run:end]...)
			}
			out = append(out, ',')
			run = -1
		}
	}
	for i := range w.members {
		m := &w.members[i]
		if f := field(m.Name(data)); f != other && (w.stamped(f) || at[f] != i+1) {
			flush()
			continue
		}
		if run < 0 {
			run = m.Start
		}
		end = m.End
	}
	flush()
	w.out = out
}

// stamp writes the members that are not copied, but for messageId.
func (w *writer) stamp(data []byte, at *[fields]int) {
	out := w.out
	if t := w.call.event; t != "" {
		out = append(append(append(out, `"type":"`...), t...), `",`...)
	}
	out = append(out, `"rudderId":"`...)
	out = appendRudderID(out, w.ids)
	out = append(out, '"')
	if at[fieldRequestIP] == 0 {
		out = append(append(out, `,"request_ip":`...), w.ip...)
	}
	received, hasReceived := w.time(data, at[fieldReceivedAt])
	if w.call.replayed && hasReceived {
		w.received(received)
		defer w.received(w.call.now.UTC())
	}
	original, hasOriginal := w.time(data, at[fieldOriginalTimestamp])
	sent, hasSent := w.time(data, at[fieldSentAt])
	if !hasSent && !w.sent.IsZero() {
		sent, hasSent = w.sent, true
	}
	stamp, hasStamp := w.time(data, at[fieldTimestamp])
	out = w.appendTime(append(out, `,"receivedAt":`...), received, hasReceived)
	out = w.appendTime(append(out, `,"originalTimestamp":`...), original, hasOriginal)
	out = w.appendTime(append(out, `,"sentAt":`...), sent, hasSent)
	out = append(out, `,"timestamp":`...)
	switch {
	case hasStamp:
		out = appendTime(out, stamp)
	case !hasOriginal && !hasSent:
		out = append(out, w.now...)
	default:
		if !hasOriginal {
			original = w.base
		}
		if !hasSent {
			sent = w.base
		}
		out = appendTime(out, w.base.Add(-sent.Sub(original)))
	}
	w.out = out
}

// received sets when the events are received, of which milliseconds count.
func (w *writer) received(at time.Time) {
	w.base = at.Truncate(time.Millisecond)
	w.now = appendTime(w.now[:0], w.base)
}

func (w *writer) appendTime(out []byte, t time.Time, ok bool) []byte {
	if !ok {
		return append(out, w.now...)
	}
	return appendTime(out, t)
}

// time reads a member as a time.
func (w *writer) time(data []byte, at int) (time.Time, bool) { return asTime(w.value(data, at)) }

func asTime(v []byte) (time.Time, bool) {
	if len(v) < 2 || v[0] != '"' || len(v) > 6*maxTime {
		return time.Time{}, false
	}
	return parseTime(string(jsontext.Unquoted(v)))
}

// messageID appends the client's name of the event, or a new one.
func (w *writer) messageID(dst, data []byte, at *[fields]int) []byte {
	n := len(dst)
	dst = appendText(dst, w.value(data, at[fieldMessageID]))
	id := visible(dst[n:])
	dst = dst[:n+copy(dst[n:], id)]
	if len(dst) == n {
		return appendRandomUUID(dst)
	}
	return dst
}
