package lake

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// clock tells the time of events.
type clock struct {
	field, format string
	perSecond     int64 // of the unit of numbers; 0 when the format has none
	fallback      bool  // an event without a time has the time it was read
}

func newClock(c Config) clock {
	return clock{
		field: c.TimeField, format: c.TimeFormat, fallback: c.MissingTime == "read_time",
		perSecond: map[string]int64{"epoch_s": 1, "epoch_ms": 1e3, "epoch_us": 1e6, "epoch_ns": 1e9}[c.TimeFormat],
	}
}

// clockKinds are the types of columns that the time of an event is read from.
var clockKinds = []parquet.Kind{parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs, parquet.TimestampNs,
	parquet.Int, parquet.Double, parquet.String, parquet.JSON}

// of is the time of the event m, whose time field has the value v.
func (c clock) of(m *event.Message, v parquet.Value) (time.Time, error) {
	if c.field == "" {
		return read(m), nil
	}
	if v.Kind == parquet.Unknown {
		if c.fallback {
			return read(m), nil
		}
		return time.Time{}, c.invalid(errors.New("the field is not there"))
	}
	t, err := c.parse(v)
	if err == nil && (t.Unix() < firstSecond || t.Unix() > lastSecond) {
		err = errors.New("the year has more than four digits")
	}
	if err != nil {
		return time.Time{}, c.invalid(err)
	}
	return t, nil
}

// The seconds since 1970 of the years with four digits.
var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastSecond  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

func read(m *event.Message) time.Time {
	if m.Times.Read.IsZero() {
		return time.Now()
	}
	return m.Times.Read
}

func (c clock) invalid(err error) error {
	return fault.Describe(fault.Invalid, fmt.Errorf("read the time of the event from %s as %s: %w", c.field, c.format, err),
		fault.Detail{Type: "api", Code: "InvalidTime", Safe: fmt.Sprintf("no time in %s", c.field)})
}

func (c clock) parse(v parquet.Value) (time.Time, error) {
	switch v.Kind {
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs:
		return time.UnixMicro(v.Int), nil
	case parquet.TimestampNs:
		return time.Unix(0, v.Int), nil
	case parquet.Int:
		return c.epoch(v.Int, 0)
	case parquet.Double:
		return c.real(v.Real)
	case parquet.String:
		return c.text(v.Text)
	case parquet.JSON: // of another type than the column
		if bytes.HasPrefix(v.Text, []byte{'"'}) {
			return c.text(jsontext.Unquoted(v.Text))
		}
		if first := v.Text[0]; first == '-' || first >= '0' && first <= '9' {
			if n, ok := jsontext.Integer(string(v.Text)); ok {
				return c.epoch(n, 0)
			}
			if x, ok := jsontext.Float(string(v.Text)); ok {
				return c.real(x)
			}
		}
		return time.Time{}, errors.New("the value is neither text nor a number")
	}
	return time.Time{}, fmt.Errorf("the value is of type %s", v.Kind)
}

var errRange = errors.New("the number is too large")

func (c clock) text(s []byte) (time.Time, error) {
	if c.format != "rfc3339" {
		return time.Time{}, errors.New("the value is text; set time_format if it is an RFC 3339 time")
	}
	t, ok := parquet.Instant(s)
	if !ok {
		return time.Time{}, errors.New("the text is not an RFC 3339 time")
	}
	return t, nil
}

// real is x units after 1970.
func (c clock) real(x float64) (time.Time, error) {
	whole, part := math.Modf(x)
	if math.Abs(whole) > math.MaxInt64/2 {
		return time.Time{}, errRange
	}
	return c.epoch(int64(whole), part)
}

// epoch is n units and a part of one after 1970.
func (c clock) epoch(n int64, part float64) (time.Time, error) {
	perSecond := c.perSecond
	if perSecond == 0 {
		return time.Time{}, errors.New("the value is a number; set time_format to its unit")
	}
	if n/perSecond > 1<<40 || n/perSecond < -(1<<40) {
		return time.Time{}, errRange
	}
	unit := int64(time.Second) / perSecond
	return time.Unix(n/perSecond, n%perSecond*unit+int64(part*float64(unit))), nil
}
