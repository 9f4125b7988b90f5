package machine

import (
	"crypto/md5"  //nolint:gosec // States.Hash offers it
	"crypto/sha1" //nolint:gosec // States.Hash offers it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// Limits of intrinsic functions, as on AWS.
const (
	maxBase64 = 10_000 // characters
	maxHash   = 10_000 // characters
	maxRange  = 1_000  // items
)

// intrinsic is one function; most is the most arguments it takes.
type intrinsic struct {
	least, most int
	apply       func(s *scope, args []jsonvalue.Value) (jsonvalue.Value, error)
}

func (f *intrinsic) arity() string {
	switch {
	case f.most == math.MaxInt:
		return fmt.Sprintf("%d or more", f.least)
	case f.least == f.most:
		return strconv.Itoa(f.least)
	}
	return fmt.Sprintf("%d or %d", f.least, f.most)
}

var intrinsics = map[string]*intrinsic{
	"Array":          {0, math.MaxInt, arrayOf},
	"ArrayPartition": {2, 2, arrayPartition},
	"ArrayContains":  {2, 2, arrayContains},
	"ArrayRange":     {3, 3, arrayRange},
	"ArrayGetItem":   {2, 2, arrayGetItem},
	"ArrayLength":    {1, 1, arrayLength},
	"ArrayUnique":    {1, 1, arrayUnique},
	"Base64Encode":   {1, 1, base64Encode},
	"Base64Decode":   {1, 1, base64Decode},
	"Hash":           {2, 2, hashOf},
	"JsonMerge":      {3, 3, jsonMerge},
	"JsonToString":   {1, 1, jsonToString},
	"StringToJson":   {1, 1, stringToJSON},
	"MathRandom":     {2, 3, mathRandom},
	"MathAdd":        {2, 2, mathAdd},
	"StringSplit":    {2, 2, stringSplit},
	"Format":         {1, math.MaxInt, format},
	"UUID":           {0, 0, newUUID},
}

var none jsonvalue.Value

func wantArray(args []jsonvalue.Value) error {
	if args[0].Kind() != jsonvalue.Array {
		return fmt.Errorf("argument 1 must be an array, it is %s", article(args[0].Kind()))
	}
	return nil
}

func wantText(args []jsonvalue.Value, i int) (string, error) {
	if args[i].Kind() != jsonvalue.String {
		return "", fmt.Errorf("argument %d must be a string, it is %s", i+1, article(args[i].Kind()))
	}
	return args[i].Text(), nil
}

// wantInt rounds like Java's Math.round: halves go up, towards positive infinity.
func wantInt(args []jsonvalue.Value, i int) (int64, error) {
	if args[i].Kind() != jsonvalue.Number {
		return 0, fmt.Errorf("argument %d must be a number, it is %s", i+1, article(args[i].Kind()))
	}
	if n, ok := args[i].Int(); ok {
		return n, nil
	}
	f := math.Floor(args[i].Float() + 0.5)
	if math.Abs(f) >= 1<<62 {
		return 0, fmt.Errorf("argument %d is too large", i+1)
	}
	return int64(f), nil
}

func arrayOf(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	return jsonvalue.OfArray(args), nil
}

func arrayPartition(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	if err := wantArray(args); err != nil {
		return none, err
	}
	n, err := wantInt(args, 1)
	if err != nil {
		return none, err
	}
	if n <= 0 {
		return none, errors.New("the chunk size must be a positive number")
	}
	items := args[0].Items()
	var chunks []jsonvalue.Value
	for len(items) > 0 {
		size := int(min(n, int64(len(items))))
		chunks = append(chunks, jsonvalue.OfArray(items[:size:size]))
		items = items[size:]
	}
	return jsonvalue.OfArray(chunks), nil
}

func arrayContains(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	if err := wantArray(args); err != nil {
		return none, err
	}
	for _, m := range args[0].Items() {
		if jsonvalue.Equal(m, args[1]) {
			return jsonvalue.TrueValue, nil
		}
	}
	return jsonvalue.FalseValue, nil
}

func arrayRange(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	var n [3]int64
	for i := range n {
		var err error
		if n[i], err = wantInt(args, i); err != nil {
			return none, err
		}
	}
	from, to, by := n[0], n[1], n[2]
	if by == 0 {
		return none, errors.New("the step must not be zero")
	}
	var items []jsonvalue.Value
	for at := from; by > 0 && at <= to || by < 0 && at >= to; at += by {
		if len(items) == maxRange {
			return none, fmt.Errorf("the range has more than %d items", maxRange)
		}
		items = append(items, jsonvalue.OfInt(at))
	}
	return jsonvalue.OfArray(items), nil
}

func arrayGetItem(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	if err := wantArray(args); err != nil {
		return none, err
	}
	n, err := wantInt(args, 1)
	if err != nil {
		return none, err
	}
	if n < 0 || n >= int64(args[0].Len()) {
		return none, fmt.Errorf("index %d is outside an array of %d items", n, args[0].Len())
	}
	return args[0].Item(int(n)), nil
}

func arrayLength(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	if err := wantArray(args); err != nil {
		return none, err
	}
	return jsonvalue.OfInt(int64(args[0].Len())), nil
}

func arrayUnique(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	if err := wantArray(args); err != nil {
		return none, err
	}
	var unique []jsonvalue.Value
	seen := make(map[string]bool, args[0].Len())
	for _, m := range args[0].Items() {
		key := canonical(m)
		if !seen[key] {
			seen[key] = true
			unique = append(unique, m)
		}
	}
	return jsonvalue.OfArray(unique), nil
}

// canonical is the same text for values that are equal.
func canonical(v jsonvalue.Value) string {
	switch v.Kind() {
	case jsonvalue.Number:
		return jsonvalue.OfFloat(min(max(v.Float(), -math.MaxFloat64), math.MaxFloat64)).JSON()
	case jsonvalue.Array:
		var b strings.Builder
		for _, m := range v.Items() {
			b.WriteString(canonical(m) + ",")
		}
		return "[" + b.String() + "]"
	case jsonvalue.Object:
		members := make([]string, v.Len())
		for i, k := range v.Keys() {
			members[i] = jsonvalue.OfString(k).JSON() + ":" + canonical(v.Item(i))
		}
		sortStrings(members)
		return "{" + strings.Join(members, ",") + "}"
	}
	return v.JSON()
}

func base64Encode(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	s, err := wantText(args, 0)
	if err == nil && utf8.RuneCountInString(s) > maxBase64 {
		err = fmt.Errorf("the string has more than %d characters", maxBase64)
	}
	return jsonvalue.OfString(base64.StdEncoding.EncodeToString([]byte(s))), err
}

func base64Decode(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	s, err := wantText(args, 0)
	if err != nil {
		return none, err
	}
	if utf8.RuneCountInString(s) > maxBase64 {
		return none, fmt.Errorf("the string has more than %d characters", maxBase64)
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return none, fmt.Errorf("the string is not base64: %w", err)
	}
	return jsonvalue.OfString(strings.ToValidUTF8(string(b), "\uFFFD")), nil
}

func hashOf(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	text := args[0].JSON()
	if args[0].Kind() == jsonvalue.String {
		text = args[0].Text()
	}
	algorithm, err := wantText(args, 1)
	if err != nil {
		return none, err
	}
	if utf8.RuneCountInString(text) > maxHash {
		return none, fmt.Errorf("the data has more than %d characters", maxHash)
	}
	var sum []byte
	switch data := []byte(text); algorithm {
	case "MD5":
		h := md5.Sum(data) //nolint:gosec // asked for by name
		sum = h[:]
	case "SHA-1":
		h := sha1.Sum(data) //nolint:gosec // asked for by name
		sum = h[:]
	case "SHA-256":
		h := sha256.Sum256(data)
		sum = h[:]
	case "SHA-384":
		h := sha512.Sum384(data)
		sum = h[:]
	case "SHA-512":
		h := sha512.Sum512(data)
		sum = h[:]
	default:
		return none, fmt.Errorf("%q is no hashing algorithm; there are MD5, SHA-1, SHA-256, SHA-384 and SHA-512", algorithm)
	}
	return jsonvalue.OfString(hex.EncodeToString(sum)), nil
}

func jsonMerge(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	for i := range 2 {
		if args[i].Kind() != jsonvalue.Object {
			return none, fmt.Errorf("argument %d must be an object, it is %s", i+1, article(args[i].Kind()))
		}
	}
	if args[2].Kind() != jsonvalue.False {
		return none, errors.New("argument 3 must be false: only a shallow merge is supported")
	}
	second := make(map[string]jsonvalue.Value, args[1].Len())
	for i, k := range args[1].Keys() {
		second[k] = args[1].Item(i)
	}
	var b jsonvalue.Builder
	for i, k := range args[0].Keys() {
		v := args[0].Item(i)
		if later, ok := second[k]; ok {
			v = later
			delete(second, k)
		}
		b.Set(k, v)
	}
	for i, k := range args[1].Keys() {
		if _, ok := second[k]; ok {
			b.Set(k, args[1].Item(i))
		}
	}
	return b.Object(), nil
}

func jsonToString(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	return jsonvalue.OfString(args[0].JSON()), nil
}

func stringToJSON(_ *scope, args []jsonvalue.Value) (jsonvalue.Value, error) {
	s, err := wantText(args, 0)
	if err != nil {
		return none, err
	}
	if strings.TrimSpace(s) == "" {
		return jsonvalue.NullValue, nil
	}
	v, err := jsonvalue.ParseString(s)
	if err != nil {
		return none, fmt.Errorf("the string is not JSON: %w", err)
	}
	return v, nil
}
