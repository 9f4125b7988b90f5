package lake

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// committed is what this process has put into the lake.
type committed struct {
	files, rows, bytes atomic.Int64
	at, newest         atomic.Int64 // ns since 1970; 0: never
}

// add notes a file that was committed.
func (c *committed) add(rows, bytes int64, last time.Time) {
	c.files.Add(1)
	c.rows.Add(rows)
	c.bytes.Add(bytes)
	c.at.Store(time.Now().UnixNano())
	for n := last.UnixNano(); ; {
		if was := c.newest.Load(); n <= was || c.newest.CompareAndSwap(was, n) {
			return
		}
	}
}

// Measure implements meter.Measured.
func (t *Target) Measure(emit meter.Emit) {
	c := &t.committed
	emit(meter.LakeFiles, float64(c.files.Load()))
	emit(meter.LakeRows, float64(c.rows.Load()))
	emit(meter.LakeBytes, float64(c.bytes.Load()))
	for d, ns := range map[*meter.Definition]int64{meter.LakeCommit: c.at.Load(), meter.LakeNewest: c.newest.Load()} {
		if ns != 0 {
			emit(d, float64(ns)/1e9)
		}
	}
}

// counting counts what is written.
type counting struct {
	to io.Writer
	n  int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// counted is a write of the part's file that notes how large it is.
func (p *part) counted(write func(io.Writer) error) func(io.Writer) error {
	return func(out io.Writer) error {
		c := counting{to: out}
		defer func() { p.bytes = c.n }()
		return write(&c)
	}
}
