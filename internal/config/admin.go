package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"path"
	"strings"

	"github.com/weirdata/weir/internal/connector"
)

// Admin is the HTTP server for operators.
type Admin struct {
	// Address to listen on, as "host:port"; port 0 takes a free one. Without a token and an auth
	// block, one of this machine, such as 127.0.0.1, answers everybody who is on it, and any other
	// answers nothing but /healthz, /readyz and /metrics.
	Address string `hcl:"address"`
	// Token that requests must have, as "Authorization: Bearer TOKEN", but for /healthz and
	// /readyz; none by default. Take it from the environment, env("WEIR_ADMIN_TOKEN"), or
	// from a file, file("PATH"), which a reload reads again. Who has it may do everything; an
	// auth block has others, who may do less.
	Token string `hcl:"token,optional"`
	// Who may see and do what, beside who has the token.
	Auth *Auth `hcl:"auth,block"`
	// Host names by which it is asked, in lower case and without a port, beside addresses and
	// localhost. No other name is answered, so that no web page can reach it through a browser;
	// where the address is no loopback address and there are no names here, names of one word and
	// those of private networks (.local, .internal, .svc, .lan, .home.arpa) are.
	HostNames []string `hcl:"host_names,optional"`
	// Path below which everything is served, such as "/ops"; the root by default. With a path
	// or host names it may share its address with sources, who then are as near to it as to
	// their events.
	Path string `hcl:"path,optional"`
	// Pages that show, live, where events are and what needs somebody: open the address in a
	// browser. Off when left out. On an address that other machines reach it needs a token or an
	// auth block.
	Console *Console `hcl:"console,block"`
}

// Auth is by what operators are known, and what they may do.
type Auth struct {
	// A token that requests may have, by its hash. The name is what the log calls who has it.
	Tokens []*AuthToken `hcl:"token,block"`
	// A proxy before the server that knows who asks, and says so in a header. Whoever reaches the
	// server from its networks can say anything: keep others out of them.
	Proxies []*AuthProxy `hcl:"proxy,block"`
}

// AuthToken is a token by its hash.
type AuthToken struct {
	Name string `hcl:"name,label"`
	// SHA-256 of the token, in hexadecimal: printf %s "$TOKEN" | sha256sum. Make the token of at
	// least 16 random bytes, as openssl rand -hex 32 does: one that can be guessed is not hidden
	// by its hash.
	SHA256 string `hcl:"sha256"`
	// What its holder may do: "see" (states, figures, causes), "payloads" (what events hold, too)
	// or "operate" (everything).
	Right string `hcl:"right,optional"`
}

// SetDefaults sets what a token block need not say.
func (t *AuthToken) SetDefaults() { t.Right = "see" }

// AuthProxy is a proxy that knows who asks.
type AuthProxy struct {
	// Networks that it asks from, as "10.1.2.0/24", or addresses.
	Networks []string `hcl:"networks"`
	// Header that names who asks. The proxy must set it itself, whatever a client sent.
	UserHeader string `hcl:"user_header,optional"`
	// What everybody may do whom the header names: "see", "payloads" or "operate".
	Right string `hcl:"right,optional"`
	// Who may see payloads as well, by the names in the header.
	Payloads []string `hcl:"payloads,optional"`
	// Who may do everything, by the names in the header.
	Operate []string `hcl:"operate,optional"`
}

// SetDefaults sets what a proxy block need not say.
func (p *AuthProxy) SetDefaults() { p.UserHeader, p.Right = "X-Forwarded-User", "see" }

// Console is the pages for operators.
type Console struct {
	// Most pages that are open at once, all browsers together. At least 1.
	MaxStreams int `hcl:"max_streams,optional"`
}

// SetDefaults sets what a console block need not say.
func (c *Console) SetDefaults() { c.MaxStreams = 50 }

// rightNames are what an operator may be given.
var rightNames = []string{"see", "payloads", "operate"}

// Asks reports whether an operator must be known.
func (a *Admin) Asks() bool {
	return a.Token != "" || a.Auth != nil && len(a.Auth.Tokens)+len(a.Auth.Proxies) > 0
}

// Local reports whether only this machine reaches the address.
func (a *Admin) Local() bool {
	host, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		return true // another finding says what is wrong with it
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Doubts are settings of p that work and are not likely to be meant.
func (p *Process) Doubts() []connector.Problem {
	a := p.Admin
	if a == nil || a.Asks() || a.Local() {
		return nil
	}
	return []connector.Problem{{Field: "admin.address",
		What: fmt.Sprintf("other machines reach %s, and there is nothing to know an operator by: only /healthz, /readyz and /metrics are answered there", a.Address),
		Fix:  `set admin.token = env("WEIR_ADMIN_TOKEN"), write an auth block, or an address of this machine such as "127.0.0.1:8080"`}}
}

func (a *Admin) validate(ps *problems) {
	for _, name := range a.HostNames {
		if name != strings.ToLower(name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" || strings.Trim(name, ".") != name || name == "" {
			ps.add("admin.host_names", fmt.Sprintf("%q is no host name in lower case", name), `write names without a scheme and a port, such as "weir.example.com"`)
		}
	}
	if p := a.Path; p != "" && (path.Clean(p) != p || !strings.HasPrefix(p, "/") || p == "/" || strings.ContainsAny(p, "{}?#% ")) {
		ps.add("admin.path", fmt.Sprintf("path %q is no path to serve below", p), `write one that begins with a slash and ends without, such as "/ops", or leave it out`)
	}
	a.Auth.validate(ps)
	if a.Console == nil {
		return
	}
	ps.least("admin.console.max_streams", 1, a.Console.MaxStreams, "leave it out for 50")
	if !a.Asks() && !a.Local() {
		ps.add("admin.console", fmt.Sprintf("whoever reaches %s sees the console, and there is no token", a.Address), `set admin.token = env("WEIR_ADMIN_TOKEN"), write an auth block, or an address of this machine such as "127.0.0.1:8080"`)
	}
}

func (a *Auth) validate(ps *problems) {
	if a == nil {
		return
	}
	if len(a.Tokens)+len(a.Proxies) == 0 {
		ps.add("admin.auth", "the auth block has neither a token nor a proxy", "write a token block, or take it out")
	}
	names := map[string]bool{}
	for _, t := range a.Tokens {
		if names[t.Name] || t.Name == "" {
			ps.add("admin.auth.token", fmt.Sprintf("there are two tokens called %q, or it has no name", t.Name), "give each a name of its own")
		}
		names[t.Name] = true
		ps.oneOf("admin.auth.token.right", rightNames, t.Right, fmt.Sprintf("token %q: %q is no right", t.Name, t.Right))
		if _, err := t.Hash(); err != nil {
			ps.add("admin.auth.token.sha256", fmt.Sprintf("token %q: %v", t.Name, err), `write what this prints: printf %s "$TOKEN" | sha256sum`)
		}
	}
	for _, p := range a.Proxies {
		if _, err := p.Prefixes(); err != nil || len(p.Networks) == 0 {
			ps.add("admin.auth.proxy.networks", fmt.Sprintf("networks: %v", err), `name where the proxy asks from, such as ["10.1.2.3"] or ["10.1.2.0/24"]`)
		}
		ps.oneOf("admin.auth.proxy.right", rightNames, p.Right, fmt.Sprintf("%q is no right", p.Right))
		if p.UserHeader == "" || strings.ContainsAny(p.UserHeader, " :\t\r\n") || textproto.CanonicalMIMEHeaderKey(p.UserHeader) == "Authorization" {
			ps.add("admin.auth.proxy.user_header", fmt.Sprintf("%q is no header for a name", p.UserHeader), `write the one that the proxy sets, such as "X-Forwarded-User"`)
		}
	}
}

// Hash is the hash of the token.
func (t *AuthToken) Hash() (sum [32]byte, err error) {
	b, err := hex.DecodeString(strings.TrimSpace(t.SHA256))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("sha256 is 64 hexadecimal digits, not %d characters", len(t.SHA256))
	}
	return [32]byte(b), nil
}

// Prefixes are the networks of the proxy.
func (p *AuthProxy) Prefixes() ([]netip.Prefix, error) {
	all := make([]netip.Prefix, 0, len(p.Networks))
	for _, text := range p.Networks {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network nor an address", text)
		}
		all = append(all, n.Masked())
	}
	return all, nil
}
