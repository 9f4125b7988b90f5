package console

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"
)

// period is how far frames are apart.
const period = time.Second

// sampler looks at what runs while there is a stream, and gives each what it sees.
type sampler struct {
	o      *Options
	viewer *viewer

	mu      sync.Mutex
	streams map[*stream]struct{}
	last    *frame
	stop    context.CancelFunc // of the loop; nil while it does not run
	closed  bool
	wait    sync.WaitGroup
}

func newSampler(o *Options) *sampler {
	return &sampler{o: o, viewer: newViewer(o), streams: map[*stream]struct{}{}}
}

// join is a new stream, unless there are too many.
func (a *sampler) join() (*stream, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.streams) >= a.o.MaxStreams {
		return nil, false
	}
	s := &stream{come: make(chan struct{}, 1), ended: make(chan struct{})}
	a.streams[s] = struct{}{}
	if a.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		a.stop = stop
		a.wait.Go(func() { a.run(ctx) })
	} else if a.last != nil {
		s.offer(a.last)
	}
	return s, true
}

func (a *sampler) leave(s *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, s)
	if len(a.streams) == 0 && a.stop != nil {
		a.stop()
		a.stop, a.last = nil, nil
	}
}

// close ends all streams, and lets nobody in any more.
func (a *sampler) close() {
	a.mu.Lock()
	a.closed = true
	for s := range a.streams {
		close(s.ended)
	}
	a.streams = map[*stream]struct{}{}
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
	a.mu.Unlock()
	a.wait.Wait()
}

// run makes frames until ctx ends.
func (a *sampler) run(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for id := 1; ; id++ {
		f, err := encode(id, a.viewer.look(ctx))
		if err != nil {
			a.o.Log.Error("console: a frame cannot be made", "error", err)
		} else {
			a.give(ctx, f)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// give offers f to all streams, unless the loop was ended meanwhile.
func (a *sampler) give(ctx context.Context, f *frame) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	a.last = f
	for s := range a.streams {
		s.offer(f)
	}
}

func encode(id int, n *Now) (*frame, error) {
	var b bytes.Buffer
	b.WriteString("event: now\nid: " + strconv.Itoa(id) + "\ndata: ")
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	b.Write(text)
	b.WriteString("\n\n")
	return &frame{id: id, text: b.Bytes()}, nil
}
