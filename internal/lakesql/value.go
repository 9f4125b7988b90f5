package lakesql

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite/vtab"

	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// valueOf is a cell as a value of SQLite. Of JSON text that is plain, the text or number it holds
// is the value.
func valueOf(c parquet.Cell, plain bool) vtab.Value {
	switch c.Kind {
	case parquet.Unknown:
		return nil
	case parquet.Bool, parquet.Int:
		return c.Int
	case parquet.Double:
		return c.Real
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs:
		return string(time.UnixMicro(c.Int).UTC().AppendFormat(nil, time.RFC3339Nano))
	case parquet.JSON:
		if plain {
			return unwrapped(c.Text)
		}
	}
	return string(c.Text)
}

// unwrapped is what a JSON text is: a string, a number, a truth, or text again.
func unwrapped(text []byte) vtab.Value {
	s := string(text)
	switch {
	case strings.HasPrefix(s, `"`):
		return string(jsontext.Unquoted(text))
	case s == "true":
		return int64(1)
	case s == "false":
		return int64(0)
	case strings.HasPrefix(s, "{"), strings.HasPrefix(s, "["):
		return s
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if x, ok := jsontext.Float(s); ok && jsontext.Exact(s, x) {
		return x
	}
	return s // a number that no other type holds
}

// instant is the time that a text means where it is compared with one: RFC 3339, or a year, a month,
// a date, or a date and a time without zone, which are in UTC. Where the events have numbers of a unit, a number
// of them is one too.
func instant(s string, unit parquet.Kind) (time.Time, bool) {
	if t, ok := parquet.Instant([]byte(s)); ok {
		return t, true
	}
	if whole := "2006-01-02"; len(s) == len("2006") || len(s) == len("2006-01") { // a year or a month is its beginning
		if t, err := time.Parse(whole[:len(s)], s); err == nil {
			return t, true
		}
	}
	if unit != parquet.Timestamp {
		if x, err := strconv.ParseFloat(s, 64); err == nil {
			return since(x, unit)
		}
	}
	const date = "2006-01-02"
	if len(s) < len(date) {
		return time.Time{}, false
	}
	switch rest := s[len(date):]; {
	case rest == "":
		s += "T00:00:00Z"
	case len(rest) == len("T15:04"):
		s += ":00Z"
	default:
		s += "Z"
	}
	return parquet.Instant([]byte(s))
}

// since is so many units after 1970.
func since(x float64, unit parquet.Kind) (time.Time, bool) {
	per := 0.0
	switch unit {
	case parquet.TimestampS:
		per = 1e6
	case parquet.TimestampMs:
		per = 1e3
	case parquet.TimestampUs:
		per = 1
	case parquet.TimestampNs:
		per = 1e-3
	}
	us := math.Round(x * per)
	if per == 0 || math.IsNaN(us) || math.Abs(us) > 1<<58 {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(us)), true
}

// compareTimes orders texts of times by the time, before all other texts.
func compareTimes(a, b string, unit parquet.Kind) int {
	if len(a) == len(b) && len(a) >= len("2006-01-02T15:04:05Z") && strings.HasSuffix(a, "Z") && strings.HasSuffix(b, "Z") && a[10] == 'T' && b[10] == 'T' {
		return strings.Compare(a, b)
	}
	t, isTime := instant(a, unit)
	u, other := instant(b, unit)
	switch {
	case isTime && other:
		return t.Compare(u)
	case isTime:
		return -1
	case other:
		return 1
	}
	return strings.Compare(a, b)
}

// condition is one that all rows of the answer meet: a column compared with a value.
type condition struct {
	column *column
	op     vtab.ConstraintOp
	value  vtab.Value
	exact  bool // texts are compared byte by byte
}

func newCondition(c *column, op vtab.ConstraintOp, v vtab.Value, exact bool) condition {
	return condition{c, op, v, exact}
}

// meets reports whether a value that compares so with the condition's may meet it.
func (x condition) meets(low, high int) bool {
	switch x.op {
	case vtab.OpEQ:
		return low <= 0 && high >= 0
	case vtab.OpGT:
		return high > 0
	case vtab.OpGE:
		return high >= 0
	case vtab.OpLT:
		return low < 0
	case vtab.OpLE:
		return low <= 0
	}
	return true
}

// allows reports whether a column that is v everywhere may meet the condition.
func (x condition) allows(v any) bool {
	var c int
	var ok bool
	switch v := v.(type) {
	case int64:
		c, ok = x.compare(parquet.Cell{Kind: parquet.Int, Int: v})
	case string:
		c, ok = x.compare(parquet.Cell{Kind: parquet.String, Text: []byte(v)})
	default:
		return false // null meets no condition
	}
	return !ok || x.meets(c, c)
}

// excludes reports whether no row of the row group meets the condition.
func (x condition) excludes(s *parquet.Scan) bool {
	for _, p := range x.column.parts {
		b, known := s.Bounds(p.names...)
		switch {
		case !known:
			return false
		case b.Values == 0:
			continue // null meets no condition
		case p.variant == parquet.AsJSON || p.variant == parquet.Rest || b.Low.Kind == parquet.Unknown || b.High.Kind == parquet.Unknown:
			return false
		}
		low, ok := x.compare(b.Low)
		high, okHigh := x.compare(b.High)
		if !ok || !okHigh || x.meets(low, high) {
			return false
		}
	}
	return true
}

// compare compares a cell with the condition's value, if they can be.
func (x condition) compare(c parquet.Cell) (int, bool) {
	switch c.Kind {
	case parquet.Int, parquet.Double:
		return compareNumbers(c, x.value)
	case parquet.String:
		s, ok := x.value.(string)
		return strings.Compare(string(c.Text), s), ok && x.exact
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs:
		if s, ok := x.value.(string); ok && x.exact {
			at, ok := instant(s, c.Kind)
			return time.UnixMicro(c.Int).Compare(at), ok
		}
	}
	return 0, false
}

// compareNumbers compares a number with a value that is one.
func compareNumbers(c parquet.Cell, v vtab.Value) (int, bool) {
	switch v := v.(type) {
	case int64:
		if c.Kind == parquet.Int {
			return cmp.Compare(c.Int, v), true
		}
		return compareMixed(c.Real, v), true
	case float64:
		if c.Kind == parquet.Double {
			return cmp.Compare(c.Real, v), true
		}
		return -compareMixed(v, c.Int), true
	}
	return 0, false
}

// compareMixed compares a double with a whole number, exactly.
func compareMixed(x float64, n int64) int {
	switch {
	case x >= 1<<63:
		return 1
	case x < -1<<63:
		return -1
	}
	whole := math.Floor(x)
	if c := cmp.Compare(int64(whole), n); c != 0 || whole == x {
		return c
	}
	return 1
}
