package parquet

import "math"

// fit reads a value that is not null into f, or reports that f cannot hold it; what it has
// read by then is taken back by its caller.
func (d *Decoder) fit(f *Field) (bool, error) {
	if f.Kind == JSON {
		return true, d.raw(f)
	}
	switch c := d.space(); {
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
	return false, d.unexpected()
}

func (d *Decoder) fitBool(f *Field, word string, bit uint64) (bool, error) {
	if err := d.literal(word); err != nil {
		return false, err
	}
	if !d.decide(f, Bool) {
		return false, nil
	}
	d.push(token{op: opWord, field: f, bits: bit})
	return true, nil
}

func (d *Decoder) literal(word string) error {
	if len(d.data)-d.pos < len(word) {
		return errTruncated
	}
	if string(d.data[d.pos:d.pos+len(word)]) != word {
		return errSyntax
	}
	d.pos += len(word)
	return nil
}

func (d *Decoder) fitString(f *Field) (bool, error) {
	text, escaped, raw, err := d.text()
	if err != nil {
		return false, err
	}
	if f.Kind == Timestamp {
		at, ok := Instant(text)
		if !ok {
			return false, nil
		}
		d.push(token{op: opWord, field: f, bits: uint64(at.UnixMicro())})
		return true, nil
	}
	if raw || !d.decide(f, String) {
		return false, nil
	}
	if escaped {
		d.push(token{op: opEscaped, field: f, bits: spanOf(len(d.arena)-len(text), len(d.arena))})
	} else {
		d.push(token{op: opText, field: f, bits: spanOf(d.pos-1-len(text), d.pos-1)})
	}
	return true, nil
}

func (d *Decoder) fitObject(f *Field) (bool, error) {
	if !d.decide(f, Object) {
		return false, nil
	}
	at := len(d.tokens)
	d.push(token{op: opObject, field: f})
	if err := d.object(f); err != nil {
		return false, err
	}
	d.tokens[at].end = int32(len(d.tokens))
	return len(f.Fields) > 0, nil // Parquet has no groups without fields
}

func (d *Decoder) fitList(f *Field) (bool, error) {
	if !d.decide(f, List) {
		return false, nil
	}
	if err := d.enter(); err != nil {
		return false, err
	}
	if f.Elem == nil {
		if err := d.room(); err != nil {
			return false, err
		}
		f.Elem = &Field{parent: f, path: f.path + "[]"}
		d.tree.count++
		d.undo = append(d.undo, change{f: f.Elem, created: true})
	}
	at := len(d.tokens)
	d.push(token{op: opList, field: f})
	d.pos++ // [
	n := uint64(0)
	if d.space() == ']' {
		d.pos++
	} else {
		for {
			if d.space() == 'n' {
				if err := d.literal("null"); err != nil {
					return false, err
				}
				d.push(token{op: opNull, field: f.Elem})
			} else if fits, err := d.fit(f.Elem); err != nil || !fits {
				return false, err
			}
			n++
			if c := d.space(); c == ']' {
				d.pos++
				break
			} else if c != ',' {
				return false, d.unexpected()
			}
			d.pos++
		}
	}
	d.depth-- // where the list does not fit, the depth is set back with the rest
	d.tokens[at].bits, d.tokens[at].end = n, int32(len(d.tokens))
	return f.Elem.Kind != Unknown, nil
}

// fitNumber reads a number. See the package comment for what fits where.
func (d *Decoder) fitNumber(f *Field) (bool, error) {
	text, whole, err := d.number()
	if err != nil {
		return false, err
	}
	n, isInt := int64(0), false
	if whole {
		n, isInt = parseInt(text)
	}
	switch f.Kind {
	case TimestampS, TimestampMs, TimestampUs:
		us, ok := micros(f.Kind, n)
		if !isInt || !ok {
			return false, nil
		}
		d.push(token{op: opWord, field: f, bits: uint64(us)})
		return true, nil
	case Unknown, Int, Double:
	default:
		return false, nil
	}
	x := float64(n)
	if !isInt {
		var inRange bool
		if x, inRange = parseDouble(text); !inRange {
			return false, nil
		}
		if f.Kind == Int && !whole && x == math.Trunc(x) && math.Abs(x) <= exact {
			n, isInt = int64(x), true
		}
	}
	fitsDouble := !whole || isInt && n >= -exact && n <= exact || !isInt && exactly(text, x)
	if f.Kind == Unknown {
		if isInt {
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
		d.push(token{op: opWord, field: f, bits: uint64(n)})
		return true, nil
	case f.Kind == Int && f.open && !f.big && fitsDouble:
		d.set(f, Double)
		fallthrough
	case f.Kind == Double && fitsDouble:
		d.push(token{op: opWord, field: f, bits: math.Float64bits(x)})
		return true, nil
	case f.Kind == Int && fitsDouble && f.member():
		variant, err := d.variant(f, AsDouble)
		if err != nil {
			return false, err
		}
		d.push(token{op: opWord, field: variant, bits: math.Float64bits(x)})
		return true, nil
	}
	return false, nil
}
