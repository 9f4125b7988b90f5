package app

import (
	"fmt"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
)

// listening is a source that binds an address.
type listening struct {
	use                *config.Use
	address, attribute string
}

// listens notes the address of a source that binds one.
func (a *assembly) listens(s connector.Source, u *config.Use) {
	if l, ok := s.(connector.Listener); ok {
		address, attribute := l.Listens()
		a.built.listening = append(a.built.listening, listening{u, address, attribute})
	}
}

// collisions finds the sources that could not listen, because another source or the admin
// server of the same process does.
func collisions(door *config.Admin, all []listening) config.Diagnostics {
	var ds config.Diagnostics
	for i, l := range all {
		refuse := func(other, address string) {
			ds = append(ds, l.use.Diagnose(connector.Blame(l.attribute, "choose another port",
				fmt.Errorf("%s %q is taken: %s listens on %q", l.attribute, l.address, other, address)))...)
		}
		for _, before := range all[:i] {
			if frontdoor.Conflict(before.address, l.address) {
				other := before.use.String()
				if at := before.use.Position(); at != "" {
					other += " at " + at
				}
				refuse(other, before.address)
				break
			}
		}
		if door != nil && frontdoor.Conflict(door.Address, l.address) {
			refuse("the admin block", door.Address)
		}
	}
	return ds
}
