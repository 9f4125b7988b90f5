package eventhubtarget

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// closePatience is how long the other side may take to end a link with us.
const closePatience = 3 * time.Second

// Target writes to a hub.
type Target struct {
	config  Config
	hub     *azure.Hub
	log     *slog.Logger
	timeout time.Duration

	// quiet is held by every send, and alone by one whose refusal has to be its own.
	quiet sync.RWMutex

	mu     sync.Mutex
	open   bool
	client *client
	ending sync.WaitGroup // clients that are being closed
}

var (
	_ connector.Target  = (*Target)(nil)
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
)

// client is a connection. It is closed once it is retired and nothing is sent on it any more.
type client struct {
	*azeventhubs.ProducerClient
	users   int
	retired bool
}

var errNotOpen = errors.New("the target is not open")

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.config.Batching.Limits()
	l.Size = t.size
	return l
}

// Bytes that the encoding adds: to a message (its id, its sections, its place in a batch), to a
// key and to a header.
const (
	messageOverhead = 80
	keyOverhead     = 40
	headerOverhead  = 10
)

// size is the bytes of m in a batch, or a few more.
func (t *Target) size(m *event.Message) int {
	n := len(m.Data) + messageOverhead
	if t.config.SetEHPartitionKey && m.Key != "" {
		n += len(m.Key) + keyOverhead
	}
	if t.config.SendHeaders && len(m.Meta.Headers) > 0 {
		n += m.Meta.Headers.Size() + headerOverhead*(len(m.Meta.Headers)+1)
	}
	return n
}

// Open implements connector.Target. The first write connects.
func (t *Target) Open(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = true
	return nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	t.open = false
	t.retireLocked(t.client)
	t.mu.Unlock()
	t.ending.Wait()
	return nil
}

// use is the client to send with; done is called when nothing is sent with it any more.
func (t *Target) use() (c *client, done func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		return nil, nil, errNotOpen
	}
	if t.client == nil {
		p, err := t.hub.Producer(t.config.MaxAutoRetries)
		if err != nil {
			return nil, nil, t.hub.Fault("come to", err)
		}
		t.client = &client{ProducerClient: p}
	}
	c = t.client
	c.users++
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		c.users--
		t.endLocked(c)
	}, nil
}

// retire has the next write use another connection than c.
func (t *Target) retire(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retireLocked(c)
}

func (t *Target) retireLocked(c *client) {
	if c == nil || c.retired {
		return
	}
	if t.client == c {
		t.client = nil
	}
	c.retired = true
	t.endLocked(c)
}

func (t *Target) endLocked(c *client) {
	if !c.retired || c.users > 0 {
		return
	}
	t.ending.Go(func() {
		closing, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		_ = c.Close(closing)
	})
}

// Check implements connector.Checker: it opens a link to the hub, which needs the right to send,
// and sends nothing.
func (t *Target) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	p, err := t.hub.Producer(0)
	if err != nil {
		return t.hub.Fault("come to", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
		defer cancel()
		_ = p.Close(closing)
	}()
	_, err = p.NewEventDataBatch(ctx, nil)
	return t.hub.Fault("write to", err)
}
