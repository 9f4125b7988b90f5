package secret

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// shortest is how long a secret is at least that is looked for: to replace a shorter one
// would only show where it is. partial is how much of a secret a text that was cut may end
// with.
const (
	shortest = 4
	partial  = 8
)

// Values are the secrets that are in use, and must not be in a text that somebody else has
// made: the body of a response, the error of a library. The zero value has none. It is not
// changed by what reads it, so it may be read by several goroutines once it is filled.
type Values struct {
	// texts are the secrets in every way they are written, longest first: one that holds
	// another is replaced whole.
	texts []string
}

// Add adds secrets, as they are and as they are written in a URL, in JSON and in HTML.
func (v *Values) Add(secrets ...string) {
	for _, s := range secrets {
		quoted, err := json.Marshal(s)
		if err != nil {
			quoted = []byte(`""`) // a string always encodes
		}
		for _, text := range []string{s, url.QueryEscape(s), url.PathEscape(s), string(quoted[1 : len(quoted)-1]), html.EscapeString(s)} {
			if len(text) < shortest {
				continue
			}
			at, found := slices.BinarySearchFunc(v.texts, text, func(a, b string) int {
				if len(a) != len(b) {
					return len(b) - len(a)
				}
				return strings.Compare(a, b)
			})
			if !found {
				v.texts = slices.Insert(v.texts, at, text)
			}
		}
	}
}

// AddNamed adds a value if what has the name is a secret: as it is, and without a scheme
// before it, as in "Bearer ...".
func (v *Values) AddNamed(name, value string) {
	if !Name(name) {
		return
	}
	v.Add(value)
	if scheme, credentials, ok := strings.Cut(value, " "); ok && len(scheme) < 16 {
		v.Add(strings.TrimSpace(credentials))
		if plain, err := base64.StdEncoding.DecodeString(credentials); err == nil && strings.EqualFold(scheme, "basic") {
			_, password, _ := strings.Cut(string(plain), ":")
			v.Add(string(plain), password)
		}
	}
}

// AddHeader adds the headers of a request that are secrets.
func (v *Values) AddHeader(h http.Header) {
	for name, values := range h {
		for _, value := range values {
			v.AddNamed(name, value)
		}
	}
}

// AddBasic adds the credentials of basic authentication.
func (v *Values) AddBasic(username, password string) {
	if password != "" {
		v.Add(password, base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
	}
}

// AddURL adds what of a URL only its receiver may see: the password, the query and each of
// its values, the path, and each part of it that looks like a credential. A nil u has none.
func (v *Values) AddURL(u *url.URL) {
	if u == nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		v.AddBasic(u.User.Username(), password)
	}
	v.Add(u.RawQuery)
	for _, values := range u.Query() {
		v.Add(values...)
	}
	if strings.Trim(u.Path, "/") == "" {
		return
	}
	v.Add(u.Path, u.EscapedPath())
	for segment := range strings.SplitSeq(u.Path, "/") {
		if random(segment) {
			v.Add(segment)
		}
	}
}

// Hide is a text without the secrets. Where it was cut within one, its end goes too.
func (v *Values) Hide(text string) string {
	if v == nil {
		return text
	}
	for _, s := range v.texts {
		if strings.Contains(text, s) {
			text = strings.ReplaceAll(text, s, Mark)
		}
	}
	for _, s := range v.texts {
		for n := min(len(s)-1, len(text)); n >= partial; n-- {
			if strings.HasSuffix(text, s[:n]) {
				return text[:len(text)-n] + Mark
			}
		}
	}
	return text
}
