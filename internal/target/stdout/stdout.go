// Package stdout writes messages to standard output, one a line. By default a line shows
// the message's partition key and times beside its payload:
//
//	PartitionKey:%s,TimeCreated:%v,TimePulled:%v,TimeTransformed:%v,Data:%s
//
// with times as Go prints them ("2026-11-20 10:35:00.123 +0000 UTC"); with
// data_only_output it is the payload alone. A batch is one write call, so lines of
// several targets never mix. When the output fails within a line, the next write, by whichever
// target, begins with a line end, so that the torn line stays a line of its own.
package stdout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Config is the HCL of the stdout target.
type Config struct {
	// Print the payload alone, without partition key and times (default false).
	DataOnlyOutput bool `hcl:"data_only_output,optional"`
	// How messages are grouped into writes. A batch leaves as soon as nothing more waits
	// to join it, so a larger max_batch_messages costs no time.
	Batching *connector.Batching `hcl:"batching,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	return connector.Under("batching", c.Batching.Validate())
}

// Entry is the stdout target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "stdout", Summary: "Writes messages to standard output, one a line.", Stability: connector.Stable, Whole: true,
	Default: func() Config {
		return Config{Batching: &connector.Batching{MaxBatchMessages: 500, MaxBatchBytes: 1 << 20, MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 1, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		if d.Stdout != nil && d.Kept != nil {
			if o, ok := d.Kept("stdout", func() any { return &output{Writer: d.Stdout} }).(*output); ok {
				return on(o, c), nil
			}
		}
		return on(&standard, c), nil
	},
})

// output is what targets write to, all of those of the process for one output.
type output struct {
	io.Writer
	torn atomic.Bool // the last write failed within a line
}

var standard = output{Writer: os.Stdout}

// New returns a target that writes to w, with one Write call a batch.
func New(w io.Writer, c Config) *Target { return on(&output{Writer: w}, c) }

func on(o *output, c Config) *Target {
	l := c.Batching.Limits()
	l.Eager = true
	return &Target{out: o, limits: l, dataOnly: c.DataOnlyOutput}
}

// Target writes to standard output.
type Target struct {
	out      *output
	limits   connector.Limits
	dataOnly bool
	buffers  sync.Pool // *buffer
}

var _ connector.Limiter = (*Target)(nil)

// buffer is the text of one batch, and where each message ends in it.
type buffer struct {
	text []byte
	ends []int
	// The last time printed in each place: messages that are read together share theirs.
	times [3]stamp
}

// stamp is a time and how it is printed.
type stamp struct {
	at   time.Time
	text []byte
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

// Open implements connector.Target.
func (t *Target) Open(context.Context) error { return nil }

// Close implements connector.Target.
func (t *Target) Close(context.Context) error { return nil }

// Write implements connector.Target.
func (t *Target) Write(_ context.Context, b event.Batch) error {
	buf, _ := t.buffers.Get().(*buffer)
	if buf == nil {
		buf = new(buffer)
	}
	defer t.buffers.Put(buf)
	buf.text, buf.ends = buf.text[:0], buf.ends[:0]
	if t.out.torn.Swap(false) {
		buf.text = append(buf.text, '\n') // ends the part of a line that a failed write left
	}
	for _, m := range b {
		if t.dataOnly {
			buf.text = append(buf.text, m.Data...)
		} else {
			buf.line(m)
		}
		buf.text = append(buf.text, '\n')
		buf.ends = append(buf.ends, len(buf.text))
	}
	n, err := t.out.Write(buf.text)
	if err == nil {
		return nil
	}
	if n > 0 && buf.text[n-1] != '\n' {
		t.out.torn.Store(true)
	}
	return partly(buf.ends, n, classify(err))
}

// line appends the default line of m.
func (b *buffer) line(m *event.Message) {
	b.text = append(b.text, "PartitionKey:"...)
	b.text = append(b.text, m.PartitionKey()...)
	b.text = append(b.text, ",TimeCreated:"...)
	b.when(0, m.Times.Created)
	b.text = append(b.text, ",TimePulled:"...)
	b.when(1, m.Times.Read)
	b.text = append(b.text, ",TimeTransformed:"...)
	b.when(2, m.Times.Transformed)
	b.text = append(b.text, ",Data:"...)
	b.text = append(b.text, m.Data...)
}

func (b *buffer) when(place int, t time.Time) {
	s := &b.times[place]
	if s.text == nil || t != s.at {
		s.at = t
		s.text = t.AppendFormat(s.text[:0], "2006-01-02 15:04:05.999999999 -0700 MST")
	}
	b.text = append(b.text, s.text...)
}

// partly says which messages did not fit into the n bytes that were written.
func partly(ends []int, n int, err error) error {
	failed := map[int]error{}
	for i, end := range ends {
		if end > n {
			failed[i] = err
		}
	}
	if len(failed) == len(ends) {
		return err
	}
	return &connector.Partial{Failed: failed}
}

func classify(err error) error {
	err = fmt.Errorf("write to standard output: %w", err)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF) {
		return fault.New(fault.Fatal, err)
	}
	return err
}
