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
