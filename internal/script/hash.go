package script

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// Algorithms are the names Hash knows.
var Algorithms = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "md5": md5.New}

// The forms of Hash.
const (
	// HashDerived is PBKDF2 with 1000 rounds and 24 bytes.
	HashDerived = 5
	// HashPlain is the plain digest, or HMAC where there is a salt.
	HashPlain = 6
)

// Hash is the hash helper of scripts: the digest of data in lower-case hexadecimal. It
// reports false for an algorithm it does not know. The algorithms and the number of
// rounds are what existing pipelines pseudonymise with; they are not a way to store
// passwords.
func Hash(version int, algorithm, data, salt string) (string, bool) {
	newHash, ok := Algorithms[algorithm]
	if !ok {
		return "", false
	}
	if version == HashPlain {
		h := newHash()
		if salt != "" {
			h = hmac.New(newHash, []byte(salt))
		}
		h.Write([]byte(data))
		return hex.EncodeToString(h.Sum(nil)), true
	}
	key, err := pbkdf2.Key(newHash, data, []byte(salt), 1000, 24)
	if err != nil {
		return "", false // only a wrong length or FIPS mode can cause it
	}
	return hex.EncodeToString(key), true
}
