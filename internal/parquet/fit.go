package parquet

import (
	"math"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/jsontext"
)

// exact is the largest whole number up to which a double holds all of them.
const exact = 1 << 53

// fit reads a value that is not null into f, or reports that f cannot hold it; what it has
// read by then is taken back by its caller.
func (d *Decoder) fit(f *Field) (bool, error) {
	if f.Kind == JSON {
		return true, d.raw(f)
	}
	switch c := d.scan.Next(); {
	case c == '"':
		return d.fitString(f)
	case c == '-' || c >= '0' && c <= '9':
		return d.fitNumber(f)
	case c == 't':
		return d.fitBool(f, "true", 1)
	case c == 'f':
		return d.fitBool(f, "false", 0)
	case c == '{':
		return d.fitObject(f)
	case c == '[':
		return d.fitList(f)
	}
	d.scan.Value()
	return false, d.wrong()
}

func (d *Decoder) fitBool(f *Field, word string, bit uint64) (bool, error) {
	if err := d.word(word); err != nil {
		return false, err
	}
	if !d.decide(f, Bool) {
		return false, nil
	}
	d.push(token{op: opWord, field: f, bits: bit})
	return true, nil
}

func (d *Decoder) word(word string) error {
	if !d.scan.Word(word) {
		return d.wrong()
	}
	return nil
}

func (d *Decoder) fitString(f *Field) (bool, error) {
	start := d.scan.At
	form, ok := d.scan.String()
	if !ok {
		return false, d.wrong()
	}
	t := token{op: opText, field: f, bits: spanOf(start+1, d.scan.At-1)}
	if form&jsontext.Escaped != 0 {
		at := len(d.arena)
		d.arena = jsontext.Unquote(d.arena, d.scan.Text[start:d.scan.At])
		t.op, t.bits = opEscaped, spanOf(at, len(d.arena))
	}
	switch f.Kind {
	case Timestamp, LocalTime, Date, UUID, Decimal:
		return d.fitText(f, d.textOf(&t)), nil
	}
	if form&jsontext.Half != 0 || !d.decide(f, String) {
		return false, nil
	}
	d.push(t)
	return true, nil
}

func (d *Decoder) fitObject(f *Field) (bool, error) {
	if !d.decide(f, Object) {
		return false, nil
	}
	at, asides := len(d.tokens), len(d.asides)
	d.push(token{op: opObject, field: f})
	if err := d.object(f); err != nil {
		return false, err
	}
	if f.parent.Elem == f {
		if err := d.settle(f, asides); err != nil {
			return false, err
		}
	}
	d.tokens[at].end = int32(len(d.tokens))
	return slices.ContainsFunc(f.Fields, func(k *Field) bool { return k.Kind != Unknown }), nil // Parquet has no groups without columns
}

func (d *Decoder) fitList(f *Field) (bool, error) {
	if !d.decide(f, List) {
		return false, nil
	}
	if !d.scan.Enter() {
		return false, d.wrong()
	}
	if f.Elem == nil {
		if err := d.room(); err != nil {
			return false, err
		}
		f.Elem = &Field{parent: f, path: f.path + "[]", prefer: d.options.Prefer[f.path+"[]"]}
		f.Elem.declare(d.options.Types[f.Elem.path])
		d.tree.count++
		d.undo = append(d.undo, change{f: f.Elem, created: true})
	}
	at := len(d.tokens)
	d.push(token{op: opList, field: f})
	n := uint64(0)
	for ; ; n++ {
		more, ok := d.scan.More(n == 0, ']')
		if !ok {
			return false, d.wrong()
		}
		if !more {
			break
		}
		if d.scan.Next() == 'n' {
			if err := d.word("null"); err != nil {
				return false, err
			}
			d.push(token{op: opNull, field: f.Elem})
		} else if fits, err := d.fit(f.Elem); err != nil || !fits {
			return false, err // what was read is taken back with the depth
		}
	}
	d.tokens[at].bits, d.tokens[at].end = n, int32(len(d.tokens))
	if e := f.Elem; e.Kind == Unknown && e.prefer != Unknown && e.prefer < Object { // what other lists hold
		d.set(e, e.prefer)
	}
	return f.Elem.Kind != Unknown, nil
}

// fitNumber reads a number. See the package comment for what fits where.
func (d *Decoder) fitNumber(f *Field) (bool, error) {
	start := d.scan.At
	whole, ok := d.scan.Number()
	if !ok {
		return false, d.wrong()
	}
	text := d.scan.Text[start:d.scan.At]
	n, isInt := int64(0), false
	if whole {
		n, isInt = jsontext.Integer(text)
	}
	x := float64(n)
	if !isInt {
		if x, ok = jsontext.Float(text); !ok {
			return false, nil
		}
		if !whole && x == math.Trunc(x) { // 5.0, 1e3
			n, isInt = jsontext.Integer(text)
		}
	}
	switch f.Kind {
	case Decimal:
		return d.fitDecimal(f, text), nil
	case TimestampNs:
		if isInt {
			d.push(token{op: opWord, field: f, bits: uint64(n)})
		}
		return isInt, nil
	case TimestampS, TimestampMs, TimestampUs:
		us, ok := micros(f.Kind, n)
		if !isInt {
			us, ok = fraction(f.Kind, x)
		}
		if !ok || !readable(us) {
			return false, nil
		}
		d.push(token{op: opWord, field: f, bits: uint64(us)})
		return true, nil
	case Unknown:
		if !d.takes(f, Int) {
			return false, nil
		}
	case Int, Double:
	default:
		return false, nil
	}
	fitsDouble := holds(text, x, n, whole, isInt)
	if f.Kind == Unknown {
		if isInt && (whole || !fitsDouble) {
			d.set(f, Int)
		} else if fitsDouble {
			d.set(f, Double)
		}
	}
	switch {
	case f.Kind == Int && isInt:
		if !fitsDouble && f.open && !f.big {
			d.note(f)
			f.big = true
		}
		d.push(token{op: opWhole, field: f, bits: uint64(n)})
		return true, nil
	case f.Kind == Int && f.open && !f.big && fitsDouble:
		d.set(f, Double)
		fallthrough
	case f.Kind == Double && fitsDouble:
		d.push(token{op: opWord, field: f, bits: math.Float64bits(x)})
		return true, nil
	case f.Kind == Int && fitsDouble && f.member() && !d.options.Refuse && (f.double != nil || !d.options.Closed):
		variant, err := d.variant(f, AsDouble)
		if err != nil {
			return false, err
		}
		d.push(token{op: opWord, field: variant, bits: math.Float64bits(x)})
		return true, nil
	}
	return false, nil
}

// holds reports whether a double that is x holds the number of text.
func holds(text string, x float64, n int64, whole, isInt bool) bool {
	switch {
	case whole && isInt:
		return n >= -exact && n <= exact
	case whole:
		return jsontext.Is(text, x)
	}
	return jsontext.Exact(text, x)
}

var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// decimal is the double nearest to the number that short has read: n and the power are
// exact, so that dividing them rounds once.
func decimal(n int64, fraction int, minus bool) float64 {
	x := float64(n)
	if fraction == 0 {
		return x
	}
	if minus && n == 0 {
		return math.Copysign(0, -1)
	}
	return x / powers[fraction]
}

// micros is n, in the unit of the kind k, as microseconds.
func micros(k Kind, n int64) (int64, bool) {
	unit := unitOf(k)
	return n * unit, n <= math.MaxInt64/unit && n >= math.MinInt64/unit
}

// fraction is x, in the unit of the kind k, as microseconds, to the nearest one.
func fraction(k Kind, x float64) (int64, bool) {
	us := math.Round(x * float64(unitOf(k)))
	return int64(us), math.Abs(us) <= exact
}

// The microseconds of the first and the last instant of the years that readers have: those
// with four digits, without year 0.
var (
	firstMicro = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	lastMicro  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).UnixMicro()
)

// readable reports whether readers of files take the instant.
func readable(us int64) bool { return us >= firstMicro && us <= lastMicro }

// unitOf is how many microseconds one unit of the kind k has.
func unitOf(k Kind) int64 {
	switch k {
	case TimestampS:
		return 1_000_000
	case TimestampMs:
		return 1_000
	}
	return 1
}
