package machine

import (
	"math"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

type waitFields struct {
	seconds                    int64 // -1 when there is none
	at                         time.Time
	secondsPath, timestampPath *query
}

// maxWait is the longest a Wait state or the delay of a retry may take, in seconds.
const maxWait = 1 << 31

func (b *builder) wait(s *state, o *object) {
	w := &waitFields{seconds: -1}
	s.wait = w
	fields := []string{"Seconds", "Timestamp", "SecondsPath", "TimestampPath"}
	if o.exclusive(fields...) == 0 {
		b.report(o.at, CodeSchema, "a Wait state needs one of Seconds, Timestamp, SecondsPath, TimestampPath", "add one of them")
	}
	w.seconds = o.whole("Seconds", 0, maxSeconds, -1)
	w.secondsPath, w.timestampPath = o.path("SecondsPath"), o.path("TimestampPath")
	if text, ok := o.text("Timestamp"); ok {
		if w.at, ok = parseTimestamp(jsonvalue.OfString(text)); !ok {
			o.problem("Timestamp", "String does not match RFC3339 timestamp", `write it like "2026-01-31T12:00:00Z"`)
		}
	}
}

// named reports whether a time is given, and no duration.
func (w *waitFields) named() bool { return w.seconds < 0 && w.secondsPath == nil }

// until is when a Wait state ends.
func (w *waitFields) until(s *scope) (time.Time, *failure) {
	now := s.r.env.Now
	switch {
	case w.seconds >= 0:
		return now.Add(time.Duration(w.seconds) * time.Second), nil
	case w.secondsPath != nil:
		v, err := w.secondsPath.get(s)
		if err != nil {
			return now, raise(errorRuntime, "The SecondsPath parameter does not reference an input value: %s", w.secondsPath.text)
		}
		n, ok := v.Int()
		if !ok {
			return now, raise(errorRuntime, "The SecondsPath parameter cannot be parsed as a long value: %s == %s", w.secondsPath.text, quoted(v))
		}
		if n < 0 {
			return now, raise(errorRuntime, "The SecondsPath parameter references a negative value: %s == %s", w.secondsPath.text, quoted(v))
		}
		if n > maxWait {
			return now, raise(errorRuntime, "Wait state delay is too long.")
		}
		return now.Add(time.Duration(n) * time.Second), nil
	}
	at := w.at
	if w.timestampPath != nil {
		v, err := w.timestampPath.get(s)
		if err != nil {
			return now, raise(errorRuntime, "The TimestampPath parameter does not reference an input value: %s", w.timestampPath.text)
		}
		var ok bool
		if at, ok = parseTimestamp(v); !ok {
			text := v.Text()
			if v.Kind() != jsonvalue.String {
				text = quoted(v)
			}
			return now, raise(errorRuntime, "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format string: %s == %s", w.timestampPath.text, text)
		}
	}
	// Not a subtraction of times: that saturates at 292 years.
	if at.Unix()-now.Unix() > maxWait {
		return now, raise(errorRuntime, "Wait state delay is too long.")
	}
	return at, nil
}

// seconds is a number of seconds that a path leads to.
func seconds(s *scope, q *query, field string) (int64, *failure) {
	v, fail := q.orInvalid(s)
	if fail != nil {
		return 0, fail
	}
	n, ok := v.Int()
	if !ok || n <= 0 || n > math.MaxInt32 {
		return 0, raise(errorRuntime, "The %s parameter does not reference a positive integer: %s == %s", field, q.text, quoted(v))
	}
	return n, nil
}
