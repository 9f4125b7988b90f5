package machine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

func sortStrings(s []string) { slices.Sort(s) }

// mathRandom is a whole number from the first argument up to but without the second.
func mathRandom(s *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	from, err := wantInt(args, 0)
	if err != nil {
		return none, err
	}
	to, err := wantInt(args, 1)
	if err != nil {
		return none, err
	}
	if to <= from {
		return none, errors.New("the end must be greater than the start")
	}
	if to-from < 0 {
		return none, errors.New("the range is too large")
	}
	random := s.r.random
	if len(args) == 3 {
		seed, err := wantInt(args, 2)
		if err != nil {
			return none, err
		}
		random = rand.New(rand.NewPCG(uint64(seed), 0)).Float64
	}
	return jsonvalue.OfInt(min(from+int64(random()*float64(to-from)), to-1)), nil
}

func mathAdd(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	a, err := wantInt(args, 0)
	if err != nil {
		return none, err
	}
	b, err := wantInt(args, 1)
	if err != nil {
		return none, err
	}
	sum := a + b
	if (sum > a) != (b > 0) && b != 0 {
		return none, errors.New("the sum is too large")
	}
	return jsonvalue.OfInt(sum), nil
}

// stringSplit splits at every character of the delimiter; empty parts are dropped.
func stringSplit(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	s, err := wantText(args, 0)
	if err != nil {
		return none, err
	}
	delimiters, err := wantText(args, 1)
	if err != nil {
		return none, err
	}
	var parts []jsonvalue.Value
	for len(s) > 0 {
		end := strings.IndexAny(s, delimiters)
		if delimiters == "" || end < 0 {
			end = len(s)
		}
		if end > 0 {
			parts = append(parts, jsonvalue.OfString(s[:end]))
		}
		s = s[end:]
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return jsonvalue.OfArray(parts), nil
}

// format puts arguments in the place of {}; \{ \} \\ and \' are the characters themselves.
func format(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	template, err := wantText(args, 0)
	if err != nil {
		return none, err
	}
	var b strings.Builder
	next := 1
	for i := 0; i < len(template); i++ {
		c := template[i]
		switch {
		case c == '\\' && i+1 < len(template) && strings.IndexByte(`'\{}`, template[i+1]) >= 0:
			i++
			b.WriteByte(template[i])
		case c == '{' && strings.HasPrefix(template[i:], "{}"):
			if next >= len(args) {
				return none, fmt.Errorf("the template has more {} than the %d arguments", len(args)-1)
			}
			writeJava(&b, args[next])
			next++
			i++
		case c == '{' || c == '}':
			return none, fmt.Errorf("the template has a %q that is not escaped by a backslash", c)
		default:
			b.WriteByte(c)
		}
	}
	if next < len(args) {
		return none, fmt.Errorf("the template has %d {} for %d arguments", next-1, len(args)-1)
	}
	return jsonvalue.OfString(b.String()), nil
}

// writeJava writes a value as Java prints it: {Arg1=1, Arg2=[]}.
func writeJava(b *strings.Builder, v jsonvalue.Value) {
	switch v.Kind() {
	case jsonvalue.String:
		b.WriteString(v.Text())
	case jsonvalue.Array:
		b.WriteByte('[')
		for i, m := range v.Items() {
			if i > 0 {
				b.WriteString(", ")
			}
			writeJava(b, m)
		}
		b.WriteByte(']')
	case jsonvalue.Object:
		b.WriteByte('{')
		for i, k := range v.Keys() {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(k + "=")
			writeJava(b, v.Item(i))
		}
		b.WriteByte('}')
	default:
		b.WriteString(v.JSON())
	}
}

func newUUID(s *scope, _ []jsonvalue.Value) (jsonvalue.Value, error) {
	var u [16]byte
	for i := range u {
		u[i] = byte(s.r.random() * 256)
	}
	u[6], u[8] = u[6]&0x0F|0x40, u[8]&0x3F|0x80
	h := hex.EncodeToString(u[:])
	return jsonvalue.OfString(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]), nil
}

// random is a number in [0,1).
func (r *run) random() float64 {
	if r.env.Random != nil {
		f := r.env.Random()
		if f >= 0 && f < 1 {
			return f
		}
		return 0
	}
	if r.guessable == nil {
		h := fnv.New64a()
		h.Write([]byte(r.x.ID))
		r.guessable = rand.New(rand.NewPCG(h.Sum64()^r.x.ids, uint64(r.now)))
	}
	return r.guessable.Float64()
}
