package frontdoor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// Tenant is the life of a source whose requests wait for their events: it opens at a door, reads,
// hands over to the source that replaces it, and closes; closed, it stands at the door all the
// same, so that callers are told to come back instead of finding nobody. A source embeds it and
// adds what a request is and which answers it gets. It implements connector.Listener, Holder,
// Refuser and Attendant, and of connector.Source all but its name.
type Tenant struct {
	lease Lease
	open  sync.Mutex
	stay  atomic.Pointer[Stay]         // never nil
	full  atomic.Pointer[func() error] // why nothing can be written now; nil: nobody says

	answers meter.Responses

	standing sync.Mutex
	place    *Place // of a stay that is closed; nil unless it stands at the door
}

var (
	_ connector.Holder    = (*Tenant)(nil)
	_ connector.Listener  = (*Tenant)(nil)
	_ connector.Refuser   = (*Tenant)(nil)
	_ connector.Attendant = (*Tenant)(nil)
	_ meter.Measured      = (*Tenant)(nil)
)

// Lease is what one tenant does otherwise than another.
type Lease struct {
	// Name says what the source is, in errors. Tenants of one name take over each other's
	// requests.
	Name string
	// Attribute is the option that Door's address comes from.
	Attribute string
	Door      Door
	// Timeout is the longest time that a request waits for its events.
	Timeout time.Duration
	// Requests and Bytes are the most that is held at once.
	Requests, Bytes int
	// Body is how bodies are read, but for the budget.
	Body Reader
	// Serve makes what answers the requests of a stay.
	Serve func(*Stay) http.Handler
}

// Stay is a tenant from an Open to its Close. A later one begins with nothing: requests of an
// earlier one that nobody settles any more take no room from it.
type Stay struct {
	Budget *Budget
	Body   *Reader
	Hall   *Hall

	tenant  *Tenant
	handler http.Handler
	place   atomic.Pointer[Place] // nil before Open
}

// closing is how long a tenant that leaves waits for requests whose bodies are still arriving.
const closing = 5 * time.Second

// Let makes t a tenant that is not open.
func (t *Tenant) Let(l Lease) {
	t.lease = l
	t.stay.Store(t.begin())
}

// Answered counts an answer by its status. Who writes one says so.
func (t *Tenant) Answered(status int) { t.answers.Add(status) }

// Measure implements meter.Measured.
func (t *Tenant) Measure(emit meter.Emit) {
	t.answers.Measure(emit)
	meter.Certificate(t.lease.Door.Certificates, emit)
}

// Stay is the one that is open, or the last, or the first that will be.
func (t *Tenant) Stay() *Stay { return t.stay.Load() }

// begin makes a stay that is not open.
func (t *Tenant) begin() *Stay {
	s := &Stay{tenant: t, Budget: NewBudget(t.lease.Requests, t.lease.Bytes)}
	body := t.lease.Body
	body.Budget = s.Budget
	s.Body = &body
	s.Hall = NewHall(t.lease.Timeout, func() *Hall {
		if next := s.successor(); next != nil {
			return next.Hall
		}
		return nil
	})
	s.Hall.away = func() bool { return fault.Away(t.Refusal()) }
	s.handler = t.lease.Serve(s)
	return s
}

// Open binds the address and starts to serve. Requests wait until the first Read; while the
// source of the same pipeline that this one replaces still reads, they are that one's.
func (t *Tenant) Open(ctx context.Context) error {
	t.open.Lock()
	defer t.open.Unlock()
	now := t.stay.Load()
	switch {
	case now.Hall.Stopped():
		now = t.begin()
	case now.place.Load() != nil:
		return fmt.Errorf("open the %s: it is open already", t.lease.Name)
	}
	p, err := Enter(ctx, t.lease.Door, now)
	if err != nil {
		return err
	}
	now.place.Store(p)
	t.stay.Store(now)
	return nil
}

// Addr is the address listened on; nil before Open.
func (t *Tenant) Addr() net.Addr {
	if p := t.stay.Load().place.Load(); p != nil {
		return p.Addr()
	}
	return nil
}

// Listens implements connector.Listener.
func (t *Tenant) Listens() connector.Listening {
	d := t.lease.Door
	return connector.Listening{Address: d.Address, Attribute: t.lease.Attribute, Hosts: d.Route.Hosts, Paths: d.Route.Paths, TLS: d.Settings.TLS, Identity: d.Settings.Identity}
}

// Holds reports that clients wait until their events are settled.
func (t *Tenant) Holds() bool { return true }

// Take waits for a request and returns its messages with those of all other requests that wait,
// up to about a number of messages and bytes. When ctx ends, requests that wait go to the source
// that replaces this one; when there is none they are turned away, and so are new ones until the
// next Take.
func (t *Tenant) Take(ctx context.Context, messages, bytes int) (event.Batch, connector.Ack, error) {
	now := t.stay.Load()
	return now.Hall.Read(ctx, now.place.Load(), messages, bytes)
}

// Close turns every waiting request away, or leaves it to the source that replaces this one.
// The last source at an address stops the server: requests whose bodies are still arriving
// are cut off after five seconds, or when ctx ends.
func (t *Tenant) Close(ctx context.Context) error {
	t.open.Lock()
	defer t.open.Unlock()
	now := t.stay.Load()
	now.Hall.Close()
	return leave(ctx, now.place.Load())
}

func leave(ctx context.Context, p *Place) error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	return p.Leave(ctx)
}

// Attend implements connector.Attendant: a stay that is closed answers at the door whenever none
// does that takes something. At an address that is not shared (Door.Shared) it stands nowhere,
// since the source would find it taken.
func (t *Tenant) Attend(ctx context.Context) error {
	t.standing.Lock()
	defer t.standing.Unlock()
	if t.place != nil || !t.lease.Door.Shared() {
		return nil
	}
	closed := t.begin()
	closed.Hall.Close()
	place, err := Enter(ctx, t.lease.Door, closed)
	t.place = place
	return err
}

// Dismiss implements connector.Attendant.
func (t *Tenant) Dismiss(ctx context.Context) error {
	t.standing.Lock()
	defer t.standing.Unlock()
	place := t.place
	t.place = nil
	return leave(ctx, place)
}

// RefuseWhile implements connector.Refuser.
func (t *Tenant) RefuseWhile(full func() error) { t.full.Store(&full) }

// Refusal is why requests are turned away because there is no room for their events, or because
// what keeps them is out of reach (fault.Away); nil: they are not.
func (t *Tenant) Refusal() error {
	if full := t.full.Load(); full != nil {
		return (*full)()
	}
	return nil
}

// Refusing reports whether there is a Refusal.
func (t *Tenant) Refusing() bool { return t.Refusal() != nil }

// ServeHTTP implements Host.
func (s *Stay) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Accepting implements Host.
func (s *Stay) Accepting() bool { return s.Hall.Open() }

// Served reports whether somebody works on requests: this stay, or the one of a newer config
// that takes those that this one cannot take any more.
func (s *Stay) Served() bool { return s.Accepting() || s.successor() != nil }

// Over reports whether the stay has ended and no other follows.
func (s *Stay) Over() bool { return s.Hall.Stopped() && s.successor() == nil }

// Handler is what answers the requests.
func (s *Stay) Handler() http.Handler { return s.handler }

func (s *Stay) successor() *Stay {
	if p := s.place.Load(); p != nil {
		if next, ok := p.Successor().(*Stay); ok && next.tenant.lease.Name == s.tenant.lease.Name {
			return next
		}
	}
	return nil
}
