package console

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/api"
)

// frame is an event as it is sent.
type frame struct {
	id   int
	text []byte
}

// stream is one client. It holds the newest frame that the client has not got.
type stream struct {
	mu    sync.Mutex
	next  *frame
	lost  int
	come  chan struct{} // something is there
	ended chan struct{}
}

// offer leaves f for the client, in the place of what it did not get in time.
func (s *stream) offer(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		s.lost++
	}
	s.next = f
	select {
	case s.come <- struct{}{}:
	default:
	}
}

// take is what is there for the client, and how many frames it lost before that.
func (s *stream) take() (f *frame, lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, lost = s.next, s.lost
	s.next, s.lost = nil, 0
	return f, lost
}

// streamTo prepares w for server-sent events, to the deadline if that is not zero: the door's limits
// are those of requests that end.
func streamTo(w http.ResponseWriter, deadline time.Time) *http.ResponseController {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(deadline) // a server without deadlines has none to lift
	return out
}

// live is the stream of events.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	s, ok := c.sampler.join()
	if !ok {
		w.Header().Set("Retry-After", "5")
		api.Refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open, and no more may be: see admin.console.max_streams", c.o.MaxStreams))
		return
	}
	defer c.sampler.leave(s)
	out := streamTo(w, time.Time{})
	generation := -1
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-s.ended:
			return
		case <-beat.C:
			_, err = w.Write([]byte(": still here\n\n"))
		case <-s.come:
			f, lost := s.take()
			if f == nil {
				continue
			}
			if _, now := c.o.Graph(); now != generation {
				if generation >= 0 {
					_, err = w.Write([]byte("event: config\ndata: {}\n\n"))
				}
				generation = now
			}
			if lost > 0 && err == nil {
				_, err = w.Write([]byte("event: lost\ndata: {\"frames\":" + strconv.Itoa(lost) + "}\n\n"))
			}
			if err == nil {
				_, err = w.Write(f.text)
			}
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			return // the client has gone
		}
	}
}
