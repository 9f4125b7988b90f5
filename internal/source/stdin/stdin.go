// Package stdin reads lines from standard input: one message a line, of any length up to
// max_line_bytes. The end of the input ends the pipeline.
//
// What was read from standard input cannot be read again, so the process has one reader
// for it, which keeps the lines of each read until they are settled: a pipeline that is
// replaced by a reload leaves the lines it has not taken, or not settled, to its successor,
// and one that failed finds them when it is started again. What nobody has settled when the
// process ends is lost, and the process says so by its exit code.
//
// The position of a message is the number of its line, from 1, in this run of the program.
package stdin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
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

	mu   sync.Mutex
	open map[*result]struct{} // reads that are not settled
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
	left    []result      // what a source has read, and nobody settled, in order
	more    chan struct{} // closed when something was added to left; nil: nobody waits
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

// ask makes sure a request is under way. It returns where the result will be, what closes
// when another source of this process takes it, and what closes when one gives back what it
// had read. That may have happened just before: what is left is to be looked for afterwards.
func (p *pump) ask(c Config, messages, bytes int) (results <-chan result, taken, more <-chan struct{}) {
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
	if p.more == nil {
		p.more = make(chan struct{})
	}
	return p.results, p.taken, p.more
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

// giveBack takes reads that nobody will settle: they are the first to be read again.
func (p *pump) giveBack(rs []result) {
	if len(rs) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.more != nil {
		close(p.more)
		p.more = nil
	}
	p.left = append(p.left, rs...)
	slices.SortFunc(p.left, func(a, b result) int { return cmp.Compare(a.first, b.first) })
}

// again is what was given back, as much of it as there is room for.
func (p *pump) again(messages, bytes int) (now result, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.left) == 0 {
		return result{}, false
	}
	now, rest := p.left[0].divide(messages, bytes)
	if p.left[0] = rest; len(rest.lines) == 0 {
		p.left = p.left[1:]
	}
	return now, true
}

// Open implements connector.Source.
func (s *Source) Open(context.Context) error { return nil }

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return true }

// Close implements connector.Source. What was read and not settled is read again, by whoever
// reads next.
func (s *Source) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := make([]result, 0, len(s.open))
	for r := range s.open {
		left = append(left, *r)
	}
	clear(s.open)
	s.pump.giveBack(left)
	return nil
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(s.config.MaxBatchMessages, math.MaxInt)
	for ctx.Err() == nil {
		results, taken, more := s.pump.ask(s.config, messages, bytes)
		if r, ok := s.pump.again(messages, bytes); ok {
			return s.batch(r)
		}
		select {
		case r := <-results:
			now, rest := r.divide(messages, bytes)
			s.pump.answered(rest)
			return s.batch(now)
		case <-taken:
		case <-more:
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
		return b, s.hold(&r), nil
	case errors.Is(r.err, io.EOF):
		return nil, nil, io.EOF
	case errors.Is(r.err, lines.ErrTooLong):
		r.err = fmt.Errorf("%w; raise max_line_bytes of the stdin source", r.err)
	}
	return nil, nil, fault.New(fault.Fatal, fmt.Errorf("read standard input: %w", r.err))
}

// hold keeps a read until its ack. What was not settled then is kept on, until Close.
func (s *Source) hold(r *result) connector.Ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*result]struct{}{}
	}
	s.open[r] = struct{}{}
	return func(_ context.Context, o event.Outcomes) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, open := s.open[r]; !open {
			return nil // settled before, or left to the next reader
		}
		delete(s.open, r)
		for begin, end := 0, 0; begin < len(o); begin = end {
			for end = begin; end < len(o) && (o[end] == nil) == (o[begin] == nil); {
				end++
			}
			if o[begin] != nil {
				s.open[&result{lines: r.lines[begin:end:end], first: r.first + uint64(begin), at: r.at}] = struct{}{}
			}
		}
		return nil
	}
}
