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
	hosts, paths := r.Hosts, r.Paths
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	var all []string
	for _, host := range hosts {
		for _, path := range paths {
			all = append(all, host+path)
		}
	}
	return all
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

// tabulate makes the table anew. d.mu is held.
func (d *door) tabulate() {
	t := &table{}
	for _, r := range d.rooms {
		r.newest.Store(r.places[len(r.places)-1])
	}
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
	d.table.Store(t)
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
	room, answer := d.table.Load().find(r)
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
	t := d.table.Load()
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
	t := d.table.Load()
	return t.only != nil || t.mux != nil
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
	switch {
	case !Conflict(a.Address, b.Address):
		return nil
	case shared(a.Address) != shared(b.Address), a.Alone, b.Alone:
		return &Clash{Fix: "choose another port"}
	}
	return clash(a, b)
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
	mux := http.NewServeMux()
	for _, pattern := range a.Route.patterns() {
		_ = register(mux, pattern, http.NotFoundHandler()) // of one route, what is there twice is the same
	}
	for _, pattern := range b.Route.patterns() {
		if register(mux, pattern, http.NotFoundHandler()) != nil {
			return &Clash{fmt.Sprintf("a request for %s could be for either", pattern), "choose another address, or let them differ by host name or path"}
		}
	}
	return nil
}
