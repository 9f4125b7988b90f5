// Package secret says what is secret, and keeps it out of what is shown: logs, metrics,
// errors, failure payloads, reports and diagnostics of configs.
//
// There are three ways to know a secret. By its name: an option, header, query parameter,
// variable or attribute that is called so ([Name]). By its place: in a URL everything but
// scheme and host, since for many services the path is the credential ([URL], [Text]). And
// by its value, where the secrets in use are known and what others say may repeat them
// ([Values]).
//
// # Invariants
//
//   - What is shown instead of a secret is [Mark], or nothing.
//   - Text and Hide never make a secret of a text that held none, and do to what they have
//     made nothing more.
//   - In doubt a name is secret: to hide too much costs a look at the config, to hide too
//     little costs the credential.
package secret

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mark stands where a secret stood.
const Mark = "(hidden)"

// stems make a word secret wherever they are in it.
var stems = []string{
	"passw", "passphrase", "passcode", "secret", "token", "credential", "cookie", "signature",
	"authoriz", "authoris", "authentic", "bearer", "jwt", "connectionstring", "privatekey",
}

// endings make a word secret that ends in one: apikey, basicauth.
var endings = []string{"key", "keys", "auth", "pass", "pwd", "creds"}

// whole are words that are secret by themselves.
var whole = map[string]bool{
	"pw": true, "dsn": true, "sig": true, "sign": true, "sas": true, "hmac": true, "psk": true, "otp": true, "totp": true, "pin": true,
	"salt": true, "session": true, "sessionid": true, "sessid": true, "sid": true, "csrf": true, "xsrf": true, "cred": true, "assertion": true,
}

// about are last words that make a name one of something beside the secret: key_file is a
// path, token_type a word.
var about = map[string]bool{
	"file": true, "path": true, "dir": true, "directory": true, "url": true, "uri": true, "endpoint": true, "user": true, "username": true,
	"type": true, "format": true, "algorithm": true, "version": true, "length": true, "size": true, "bytes": true, "count": true,
	"limit": true, "timeout": true, "ttl": true, "ms": true, "millis": true, "sec": true, "seconds": true,
}

// Name reports whether what is called so is a secret. Words are told apart by case and by
// what is neither letter nor digit, so that X-Api-Key, apiKey, API_KEY and apikey are one
// name.
func Name(name string) bool {
	words := wordsOf(name)
	if len(words) == 0 || len(words) > 1 && about[words[len(words)-1]] {
		return false
	}
	joined := strings.Join(words, "")
	for _, stem := range stems {
		if strings.Contains(joined, stem) {
			return true
		}
	}
	for i, w := range words {
		w = strings.TrimRight(w, "0123456789")
		if w == "oauth" && i < len(words)-1 {
			continue // the name of what follows: oauth2_client_id
		}
		if whole[w] {
			return true
		}
		for _, end := range endings {
			if strings.HasSuffix(w, end) {
				return true
			}
		}
	}
	return false
}

// wordsOf is the words of a name, in lower case.
func wordsOf(name string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = word[:0]
		}
	}
	for i, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case unicode.IsUpper(r) && len(word) > 0:
			next, _ := utf8.DecodeRuneInString(name[i+utf8.RuneLen(r):])
			if last := word[len(word)-1]; !unicode.IsUpper(last) || unicode.IsLower(next) {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return words
}

var urls = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>` + "`" + `]+`)

// places are addresses of objects in a store, whose names are no secrets.
var places = regexp.MustCompile(`^(s3|gs|azblob)://[a-z0-9][a-z0-9._-]*(/[\w=+%.-]+)*$`)

// URL is what may be shown of a URL: its scheme and host, and of a place for objects all; of one
// without a scheme, what stands where its host would. What is no URL is hidden whole.
func URL(raw string) string {
	if places.MatchString(raw) {
		return raw
	}
	u, err := url.Parse(raw)
	if err == nil && u.Scheme == "" && u.Host == "" {
		if first, _, _ := strings.Cut(u.Path, "/"); hostname.MatchString(first) {
			return first
		}
	}
	if err != nil || u.Scheme == "" || u.Host == "" {
		return Mark
	}
	shown := u.Scheme + "://" + u.Host
	// A host that is none must not become another URL when it is cut again.
	if again, err := url.Parse(strings.TrimRight(shown, ends)); err != nil || again.Host == "" || !hostname.MatchString(u.Host) {
		return Mark
	}
	return shown
}

var hostname = regexp.MustCompile(`^(\[[\w:.%-]+\]|[\pL\pN_][\pL\pN_.-]*)(:\d*)?$`)

// ends is what ends a clause, and is not part of a URL before it.
const ends = ".,:;)}"

// Text is a text whose URLs are cut to what may be shown of them.
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return urls.ReplaceAllStringFunc(text, func(raw string) string {
		clause := len(strings.TrimRight(raw, ends))
		if !strings.Contains(raw, "[") { // which begins an address of version 6
			clause = len(strings.TrimRight(raw, ends+"]"))
		}
		return URL(raw[:clause]) + raw[clause:]
	})
}

// Parts are the places in a text, as pairs of offsets in order, that no one may see of the
// URLs in it: the password before the host, or a user without one, which is as good as a
// password, and what follows the host.
func Parts(text string) [][2]int {
	var parts [][2]int
	for _, at := range urls.FindAllStringIndex(text, -1) {
		if places.MatchString(strings.TrimRight(text[at[0]:at[1]], ends+"]")) {
			continue
		}
		from := at[0] + strings.Index(text[at[0]:], "://") + len("://")
		end := at[1]
		if i := strings.IndexAny(text[from:at[1]], "/?#"); i >= 0 {
			end = from + i
		}
		if i := strings.LastIndexByte(text[from:end], '@'); i > 0 {
			if j := strings.IndexByte(text[from:from+i], ':'); j >= 0 && j < i-1 {
				from, i = from+j+1, i-j-1
			}
			parts = append(parts, [2]int{from, from + i})
		}
		if at[1]-end > 1 { // a path of its own
			parts = append(parts, [2]int{end, at[1]})
		}
	}
	return parts
}

// InURL reports whether a text has a URL that carries what is meant for its receiver only:
// a password or a query, or a path that looks like a credential.
func InURL(text string) bool {
	for _, raw := range urls.FindAllString(text, -1) {
		u, err := url.Parse(raw)
		if err != nil {
			return true
		}
		if _, password := u.User.Password(); password || u.RawQuery != "" {
			return true
		}
		for segment := range strings.SplitSeq(u.Path, "/") {
			if random(segment) {
				return true
			}
		}
	}
	return false
}

// random reports whether a part of a path looks like a credential, and not like a word: it
// is long, or has letters and digits.
func random(segment string) bool {
	if len(segment) < 8 || strings.ContainsAny(segment, ". ") && len(segment) < 32 {
		return false
	}
	letters := strings.ContainsFunc(segment, unicode.IsLetter)
	digits := strings.ContainsFunc(segment, unicode.IsDigit)
	return letters && digits || len(segment) >= 24
}
