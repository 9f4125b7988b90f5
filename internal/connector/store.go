package connector

import (
	"context"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// StoreOpener opens the durable store a config names.
type StoreOpener interface {
	Open(ctx context.Context) (queue.Store, error)
	// Identity names the store without secrets: two configs with one identity mean the
	// same store.
	Identity() string
}

// PatientOpener is a StoreOpener of a store that may be away when a process starts.
type PatientOpener interface {
	StoreOpener
	// OpenWaiting is Open, but waits for a store that is away, up to a limit of its own. It calls
	// waits with the reason, and how long it waits at most, at every try that has failed.
	OpenWaiting(ctx context.Context, waits func(why error, atMost time.Duration)) (queue.Store, error)
}

// Renewer is a StoreOpener of a store that stays open over a reload, and whose login may be another
// by then: a password, a certificate. Renew finds whether the open store takes the one of this
// config, without changing anything; adopt has it take it.
type Renewer interface {
	Renew(ctx context.Context, open queue.Store) (adopt func(), err error)
}

// Recorder is a source that keeps records in the durable store, beside the jobs of queues: where
// it says so, the store of the config is opened for it, though nothing else may need one.
type Recorder interface{ Records() bool }
