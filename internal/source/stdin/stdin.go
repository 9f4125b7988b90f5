// Package stdin reads lines from standard input: one message a line, of any length up to
// max_line_bytes. The end of the input ends the pipeline.
//
// What was read from standard input cannot be read again, so the process has one reader
// for it: a pipeline that is replaced by a reload leaves the lines it has not taken to
// its successor.
//
// The position of a message is the number of its line, from 1, in this run of the program.
package stdin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lines"
)

// Config is the HCL of the stdin source.
type Config struct {
	// Longest line accepted, in bytes (default 64 MiB). A longer one ends the pipeline
	// with an error, since the input cannot be read again.
	MaxLineBytes int `hcl:"max_line_bytes,optional"`
	// Most lines handed to the transforms at once (default 1000).
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.MaxLineBytes < 1 {
		ps = append(ps, connector.Problem{Field: "max_line_bytes", What: fmt.Sprintf("max_line_bytes must be at least 1, not %d", c.MaxLineBytes), Fix: "leave it out to use the default"})
	}
	if c.MaxBatchMessages < 1 {
		ps = append(ps, connector.Problem{Field: "max_batch_messages", What: fmt.Sprintf("max_batch_messages must be at least 1, not %d", c.MaxBatchMessages), Fix: "leave it out to use the default"})
	}
	return ps
}

// Entry is the stdin source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "stdin", Summary: "Reads lines from standard input, one message a line.", Stability: connector.Stable,
	Default: func() Config { return Config{MaxLineBytes: 64 << 20, MaxBatchMessages: 1000} },
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Source, error) {
		return &Source{pump: &standard, config: c}, nil
	},
})

// Source reads lines from a pump.
type Source struct {
	pump   *pump
	config Config
}

// standard is the process's one reader of standard input.
var standard = pump{input: os.Stdin}

// pump reads ahead by one request on a goroutine of its own, because a read of standard
// input cannot be interrupted. A result that nobody waited for stays for the next request.
type pump struct {
	input io.Reader

	mu      sync.Mutex
	run     string // names this input: another run of the program has other lines
	reader  *lines.Reader
	results chan result
	asked   bool          // a request is under way, or its result was not taken yet
	taken   chan struct{} // closed when the result was taken: who still waits must ask again
}

type result struct {
	lines [][]byte
	first uint64 // the number of the first line, from 1
	at    time.Time
	err   error
}

// divide is what of r there is room for, but at least a line, and the rest.
func (r result) divide(messages, bytes int) (now, rest result) {
	n := 0
	for n < len(r.lines) && n < messages && (n == 0 || len(r.lines[n]) <= bytes) {
		bytes -= len(r.lines[n])
		n++
	}
	now, rest = r, r
	now.lines, rest.lines = r.lines[:n:n], r.lines[n:]
	rest.first += uint64(n)
	return now, rest
}

// ask makes sure a request is under way. It returns where the result will be, and what
// closes when another source of this process takes it.
func (p *pump) ask(c Config, messages, bytes int) (results <-chan result, taken <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reader == nil {
		p.reader = lines.NewReader(p.input, c.MaxLineBytes)
		p.results = make(chan result, 1)
		p.run = time.Now().UTC().Format(time.RFC3339Nano)
	}
	if !p.asked {
		p.asked, p.taken = true, make(chan struct{})
		go func() {
			got, err := p.reader.Next(nil, messages, bytes)
			p.results <- result{got, uint64(p.reader.Line()) - uint64(len(got)) + 1, time.Now().UTC(), err}
		}()
	}
	return p.results, p.taken
}

// answered notes that a result was taken, but for the rest of it, which stays for the next
// request: it was asked for when there was more room.
func (p *pump) answered(rest result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(rest.lines) > 0 {
		p.results <- rest
		return
	}
	p.asked = false
	close(p.taken)
}

// Open implements connector.Source.
func (s *Source) Open(context.Context) error { return nil }

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return true }

// Close implements connector.Source.
func (s *Source) Close(context.Context) error { return nil }

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(s.config.MaxBatchMessages, math.MaxInt)
	for ctx.Err() == nil {
		results, taken := s.pump.ask(s.config, messages, bytes)
		select {
		case r := <-results:
			now, rest := r.divide(messages, bytes)
			s.pump.answered(rest)
			return s.batch(now)
		case <-taken:
		case <-ctx.Done():
		}
	}
	return nil, nil, context.Cause(ctx)
}

func (s *Source) batch(r result) (event.Batch, connector.Ack, error) {
	switch {
	case r.err == nil:
		b := event.NewBatch(r.at, r.lines)
		event.Origins(b, "stdin", s.pump.run, func(i int) uint64 { return r.first + uint64(i) })
		return b, nil, nil
	case errors.Is(r.err, io.EOF):
		return nil, nil, io.EOF
	case errors.Is(r.err, lines.ErrTooLong):
		r.err = fmt.Errorf("%w; raise max_line_bytes of the stdin source", r.err)
	}
	return nil, nil, fault.New(fault.Fatal, fmt.Errorf("read standard input: %w", r.err))
}
