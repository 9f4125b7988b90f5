package gateway

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"unicode"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/jsontext"
)

// appendText appends what a value says as text: a string without quotes and escapes, a
// number without an exponent, and other values as they are written; nothing for null.
func appendText(dst, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	switch c := value[0]; {
	case c == '"':
		return jsontext.Unquote(dst, value)
	case c == 'n':
		return dst
	case c == '-' || (c >= '0' && c <= '9'):
		return jsontext.AppendPlain(dst, value)
	}
	return append(dst, value...)
}

// trim is text without white space around it.
func trim(text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if !unicode.IsSpace(r) {
			break
		}
		text = text[n:]
	}
	for len(text) > 0 {
		r, n := utf8.DecodeLastRune(text)
		if !unicode.IsSpace(r) {
			break
		}
		text = text[:len(text)-n]
	}
	return text
}

// visible is text without invisible characters, and without white space around it. It may
// write into text.
func visible(text []byte) []byte {
	plain := true
	for _, c := range text {
		if c <= ' ' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return text
	}
	kept := text[:0]
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if unicode.IsGraphic(r) {
			kept = append(kept, text[i:i+n]...)
		}
		i += n
	}
	return trim(kept)
}

// appendUUID appends 16 bytes as a UUID of version 4.
func appendUUID(dst []byte, u [16]byte) []byte {
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], u[:4])
	hex.Encode(s[9:13], u[4:6])
	hex.Encode(s[14:18], u[6:8])
	hex.Encode(s[19:23], u[8:10])
	hex.Encode(s[24:], u[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return append(dst, s[:]...)
}

// appendRandomUUID appends a UUID of the runtime's generator: names must differ, not be
// secret.
func appendRandomUUID(dst []byte) []byte {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	return appendUUID(dst, u)
}

// appendRudderID appends the name that RudderStack gives a user: the MD5 of both ids,
// written as a UUID. It is a name, not a protection.
func appendRudderID(dst, userColonAnonymous []byte) []byte {
	return appendUUID(dst, md5.Sum(userColonAnonymous))
}
