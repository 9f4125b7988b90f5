package parquet

import "slices"

// Union is the columns of two files of one dataset: where both have one, of the type that holds
// the values of both, or [Mixed].
func Union(a, b []*Field) []*Field {
	out := slices.Clone(a)
	for _, f := range b {
		if i := named(out, f.Name); i >= 0 {
			out[i] = both(out[i], f)
		} else {
			out = append(out, stored(f))
		}
	}
	return out
}

// Overlay is the columns of a dataset that had those of have, and whose files have those of found.
// With replace they are as found, and otherwise those that there were stay as they were; either
// way in the order in which they came.
func Overlay(have, found []*Field, replace bool) []*Field {
	var out []*Field
	for _, f := range have {
		i := named(found, f.Name)
		switch {
		case i >= 0 && f.Kind == found[i].Kind:
			c := *f
			if c.Fields = Overlay(f.Fields, found[i].Fields, replace); f.Elem != nil {
				c.Elem = overlayElem(f.Elem, found[i].Elem, replace)
			}
			out = append(out, &c)
		case i >= 0 && (replace || f.Kind == Unknown):
			out = append(out, found[i])
		case !replace:
			out = append(out, f)
		}
	}
	for _, f := range found {
		if named(have, f.Name) < 0 {
			out = append(out, f)
		}
	}
	return out
}

func overlayElem(have, found *Field, replace bool) *Field {
	if found == nil {
		return have
	}
	return Overlay([]*Field{have}, []*Field{found}, replace)[0]
}

func named(fields []*Field, name string) int {
	return slices.IndexFunc(fields, func(f *Field) bool { return f.Name == name })
}

// stored is f as the schema of a dataset has it: a list or a map whose values no file tells the
// type of has none.
func stored(f *Field) *Field {
	c := &Field{Key: f.Key, Name: f.Name, Kind: f.Kind, Variant: f.Variant, Digits: f.Digits, Scale: f.Scale, Width: f.Width}
	for _, kid := range f.Fields {
		c.Fields = append(c.Fields, stored(kid))
	}
	if f.Elem != nil {
		if c.Elem = stored(f.Elem); c.Elem.Kind == Unknown {
			c.Kind, c.Elem = Unknown, nil
		}
	}
	return c
}

// both is a column that holds the values of two of one name.
func both(a, b *Field) *Field {
	b = stored(b)
	c := &Field{Key: a.Key, Name: a.Name, Kind: a.Kind, Variant: a.Variant, Digits: max(a.Digits, b.Digits)}
	switch {
	case a.Kind == Unknown:
		b.Key, b.Name, b.Variant = a.Key, a.Name, a.Variant
		return b
	case b.Kind == Unknown:
		return a
	case a.Kind == b.Kind:
		if a.Width == b.Width && a.Digits == b.Digits && a.Scale == b.Scale {
			c.Width, c.Scale = a.Width, a.Scale
		}
		c.Fields = Union(a.Fields, b.Fields)
		if a.Elem != nil {
			c.Elem = both(a.Elem, b.Elem)
		}
	case pair(a, b, Int, Double), pair(a, b, Decimal, Double):
		c.Kind = Double
	case pair(a, b, Int, Decimal):
		c.Kind, c.Digits = Decimal, max(c.Digits, 19)
	case timed(a) && timed(b):
		c.Kind = Timestamp
	default:
		c.Kind = Mixed
	}
	return c
}

func pair(a, b *Field, x, y Kind) bool {
	return a.Kind == x && b.Kind == y || a.Kind == y && b.Kind == x
}

func timed(f *Field) bool { return f.Kind >= Timestamp && f.Kind <= TimestampUs }
