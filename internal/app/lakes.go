package app

import "github.com/weirdata/weir/internal/catalog"

// Lake is a target of a pipeline that lands its events in a dataset.
type Lake struct {
	Pipeline string
	// Component is what logs call it.
	Component string
	catalog.Lander
}

// lands notes what was made where it lands events in a dataset.
func (a *assembly) lands(component string, made any) {
	if l, lands := made.(catalog.Lander); lands && a.config != nil {
		a.built.lakes = append(a.built.lakes, Lake{Pipeline: a.config.Name, Component: component, Lander: l})
	}
}

// Lakes are those of the config that runs.
func (a *App) Lakes() []Lake {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == nil {
		return nil
	}
	return a.current.lakes
}
