package app

import (
	"fmt"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
)

// listening is a source that binds an address.
type listening struct {
	use *config.Use
	connector.Listening
}

func (l listening) claim() frontdoor.Claim {
	return frontdoor.Claim{Address: l.Address, Route: frontdoor.Route{Hosts: l.Hosts, Paths: l.Paths}, TLS: l.TLS, Identity: l.Identity}
}

// listens notes the address of a source that binds one.
func (a *assembly) listens(s connector.Source, u *config.Use) {
	if l, ok := s.(connector.Listener); ok {
		a.built.listening = append(a.built.listening, listening{u, l.Listens()})
	}
}

// AdminRoute is which requests are for the admin server.
func AdminRoute(a *config.Admin) frontdoor.Route {
	r := frontdoor.Route{Hosts: a.HostNames}
	if a.Path != "" {
		r.Paths = []string{a.Path, a.Path + "/"}
	}
	return r
}

// collisions finds the sources that could not listen, because another source or the admin
// server of the same process does.
func collisions(admin *config.Admin, all []listening) config.Diagnostics {
	var ds config.Diagnostics
	byPort := map[string][]listening{} // before the one that is looked at; only these can collide
	for _, l := range all {
		refuse := func(other, address string, c *frontdoor.Clash) {
			err := fmt.Errorf("%s %q is taken: %s listens on %q", l.Attribute, l.Address, other, address)
			if c.Why != "" {
				err = fmt.Errorf("%w, and %s", err, c.Why)
			}
			ds = append(ds, l.use.Diagnose(connector.Blame(l.Attribute, c.Fix, err))...)
		}
		port := frontdoor.Port(l.Address)
		for _, before := range byPort[port] {
			if c := frontdoor.Collide(before.claim(), l.claim()); c != nil {
				other := before.use.String()
				if at := before.use.Position(); at != "" {
					other += " at " + at
				}
				refuse(other, before.Address, c)
				break
			}
		}
		byPort[port] = append(byPort[port], l)
		if admin != nil {
			// It is reached where events are only when its block says so.
			claim := frontdoor.Claim{Address: admin.Address, Route: AdminRoute(admin), Alone: admin.Path == "" && len(admin.HostNames) == 0}
			if c := frontdoor.Collide(claim, l.claim()); c != nil {
				refuse("the admin block", admin.Address, c)
			}
		}
	}
	return ds
}
