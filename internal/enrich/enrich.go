// Package enrich adds to events what their senders do not say: where the address is that they come
// from, and what the user agent is of which they speak.
//
// # Members
//
// In an event's context, each only where it is not there yet:
//
//   - geo, of a source with geoEnrichment: where the address of context.ip is, or that of request_ip
//     where there is none, as package geo has it. Of what is no address, all of it is empty.
//   - browser {name, version}, deviceType and, where the sender says nothing of it, os {name, version}, of
//     context.userAgent. That of a robot is marked with isBot and bot {name}.
//
// A member of the context that is there, whatever it is, stays as it is. An event whose context is no
// object stays as it is.
package enrich

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/geo"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/spelling"
	"github.com/weirdata/weir/internal/workspace"
)

// What is done with events of robots.
const (
	Keep = "keep"
	Flag = "flag"
	Drop = "drop"
)

// Config says what is added to events.
type Config struct {
	// Path of a MaxMind database of cities, as GeoLite2-City.mmdb. Events of a source with geoEnrichment
	// get the place of their address from it as context.geo. Default: they do not, with a warning.
	GeolocationDatabase string `hcl:"geolocation_database,optional"`
	// Whether events get context.browser, context.os and context.deviceType of their
	// context.userAgent; off by default.
	UserAgent bool `hcl:"user_agent,optional"`
	// What is done with events of robots, as their context.userAgent, or who took them in, says that they
	// are: "keep", "flag", which writes context.isBot and context.bot, or "drop". Default: "keep".
	Bots string `hcl:"bots,optional"`
}

// SetDefaults sets what a block need not say.
func (c *Config) SetDefaults() { c.Bots = Keep }

// Validate names what could never work.
func (c *Config) Validate() (ps []connector.Problem) {
	if all := []string{Keep, Flag, Drop}; !slices.Contains(all, c.Bots) {
		ps = append(ps, connector.Problem{Field: "bots", What: fmt.Sprintf("bots is %s, not %q", spelling.Or(all), c.Bots), Fix: "write one of these"})
	}
	return ps
}

// Enricher adds to events. Many goroutines may use it at once.
type Enricher struct {
	c      Config
	places *geo.Database // nil without one
}

// New reads the database.
func New(d connector.Deps, c Config) (*Enricher, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("enrichment: %s: %s", ps[0].What, ps[0].Fix))
	}
	e := &Enricher{c: c}
	if c.GeolocationDatabase == "" {
		return e, nil
	}
	file, err := d.File("enrichment.geolocation_database", c.GeolocationDatabase)
	if err != nil {
		return nil, err
	}
	if e.places, err = geo.Open(file); err != nil {
		return nil, connector.Blame("enrichment.geolocation_database", "name a MaxMind database of cities, as GeoLite2-City.mmdb", err)
	}
	return e, nil
}

// Locates reports whether events get a location; a nil Enricher's do not.
func (e *Enricher) Locates() bool { return e != nil && e.places != nil }

// Apply is what an event of a source becomes: data as it was, or with what is added. drop says that it is
// of a robot and unwanted.
func (e *Enricher) Apply(s *workspace.Source, data []byte) (out []byte, drop bool) {
	geography := s.GeoEnrichment && e.places != nil
	agents := e.c.UserAgent || e.c.Bots != Keep
	if !geography && !agents {
		return data, false
	}
	var few [2][24]jsontext.Member
	whole, ok := members(few[0][:0], data)
	if !ok {
		return data, false
	}
	text, _ := whole.value("context")
	ctx := object{}
	if text != "" && text != "null" {
		if ctx, ok = members(few[1][:0], []byte(text)); !ok {
			return data, false
		}
	}
	var set []jsontext.Setting
	has := func(name string) bool {
		v, found := ctx.value(name)
		return found && v != "null"
	}
	add := func(name string, value []byte) {
		if !has(name) {
			set = append(set, jsontext.Setting{Name: name, Value: value})
		}
	}
	if geography && !has("geo") {
		add("geo", e.place(whole, ctx))
	}
	if agents && e.agent(ctx, add) {
		return data, true
	}
	if len(set) == 0 {
		return data, false
	}
	out, _ = jsontext.SetIn(data, "context", set...)
	return out, false
}

// agent adds what the user agent of a context says. drop says that it is a robot's, and unwanted.
func (e *Enricher) agent(ctx object, add func(name string, value []byte)) (drop bool) {
	text := ctx.text("userAgent")
	a := parse(text)
	marked := a.Bot != ""
	if v, _ := ctx.value("isBot"); v == "true" {
		marked = true
	}
	switch {
	case marked && e.c.Bots == Drop:
		return true
	case marked && e.c.Bots == Flag:
		add("isBot", []byte("true"))
		if a.Bot != "" {
			add("bot", written("name", a.Bot))
		}
	}
	if !e.c.UserAgent || text == "" {
		return false
	}
	if a.Browser != "" {
		add("browser", written("name", a.Browser, "version", a.Version))
	}
	if a.OS != "" {
		add("os", written("name", a.OS, "version", a.OSVersion))
	}
	if a.Device != "" {
		add("deviceType", jsontext.AppendString(nil, a.Device))
	}
	return false
}

// place is where an event comes from, as JSON.
func (e *Enricher) place(whole, ctx object) []byte {
	text := ctx.text("ip")
	if text == "" {
		text = whole.text("request_ip")
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return geo.Place{}.Append(nil)
	}
	p, err := e.places.Find(ip.WithZone(""))
	if err != nil { // a part of the database that cannot be read
		p = geo.Place{IP: ip.String()}
	}
	return p.Append(nil)
}

// object is a JSON object and where its members lie.
type object struct {
	data    string
	members []jsontext.Member
}

func members(into []jsontext.Member, data []byte) (object, bool) {
	s := jsontext.Scan(data)
	all, ok := s.Object(into)
	return object{string(data), all}, ok
}

func (o object) value(name string) (text string, found bool) {
	return jsontext.Last(o.data, o.members, name)
}

// text is a member that is a text; empty when it is none.
func (o object) text(name string) string {
	v, _ := o.value(name)
	if len(v) < 2 || v[0] != '"' {
		return ""
	}
	return jsontext.Unquoted(v)
}

// written is texts as a JSON object, without those that are empty.
func written(pairs ...string) []byte {
	out := []byte{'{'}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = jsontext.AppendString(append(jsontext.AppendString(out, pairs[i]), ':'), pairs[i+1])
	}
	return append(out, '}')
}
