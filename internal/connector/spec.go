package connector

import (
	"context"
	"reflect"
)

// Stability says how much a connector's options may still change.
type Stability string

// The stabilities.
const (
	Stable       Stability = "stable"
	Experimental Stability = "experimental"
	Deprecated   Stability = "deprecated"
)

// Spec is the one definition of a connector. C is its HCL struct: the field comments
// are its documentation, the tags its syntax, Default its defaults. T is Source,
// Transform or Target.
type Spec[C, T any] struct {
	Name      string
	Summary   string // one sentence
	Stability Stability
	Default   func() C
	// Queue is the attribute that names the durable queue a source reads or a target writes;
	// empty when it does neither.
	Queue string
	// Machine is the attribute that names the machine a target starts executions of.
	Machine string
	// Whole is set for targets that hold messages of any size: as a failure target, one has no
	// limit but that which its config writes.
	Whole bool
	// New builds the connector from a decoded, validated config. It must not touch the network.
	New func(ctx context.Context, d Deps, c C) (T, error)
}

// Entry is a Spec without its config type, as registries hold it.
type Entry[T any] struct {
	Name      string
	Summary   string
	Stability Stability
	Config    reflect.Type // the HCL struct
	Queue     string       // see [Spec]
	Machine   string       // see [Spec]
	Whole     bool         // see [Spec]
	// Default returns a pointer to a config with the defaults set.
	Default func() any
	// Build decodes with decode into a config that holds the defaults, and builds the
	// connector from it. decode reports what is wrong with the config; New's error is
	// returned as it is.
	Build func(ctx context.Context, d Deps, decode func(into any) error) (T, error)
}

// Of hides a spec's config type; each connector package uses it once.
func Of[C, T any](s Spec[C, T]) Entry[T] {
	return Entry[T]{
		Name: s.Name, Summary: s.Summary, Stability: s.Stability, Queue: s.Queue, Machine: s.Machine, Whole: s.Whole,
		Config:  reflect.TypeFor[C](),
		Default: func() any { c := s.Default(); return &c },
		Build: func(ctx context.Context, d Deps, decode func(any) error) (T, error) {
			c := s.Default()
			if err := decode(&c); err != nil {
				var none T
				return none, err
			}
			return s.New(ctx, d, c)
		},
	}
}

// Set is every connector a binary knows, by kind, in the order they are documented.
type Set struct {
	Sources    []Entry[Source]
	Transforms []Entry[Transform]
	Targets    []Entry[Target]
	Stores     []Entry[StoreOpener]
}

// Find returns the entry with the given name.
func Find[T any](entries []Entry[T], name string) (Entry[T], bool) {
	for _, e := range entries {
		if e.Name == name {
			return e, true
		}
	}
	return Entry[T]{}, false
}

// ConfigOf is the HCL struct of the entry with the given name, or nil.
func ConfigOf[T any](entries []Entry[T], name string) reflect.Type {
	e, _ := Find(entries, name)
	return e.Config
}

// Queues are the entries that read or write a queue, with the attribute that names it.
func Queues[T any](entries []Entry[T]) map[string]string {
	return attributes(entries, func(e Entry[T]) string { return e.Queue })
}

// Machines are the entries that start executions, with the attribute that names the machine.
func Machines[T any](entries []Entry[T]) map[string]string {
	return attributes(entries, func(e Entry[T]) string { return e.Machine })
}

// Wholes are the names of the entries that hold messages of any size.
func Wholes[T any](entries []Entry[T]) []string {
	names := []string{}
	for _, e := range entries {
		if e.Whole {
			names = append(names, e.Name)
		}
	}
	return names
}

func attributes[T any](entries []Entry[T], of func(Entry[T]) string) map[string]string {
	names := map[string]string{}
	for _, e := range entries {
		if a := of(e); a != "" {
			names[e.Name] = a
		}
	}
	return names
}

// Names lists the names of entries in their order.
func Names[T any](entries []Entry[T]) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names
}
