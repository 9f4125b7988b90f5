package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Access is by what somebody is known, and what he may do then. It does not change.
type Access struct {
	// Token is one whose holder may do everything; empty: there is none.
	Token string
	// Tokens are those of which only the hash is known.
	Tokens  []Token
	Proxies []Proxy
	// Closed says that other machines reach the address. Where there is nothing to know anybody by,
	// they may do nothing.
	Closed bool
}

// Token is a token by its hash.
type Token struct {
	Name  string
	Hash  [sha256.Size]byte
	Right Right
}

// Proxy is networks from which a header of a request says who asks.
type Proxy struct {
	Networks []netip.Prefix
	Header   string
	// Right is what everybody may do who is named; Named is who may do something else.
	Right Right
	Named map[string]Right
}

// Who is who asks.
type Who struct {
	// Name is what logs call him, and Address where he asks from.
	Name, Address string
	Right         Right
}

// String is who, as logs and what is kept of an operation have it.
func (w Who) String() string {
	if w.Name == anybody {
		return "admin API, " + w.Address
	}
	return w.Name + " (admin API, " + w.Address + ")"
}

// anybody is who is not known, where nobody need be.
const anybody = "anybody"

type key struct{}

func with(ctx context.Context, w Who) context.Context { return context.WithValue(ctx, key{}, w) }

// WhoOf is who makes a request that was let in.
func WhoOf(r *http.Request) Who {
	w, _ := r.Context().Value(key{}).(Who)
	return w
}

// Asks reports whether somebody must be known.
func (a *Access) Asks() bool { return a.Token != "" || len(a.Tokens) > 0 || len(a.Proxies) > 0 }

// Who is who makes the request, and whether that is known.
func (a *Access) Who(r *http.Request) (Who, bool) {
	at := r.RemoteAddr
	if !a.Asks() {
		return Who{anybody, at, Operate}, !a.Closed
	}
	scheme, said, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		if w, ok := a.Holder(strings.TrimSpace(said)); ok {
			w.Address = at
			return w, true
		}
	}
	if c, err := r.Cookie(SessionCookie); err == nil {
		if a.Token != "" && same(c.Value, session(a.Token)) {
			return Who{tokenName, at, Operate}, true
		}
		if w, ok := a.hashed(c.Value); ok {
			w.Address = at
			return w, true
		}
	}
	return a.proxied(r)
}

// tokenName is who has the token of the block.
const tokenName = "the token's holder"

// Holder is who has a token.
func (a *Access) Holder(token string) (Who, bool) {
	if a.Token != "" && same(token, a.Token) {
		return Who{Name: tokenName, Right: Operate}, true
	}
	return a.hashed(token)
}

func (a *Access) hashed(token string) (who Who, known bool) {
	sum := sha256.Sum256([]byte(token))
	for _, t := range a.Tokens { // all of them, so that the time does not tell which
		if subtle.ConstantTimeCompare(sum[:], t.Hash[:]) == 1 {
			who, known = Who{Name: t.Name, Right: t.Right}, true
		}
	}
	return who, known
}

func (a *Access) proxied(r *http.Request) (Who, bool) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Who{}, false
	}
	at := from.Addr().Unmap()
	for i := range a.Proxies {
		p := &a.Proxies[i]
		if !slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(at) }) {
			continue
		}
		said := r.Header.Values(p.Header)
		if len(said) != 1 || said[0] == "" { // a proxy that adds to what a client sent tells nothing
			continue
		}
		right, named := p.Named[said[0]]
		if !named {
			right = p.Right
		}
		if right > Open {
			return Who{said[0], r.RemoteAddr, right}, true
		}
	}
	return Who{}, false
}

// SessionCookie is the name of the cookie that stands for a token.
const SessionCookie = "weir_session"

// Session is what a browser shows in the place of a token: for the token of the block what stands
// for it as long as it is the block's, and tells nobody what it is; for one of which only the hash
// is known, itself.
func (a *Access) Session(token string) string {
	if a.Token != "" && same(token, a.Token) {
		return session(token)
	}
	return token
}

func session(token string) string {
	m := hmac.New(sha256.New, []byte(token))
	_, _ = m.Write([]byte("weir session")) // a hash takes everything
	return hex.EncodeToString(m.Sum(nil))
}

// same compares secrets in a time that does not tell how much of them is equal, or how long they are.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
