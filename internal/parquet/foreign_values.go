package parquet

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/weirdata/weir/internal/jsontext"
)

// foreign is how the values of a column are read that are not as this package writes them.
type foreign struct {
	// text appends a value as JSON.
	text func(dst []byte, v pq.Value) []byte
	// cell is a value as one of a column; nil: what its JSON says, without quotes.
	cell func(v pq.Value) Cell
	// ordered says that cells are in the order of the file's bounds.
	ordered bool
}

// cellOf is a value of the column as a cell.
func (f *foreign) cellOf(v pq.Value) Cell {
	if f.cell != nil {
		return f.cell(v)
	}
	text := f.text(nil, v)
	if len(text) > 0 && text[0] == '"' {
		text = jsontext.Unquoted(text)
	}
	return Cell{Kind: String, Text: text}
}

// quoting is a column whose values are text.
func quoting(text func(v pq.Value) string) *foreign {
	return &foreign{text: func(dst []byte, v pq.Value) []byte { return jsontext.AppendString(dst, text(v)) }}
}

// whole is a column of whole numbers.
func whole(value func(v pq.Value) int64) *foreign {
	return &foreign{
		text:    func(dst []byte, v pq.Value) []byte { return strconv.AppendInt(dst, value(v), 10) },
		cell:    func(v pq.Value) Cell { return Cell{Kind: Int, Int: value(v)} },
		ordered: true,
	}
}

// fractions is a column of numbers with a fraction. Those that JSON has no number for are text.
func fractions(value func(v pq.Value) float64) *foreign {
	return &foreign{
		text: func(dst []byte, v pq.Value) []byte {
			x := value(v)
			switch {
			case math.IsNaN(x):
				return append(dst, `"NaN"`...)
			case math.IsInf(x, 1):
				return append(dst, `"Infinity"`...)
			case math.IsInf(x, -1):
				return append(dst, `"-Infinity"`...)
			}
			return appendDouble(dst, x)
		},
		cell: func(v pq.Value) Cell {
			x := value(v)
			if math.IsNaN(x) { // SQLite has none
				return Cell{Kind: String, Text: []byte("NaN")}
			}
			return Cell{Kind: Double, Real: x}
		},
		ordered: true,
	}
}

// moments is a column of instants.
func moments(at func(v pq.Value) time.Time) *foreign {
	return &foreign{
		text: func(dst []byte, v pq.Value) []byte {
			return jsontext.AppendString(dst, at(v).UTC().Format(time.RFC3339Nano))
		},
		cell: func(v pq.Value) Cell {
			t := at(v).UTC()
			if t.Nanosecond()%1000 != 0 || !readable(t.UnixMicro()) {
				return Cell{Kind: String, Text: t.AppendFormat(nil, time.RFC3339Nano)}
			}
			return Cell{Kind: Timestamp, Int: t.UnixMicro()}
		},
	}
}

// foreignType is the kind of a column by its description, and how its values are read.
func foreignType(e *format.SchemaElement) (Kind, *foreign, error) {
	if e.LogicalType.Value != nil {
		if kind, f, known := logicalType(e, e.LogicalType.Value); known {
			return kind, f, nil
		}
	} else if e.ConvertedType.Valid {
		if kind, f, known := logicalType(e, logicalOf(e)); known {
			return kind, f, nil
		}
	}
	switch e.Type.V {
	case format.Boolean:
		return Bool, nil, nil
	case format.Int32:
		return Int, whole(func(v pq.Value) int64 { return int64(v.Int32()) }), nil
	case format.Int64:
		return Int, nil, nil
	case format.Int96:
		return Timestamp, moments(func(v pq.Value) time.Time { return int96(v.Int96()) }), nil
	case format.Float:
		return Double, fractions(shortFloat), nil
	case format.Double:
		return Double, fractions(pq.Value.Double), nil
	case format.ByteArray, format.FixedLenByteArray:
		return Binary, quoting(func(v pq.Value) string { return base64.StdEncoding.EncodeToString(v.ByteArray()) }), nil
	}
	return Unknown, nil, fmt.Errorf("its type %d is not one this version of weir knows", e.Type.V)
}

// shortFloat is the shortest decimal that is the value: 0.1, and not what is closest to it with
// twice as many bits.
func shortFloat(v pq.Value) float64 {
	x, err := strconv.ParseFloat(strconv.FormatFloat(float64(v.Float()), 'g', -1, 32), 64)
	if err != nil {
		return float64(v.Float())
	}
	return x
}

// int96 is nanoseconds within a Julian day.
func int96(i deprecated.Int96) time.Time {
	const epoch = 2440588 // the Julian day of 1970-01-01
	return time.Unix((int64(int32(i[2]))-epoch)*86400, int64(uint64(i[1])<<32|uint64(i[0]))).UTC()
}

// digitsOf is how many digits the values of a column have, where no other kind holds so many.
func digitsOf(e *format.SchemaElement) int {
	logical := e.LogicalType.Value
	if logical == nil && e.ConvertedType.Valid {
		logical = logicalOf(e)
	}
	switch l := logical.(type) {
	case *format.DecimalType:
		return int(l.Precision)
	case *format.TimestampType:
		if nanosOf(l.Unit) == 1 {
			return 9
		}
	}
	if e.Type.Valid && e.Type.V == format.Int96 {
		return 9
	}
	return 0
}

// logicalOf is the logical type that an old description means; nil for none.
func logicalOf(e *format.SchemaElement) format.LogicalTypeValue {
	milli, micro := format.TimeUnit{Value: &format.MilliSeconds{}}, format.TimeUnit{Value: &format.MicroSeconds{}}
	switch e.ConvertedType.V {
	case deprecated.UTF8:
		return &format.StringType{}
	case deprecated.Enum:
		return &format.EnumType{}
	case deprecated.Json:
		return &format.JsonType{}
	case deprecated.Decimal:
		return &format.DecimalType{Scale: e.Scale.V, Precision: e.Precision.V}
	case deprecated.Date:
		return &format.DateType{}
	case deprecated.TimeMillis:
		return &format.TimeType{Unit: milli}
	case deprecated.TimeMicros:
		return &format.TimeType{Unit: micro}
	case deprecated.TimestampMillis:
		return &format.TimestampType{IsAdjustedToUTC: true, Unit: milli}
	case deprecated.TimestampMicros:
		return &format.TimestampType{IsAdjustedToUTC: true, Unit: micro}
	case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32:
		return &format.IntType{BitWidth: 32}
	case deprecated.Uint64:
		return &format.IntType{BitWidth: 64}
	}
	return nil
}

// logicalType is the kind of a column of a logical type; known is false where that says nothing
// that its values do not say.
func logicalType(e *format.SchemaElement, logical format.LogicalTypeValue) (kind Kind, f *foreign, known bool) {
	physical := e.Type.V
	switch l := logical.(type) {
	case *format.StringType, *format.EnumType:
		return String, nil, physical == format.ByteArray
	case *format.JsonType:
		return JSON, &foreign{text: jsonValue, cell: func(v pq.Value) Cell {
			return Cell{Kind: JSON, Text: jsonValue(nil, v)}
		}}, physical == format.ByteArray
	case *format.NullType:
		return Unknown, quoting(func(pq.Value) string { return "" }), true
	case *format.UUIDType:
		return UUID, quoting(uuid), physical == format.FixedLenByteArray && e.TypeLength.V == 16
	case *format.Float16Type:
		return Double, fractions(float16), physical == format.FixedLenByteArray && e.TypeLength.V == 2
	case *format.DecimalType:
		return Decimal, decimals(physical, int(l.Scale)), l.Scale >= 0 && l.Scale <= 1000 && physical != format.Boolean && physical != format.Double && physical != format.Float && physical != format.Int96
	case *format.DateType:
		return Date, quoting(date), physical == format.Int32
	case *format.TimeType:
		return timeOfDay(physical, l.Unit)
	case *format.TimestampType:
		return timestamps(physical, l)
	case *format.IntType:
		return integers(physical, l)
	}
	return Unknown, nil, false
}

func integers(physical format.Type, l *format.IntType) (Kind, *foreign, bool) {
	switch {
	case l.IsSigned:
		return Unknown, nil, false // as the physical type is
	case physical == format.Int32:
		f := whole(func(v pq.Value) int64 { return int64(v.Uint32()) })
		f.ordered = false // old writers have their bounds as signed ones
		return Int, f, true
	case physical == format.Int64:
		return Int, &foreign{
			text: func(dst []byte, v pq.Value) []byte { return strconv.AppendUint(dst, v.Uint64(), 10) },
			cell: func(v pq.Value) Cell {
				if n := v.Uint64(); n > math.MaxInt64 {
					return Cell{Kind: Double, Real: float64(n)}
				}
				return Cell{Kind: Int, Int: v.Int64()}
			},
		}, true
	}
	return Unknown, nil, false
}

// jsonValue appends a value that should be JSON, and is text where it is not.
func jsonValue(dst []byte, v pq.Value) []byte {
	if text := v.ByteArray(); jsontext.Valid(text) {
		return append(dst, text...)
	}
	return jsontext.AppendString(dst, string(v.ByteArray()))
}

func uuid(v pq.Value) string { return string(appendUUID(nil, v.ByteArray())) }

// appendUUID appends the text of 16 bytes.
func appendUUID(dst, b []byte) []byte {
	for i, c := range b {
		if len(b) == 16 && (i == 4 || i == 6 || i == 8 || i == 10) {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, []byte{c})
	}
	return dst
}

// date is days since 1970.
func date(v pq.Value) string {
	return time.Unix(int64(v.Int32())*86400, 0).UTC().Format("2006-01-02")
}

func float16(v pq.Value) float64 {
	bits := binary.LittleEndian.Uint16(v.ByteArray())
	exponent, fraction := int(bits>>10&31), float64(bits&1023)/1024
	var x float64
	switch exponent {
	case 0:
		x = math.Ldexp(fraction, -14)
	case 31:
		if x = math.Inf(1); fraction != 0 {
			x = math.NaN()
		}
	default:
		x = math.Ldexp(1+fraction, exponent-15)
	}
	if bits>>15 != 0 {
		x = -x
	}
	return x
}

// decimals is a column of decimal numbers, as whole ones of a unit that is a power of ten.
func decimals(physical format.Type, scale int) *foreign {
	text := func(dst []byte, v pq.Value) []byte {
		n := new(big.Int)
		switch physical {
		case format.Int32:
			n.SetInt64(int64(v.Int32()))
		case format.Int64:
			n.SetInt64(v.Int64())
		default:
			n = signed(v.ByteArray())
		}
		return appendScaled(dst, n, scale)
	}
	return &foreign{text: text, cell: func(v pq.Value) Cell {
		x, _ := jsontext.Float(string(text(nil, v))) // the nearest; infinite beyond all that a double holds
		return Cell{Kind: Double, Real: x}
	}}
}

// signed is a number in two's complement, with its highest byte first.
func signed(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]>>7 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// appendScaled appends n with so many of its digits behind the point.
func appendScaled(dst []byte, n *big.Int, scale int) []byte {
	digits := new(big.Int).Abs(n).Text(10)
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	if scale == 0 {
		return append(dst, digits...)
	}
	if short := scale + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	point := len(digits) - scale
	return append(append(append(dst, digits[:point]...), '.'), digits[point:]...)
}

// nanosOf is how many nanoseconds a unit has; 0 for one that is not known.
func nanosOf(unit format.TimeUnit) int64 {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return 1_000_000
	case *format.MicroSeconds:
		return 1_000
	case *format.NanoSeconds:
		return 1
	}
	return 0
}

func timeOfDay(physical format.Type, unit format.TimeUnit) (Kind, *foreign, bool) {
	per := nanosOf(unit)
	value := pq.Value.Int64
	if physical == format.Int32 {
		value = func(v pq.Value) int64 { return int64(v.Int32()) }
	}
	return TimeOfDay, quoting(func(v pq.Value) string {
		return time.Unix(0, value(v)*per).UTC().Format("15:04:05.999999999")
	}), per > 0 && (physical == format.Int32 || physical == format.Int64)
}

func timestamps(physical format.Type, l *format.TimestampType) (Kind, *foreign, bool) {
	per := nanosOf(l.Unit)
	if per == 0 || physical != format.Int64 {
		return Unknown, nil, false
	}
	at := func(v pq.Value) time.Time {
		n := v.Int64()
		perSecond := 1_000_000_000 / per
		return time.Unix(n/perSecond, n%perSecond*per).UTC()
	}
	switch {
	case !l.IsAdjustedToUTC:
		return LocalTime, quoting(func(v pq.Value) string { return at(v).Format("2006-01-02T15:04:05.999999999") }), true
	case per == 1_000:
		return Timestamp, nil, true
	}
	f := moments(at)
	f.ordered = per > 1
	return Timestamp, f, true
}
