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
	// Renew finds whether open, which was opened by a config of the same identity, takes the options of
	// this one, which may be others after a reload: a password, a certificate, a limit. It changes
	// nothing; adopt has open take them, and names, as the config spells them, the options that
	// it goes without until the next start.
	Renew(ctx context.Context, open queue.Store) (adopt func() (later []string, err error), err error)
}

// PatientOpener is a StoreOpener of a store that may be away when a process starts.
type PatientOpener interface {
	StoreOpener
	// OpenWaiting is Open, but waits for a store that is away, up to a limit of its own. It calls
	// waits with the reason, and how long it waits at most, at every try that has failed.
	OpenWaiting(ctx context.Context, waits func(why error, atMost time.Duration)) (queue.Store, error)
}

// Recorder is a source that keeps records in the durable store, beside the jobs of queues: where
// it says so, the store of the config is opened for it, though nothing else may need one.
type Recorder interface{ Records() bool }
