package failures

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lines"
)

// maxLine is the longest line that is read, in bytes.
const maxLine = 256 << 20

// Skipped is what a reading left out.
type Skipped struct {
	// Other counts what is no failed event, Damaged rows that cannot be read, the first of
	// them with its reason.
	Other, Damaged int
	First          error
}

// Add counts something that [Parse] returned err for.
func (s *Skipped) Add(err error, where string) {
	s.add(err, func() string { return where })
}

func (s *Skipped) add(err error, where func() string) {
	if errors.Is(err, ErrNotFailure) {
		s.Other++
		return
	}
	if s.Damaged++; s.First == nil {
		s.First = fmt.Errorf("%s: %w", where(), err)
	}
}

// reader reads the failures of a file that were in it when it was opened. Files compressed
// with gzip or zstd are recognised by how they begin.
type reader struct {
	name  string
	lines *lines.Reader
	close []func() error
	batch [][]byte
	at    int64 // offset of the next line in batch
	line  int64
	skip  *Skipped
}

// open opens the file; "-" is in.
func open(name string, in io.Reader, skip *Skipped) (_ *reader, err error) {
	r := &reader{name: name, skip: skip}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	stream := in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.New(fault.Setup, fmt.Errorf("read failed events: %w", err))
		}
		r.close = append(r.close, f.Close)
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, fault.New(fault.Setup, fmt.Errorf("read failed events: %s is a directory: name a file in it", name))
		}
		stream = f
		if info.Mode().IsRegular() {
			stream = io.LimitReader(f, info.Size())
		}
	}
	if stream, err = r.decompress(stream); err != nil {
		return nil, fmt.Errorf("read failed events from %s: %w", name, err)
	}
	r.lines = lines.NewReader(stream, maxLine)
	return r, nil
}

func (r *reader) decompress(stream io.Reader) (io.Reader, error) {
	b := bufio.NewReader(stream)
	magic, _ := b.Peek(4) // a shorter file is not compressed
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		r.close = append(r.close, z.Close)
		return z, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b)
		if err != nil {
			return nil, err
		}
		r.close = append(r.close, func() error { z.Close(); return nil })
		return z, nil
	}
	return b, nil
}

// identity is how a row of a file is known again.
type identity struct {
	offset int64
	hash   uint64
}

func (i identity) String() string { return fmt.Sprintf("%d-%016x", i.offset, i.hash) }

func identityOf(offset int64, line []byte) identity {
	h := fnv.New64a()
	_, _ = h.Write(line) // it never fails
	return identity{offset, h.Sum64()}
}

// next is the next failure; io.EOF when there is no more.
func (r *reader) next(ctx context.Context) (*Failure, identity, error) {
	for {
		for len(r.batch) == 0 {
			if ctx.Err() != nil {
				return nil, identity{}, context.Cause(ctx)
			}
			r.at = r.lines.Offset()
			var err error
			// One at a time, so that the offset is that of the line.
			if r.batch, err = r.lines.Next(r.batch[:0], 1, 0); err != nil {
				if err != io.EOF { //nolint:errorlint // a wrapped io.EOF is a stream that broke
					err = fault.New(fault.Setup, fmt.Errorf("read failed events from %s: %w", r.name, err))
				}
				return nil, identity{}, err
			}
		}
		line, at := r.batch[0], r.at
		r.batch = r.batch[1:]
		r.line++
		f, err := Parse(line)
		if err != nil {
			r.skip.add(err, func() string { return fmt.Sprintf("%s, line %d", r.name, r.line) })
			continue
		}
		id := identityOf(at, line)
		f.ID = id.String()
		return f, id, nil
	}
}

// Close closes the file.
func (r *reader) Close() error {
	var errs []error
	for len(r.close) > 0 {
		last := len(r.close) - 1
		errs = append(errs, r.close[last]())
		r.close = r.close[:last]
	}
	return errors.Join(errs...)
}

// ScanFile calls fn with each failure that is in a file, in its order; "-" is in. A file
// that is not there has none, unless it must be there.
func ScanFile(ctx context.Context, name string, in io.Reader, fn func(*Failure) error, must bool) (s Skipped, err error) {
	r, err := open(name, in, &s)
	if !must && errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		f, _, err := r.next(ctx)
		if err == io.EOF { //nolint:errorlint // see next
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if err := fn(f); err != nil {
			return s, err
		}
	}
}
