package catalog

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
)

// newest is the bucket of a dataset in a store, as the one who opened it last reaches it: who does
// so after a reload has the credentials and certificates of then. What is under way goes on as
// it began.
type newest struct {
	mu  sync.RWMutex
	all []blob.Bucket // the last one counts; closed together
}

var _ blob.Bucket = (*newest)(nil)

// take has b count from now on.
func (n *newest) take(b blob.Bucket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	const most = 8 // whatever is older has ended its work long ago
	if n.all = append(n.all, b); len(n.all) > most {
		_ = n.all[0].Close() // nothing is written by it
		n.all = append(n.all[:0:0], n.all[1:]...)
	}
}

func (n *newest) now() blob.Bucket {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.all[len(n.all)-1]
}

func (n *newest) Create(ctx context.Context, name string, data []byte) (blob.Version, error) {
	return n.now().Create(ctx, name, data)
}

func (n *newest) Replace(ctx context.Context, name string, seen blob.Version, data []byte) (blob.Version, error) {
	return n.now().Replace(ctx, name, seen, data)
}

func (n *newest) Writer(ctx context.Context, name string) (blob.Writer, error) {
	return n.now().Writer(ctx, name)
}

func (n *newest) Get(ctx context.Context, name string) ([]byte, blob.Version, error) {
	return n.now().Get(ctx, name)
}

func (n *newest) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	return n.now().Open(ctx, name, offset, length)
}

func (n *newest) Head(ctx context.Context, name string) (blob.Info, error) {
	return n.now().Head(ctx, name)
}

func (n *newest) List(ctx context.Context, q blob.Query) ([]blob.Info, error) {
	return n.now().List(ctx, q)
}

func (n *newest) Delete(ctx context.Context, names ...string) error {
	return n.now().Delete(ctx, names...)
}

func (n *newest) Sweep(ctx context.Context, before time.Time) error {
	return n.now().Sweep(ctx, before)
}

func (n *newest) Close() error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	var errs []error
	for _, b := range n.all {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
