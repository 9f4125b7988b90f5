package faultproxy

import (
	"bytes"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
)

// stream is an answer that goes on: that of SubscribeToShard.
type stream struct {
	call *Call
	cut  chan struct{}
	once sync.Once

	mu   sync.Mutex
	hold chan struct{} // nil: flows; closed when it may flow again
}

func (s *stream) end() { s.once.Do(func() { close(s.cut) }) }

// gate is what to wait for before bytes may pass.
func (s *stream) gate() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hold
}

func (s *stream) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold == nil {
		s.hold = make(chan struct{})
	}
}

func (s *stream) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		close(s.hold)
		s.hold = nil
	}
}

// InitialResponse puts before the events of SubscribeToShard the frame initial-response, which
// the protocol has and kinesis-local leaves out.
func (p *AWS) InitialResponse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.initial = true
}

// Freeze holds the streams that are open and match, without closing them; nil matches all.
// Events that come while they are held wait in the engine.
func (p *AWS) Freeze(match func(*Call) bool) int { return p.each(match, (*stream).freeze) }

// Thaw lets frozen streams flow on.
func (p *AWS) Thaw(match func(*Call) bool) int { return p.each(match, (*stream).thaw) }

// CutStreams ends the connections of streams.
func (p *AWS) CutStreams(match func(*Call) bool) int { return p.each(match, (*stream).end) }

// Streams is how many are open.
func (p *AWS) Streams() int { return p.each(nil, func(*stream) {}) }

func (p *AWS) each(match func(*Call) bool, do func(*stream)) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for s := range p.streams {
		if match == nil || match(s.call) {
			do(s)
			n++
		}
	}
	return n
}

func (p *AWS) stream(w http.ResponseWriter, r *http.Request, resp *http.Response, c *Call) {
	s := &stream{call: c, cut: make(chan struct{})}
	p.mu.Lock()
	p.streams[s] = struct{}{}
	initial := p.initial
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.streams, s)
	}()
	for name, values := range resp.Header {
		if name != "Content-Length" && name != "Connection" && name != "Transfer-Encoding" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	if initial {
		_, _ = w.Write(initialFrame())
	}
	flush := http.NewResponseController(w)
	_ = flush.Flush()

	chunks, done := make(chan []byte), make(chan struct{})
	defer close(done)
	go func() {
		defer close(chunks)
		buffer := make([]byte, 64<<10)
		for {
			n, err := resp.Body.Read(buffer)
			if n > 0 {
				select {
				case chunks <- bytes.Clone(buffer[:n]):
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case chunk, more := <-chunks:
			if !more {
				return
			}
			for hold := s.gate(); hold != nil; hold = s.gate() {
				select {
				case <-hold:
				case <-s.cut:
					cut(w)
					return
				case <-r.Context().Done():
					return
				case <-p.released:
					return
				}
			}
			if _, err := w.Write(chunk); err != nil {
				return
			}
			_ = flush.Flush()
		case <-s.cut:
			cut(w)
			return
		case <-r.Context().Done():
			return
		case <-p.released:
			return
		}
	}
}

func initialFrame() []byte {
	var b bytes.Buffer
	m := eventstream.Message{Payload: []byte("{}")}
	m.Headers.Set(eventstreamapi.MessageTypeHeader, eventstream.StringValue("event"))
	m.Headers.Set(eventstreamapi.EventTypeHeader, eventstream.StringValue("initial-response"))
	m.Headers.Set(eventstreamapi.ContentTypeHeader, eventstream.StringValue("application/json"))
	if err := eventstream.NewEncoder().Encode(&b, m); err != nil {
		panic(err) // it is always the same
	}
	return b.Bytes()
}
