package frontdoor

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Route is which requests are an owner's. A request is for the owner of the most specific route
// that it matches: a host name before every host, a longer path before a shorter one, as
// http.ServeMux has it.
type Route struct {
	// Hosts are names without a port, in lower case; none stands for every host.
	Hosts []string
	// Paths are patterns of http.ServeMux without method and host; none stands for every path.
	Paths []string
}

// patterns are those of the route, for a ServeMux.
func (r Route) patterns() []string {
	hosts := r.Hosts
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	var all []string
	for _, host := range hosts {
		for _, path := range r.paths() {
			all = append(all, host+path)
		}
	}
	return all
}

var everyPath = []string{"/"}

func (r Route) paths() []string {
	if len(r.Paths) == 0 {
		return everyPath
	}
	return r.Paths
}

// CheckHost says what is wrong with a host name of a route; nil when nothing is.
func CheckHost(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case name != strings.ToLower(name):
		return errors.New("it has capital letters")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "."):
		return errors.New("it is no host name: write it without a scheme, a port, a path or a star")
	}
	return nil
}

// CheckPath says what is wrong with a path of a route; nil when nothing is.
func CheckPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("it does not start with a slash")
	}
	return register(http.NewServeMux(), path, http.NotFoundHandler())
}

// register adds a handler, or says why it cannot: ServeMux panics.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// room is the hosts of one owner, who succeed one another.
type room struct {
	owner  string
	places []*Place              // in the order they came; the door's lock guards it
	newest atomic.Pointer[Place] // the last of places
}

// ServeHTTP is there so that a room can stand in a ServeMux.
func (r *room) ServeHTTP(http.ResponseWriter, *http.Request) {}

// host is who of the room gets a request now; mu is the door's.
func (r *room) host(mu *sync.Mutex) Host {
	// Nearly always the newest leads, and no lock is needed.
	if p := r.newest.Load(); p != nil && p.leading.Load() && p.host.Accepting() {
		return p.host
	}
	mu.Lock()
	defer mu.Unlock()
	var waits, last Host
	for _, p := range slices.Backward(r.places) {
		accepts := p.host.Accepting()
		switch {
		case accepts && p.leading.Load():
			return p.host
		case accepts && waits == nil:
			waits = p.host
		case last == nil:
			last = p.host
		}
	}
	if waits != nil {
		return waits
	}
	return last
}

// table says whose a request is; it never changes.
type table struct {
	only *room          // who has every request; nil when there is nobody, or several share
	mux  *http.ServeMux // whose handlers are rooms; nil unless several share
}

// owners is the table as it is now. Who enters or leaves does not make it, the next request does:
// so a thousand who come together cost one table.
func (d *door) owners() *table {
	if t := d.table.Load(); t != nil {
		return t
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.table.Load()
	if t == nil {
		t = d.tabulate()
		d.table.Store(t)
	}
	return t
}

// tabulate makes the table. d.mu is held.
func (d *door) tabulate() *table {
	t := &table{}
	if len(d.rooms) == 1 {
		t.only = d.rooms[0]
	} else if len(d.rooms) > 1 {
		t.mux = http.NewServeMux()
		for _, r := range d.rooms {
			for _, p := range slices.Backward(r.places) {
				for _, pattern := range p.route.patterns() {
					// What an older place has in another way than a newer one of its owner is
					// the newer one's; owners do not clash, or they had not entered.
					_ = register(t.mux, pattern, r)
				}
			}
		}
	}
	return t
}

// find is whose a request is; nil when it is nobody's, and then mux may know what to answer.
func (t *table) find(r *http.Request) (whose *room, answer http.Handler) {
	if t.mux == nil {
		return t.only, nil
	}
	if name := strings.TrimSuffix(strings.ToLower(r.Host), "."); name != r.Host {
		lower := *r
		lower.Host = name
		r = &lower
	}
	h, _ := t.mux.Handler(r)
	if room, ok := h.(*room); ok {
		return room, nil
	}
	return nil, h
}

func (d *door) dispatch(w http.ResponseWriter, r *http.Request) {
	room, answer := d.owners().find(r)
	if room != nil {
		if h := room.host(&d.mu); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	if answer != nil {
		answer.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Connection", "close")
	http.Error(w, "nobody serves here any more", http.StatusServiceUnavailable)
}

// host is who gets a request with this host name and clean path; nil when nobody does.
func (d *door) host(name, path []byte) Host {
	t := d.owners()
	room := t.only
	if t.mux != nil {
		room, _ = t.find(&http.Request{Method: http.MethodPost, Host: string(name), URL: &url.URL{Path: string(path)}})
	}
	if room == nil {
		return nil
	}
	return room.host(&d.mu)
}

// manned reports whether anybody is left.
func (d *door) manned() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.rooms) > 0
}

// Claim is what somebody asks of an address.
type Claim struct {
	Address string
	Route   Route
	// TLS and Identity are those of Settings.
	TLS      bool
	Identity string
	// Alone shares with nobody.
	Alone bool
}

func (p *Place) claim(address string) Claim {
	return Claim{Address: address, Route: p.route, TLS: p.settings.TLS, Identity: p.settings.Identity}
}

// everything reports whether r takes every request, and leaves none to others.
func (r Route) everything() bool {
	return len(r.Hosts) == 0 && (len(r.Paths) == 0 || slices.Contains(r.Paths, "/"))
}

// Clash is why two cannot have what they claim, where the addresses do not say it, and what to
// do about it.
type Clash struct{ Why, Fix string }

// Collide is why a and b cannot both be served; nil when they can.
func Collide(a, b Claim) *Clash {
	same := a.Address == b.Address // nearly always, where many share one
	switch {
	case same && shared(a.Address) == "", !same && !Conflict(a.Address, b.Address):
		return nil
	case !same && shared(a.Address) != shared(b.Address), a.Alone, b.Alone:
		return &Clash{Fix: "choose another port"}
	}
	return clash(a, b)
}

// apart reports whether the routes can be told apart without asking a ServeMux, which is slow
// where a thousand share an address: host names that differ never clash, and paths without
// wildcards and escapes do only when they are equal. False says nothing.
func apart(a, b Route) bool {
	if (len(a.Hosts) == 0) != (len(b.Hosts) == 0) {
		return true
	}
	if len(a.Hosts) > 0 && !slices.ContainsFunc(a.Hosts, func(h string) bool { return slices.Contains(b.Hosts, h) }) {
		return true
	}
	plain := func(path string) bool { return !strings.ContainsAny(path, "{%") }
	for _, path := range a.paths() {
		if slices.ContainsFunc(b.paths(), func(other string) bool { return path == other || !plain(path) || !plain(other) }) {
			return false
		}
	}
	return true
}

// clash is Collide for claims of one address.
func clash(a, b Claim) *Clash {
	switch {
	case a.Route.everything() || b.Route.everything():
		return &Clash{Fix: "choose another port"}
	case a.TLS != b.TLS:
		return &Clash{"one of them speaks TLS and the other does not", "choose another address"}
	case a.Identity != b.Identity:
		return &Clash{"their certificates or authorities are not the same", "choose another address, or name the same files"}
	}
	if apart(a.Route, b.Route) {
		return nil
	}
	for _, one := range a.Route.patterns() {
		for _, other := range b.Route.patterns() {
			mux := http.NewServeMux() // of these two alone: what a route says twice is no clash
			_ = register(mux, one, http.NotFoundHandler())
			if register(mux, other, http.NotFoundHandler()) != nil {
				return &Clash{fmt.Sprintf("a request for %s could be for either", other), "choose another address, or let them differ by host name or path"}
			}
		}
	}
	return nil
}
