package workspace

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// Live is a workspace configuration that changes while it is used. Who decides about a message
// asks once, so that one state decides.
type Live interface {
	// Current is the state that counts now. It waits for nothing.
	Current() *Workspace
	// Changed is closed when another state counts than at the call. Ask for it before Current, and
	// no change is missed.
	Changed() <-chan struct{}
}

// State is the configuration that counts, until somebody sets another. Many goroutines may use it
// at once; a new one has no sources.
type State struct {
	now atomic.Pointer[Workspace]

	mu      sync.Mutex
	changed chan struct{} // nil while nobody waits
}

// Current implements [Live].
func (s *State) Current() *Workspace {
	if w := s.now.Load(); w != nil {
		return w
	}
	return none
}

var none = Empty()

// Changed implements [Live].
func (s *State) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// Set has another state count.
func (s *State) Set(w *Workspace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Store(w)
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Tell logs the warnings of w, but those that before has too; before may be nil.
func (w *Workspace) Tell(log *slog.Logger, before *Workspace) {
	for _, text := range w.Warnings {
		if before == nil || !slices.Contains(before.Warnings, text) {
			log.Warn("workspace config: " + text)
		}
	}
}
