package connector

import (
	"context"

	"github.com/weirdata/weir/internal/queue"
)

// StoreOpener opens the durable store a config names.
type StoreOpener interface {
	Open(ctx context.Context) (queue.Store, error)
	// Identity names the store without secrets: two configs with one identity mean the
	// same store.
	Identity() string
}

// Recorder is a source that keeps records in the durable store, beside the jobs of queues: where
// it says so, the store of the config is opened for it, though nothing else may need one.
type Recorder interface{ Records() bool }
