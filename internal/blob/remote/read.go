package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// reader reads a version of an object, and goes on where it was when an answer is cut.
type reader struct {
	b         *Bucket
	ctx       context.Context
	name, key string
	version   blob.Version
	at, end   int64 // of the object
	body      io.ReadCloser
	failures  int // since a byte was read
	closed    bool
}

var (
	errNegative = errors.New("a negative place in an object")
	errClosed   = errors.New("the reader is closed")
)

// Open implements blob.Bucket.
func (b *Bucket) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, b.failed(ctx, "read", name, fault.New(fault.Setup, errNegative))
	}
	r := &reader{b: b, ctx: ctx, name: name, key: b.prefix + name, at: offset}
	_, err := b.repeat(ctx, func() error {
		if length == 0 {
			_, err := b.store.Head(ctx, r.key)
			return err
		}
		body, stat, err := b.store.Get(ctx, r.key, offset, length, "")
		if err != nil {
			return err
		}
		r.body, r.version, r.end = body, stat.Version, stat.Size
		if length > 0 && length < stat.Size-offset {
			r.end = offset + length
		}
		return nil
	})
	if err != nil {
		return nil, b.failed(ctx, "read", name, err)
	}
	return r, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		switch {
		case r.closed:
			return 0, r.b.failed(r.ctx, "read", r.name, errClosed)
		case r.at >= r.end:
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if r.body == nil {
			if err := r.reopen(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.at)])
		r.at += int64(n)
		if n > 0 {
			r.failures = 0
		}
		if err != nil && r.at < r.end {
			if err := r.broken(err); err != nil {
				return n, err
			}
		}
		if n > 0 && r.at == r.end {
			return n, r.check(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// check reads the end of an answer, where its checksum is compared.
func (r *reader) check(err error) error {
	if err == nil {
		_, err = r.body.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return r.b.failed(r.ctx, "read", r.name, fmt.Errorf("at its end: %w", err))
}

// broken lets go of an answer that was cut; it is an error when that happens again and again.
func (r *reader) broken(err error) error {
	_ = r.body.Close()
	r.body = nil
	if r.failures++; r.failures < r.b.o.Patience.Tries && r.ctx.Err() == nil {
		return nil
	}
	return r.b.failed(r.ctx, "read", r.name, fmt.Errorf("from %d on: %w", r.at, err))
}

func (r *reader) reopen() error {
	_, err := r.b.repeat(r.ctx, func() (err error) {
		r.body, _, err = r.b.store.Get(r.ctx, r.key, r.at, r.end-r.at, r.version)
		return err
	})
	if err == nil {
		return nil
	}
	r.body = nil
	if errors.Is(err, ErrCondition) {
		err = fmt.Errorf("from %d on: %w", r.at, blob.ErrChanged)
	}
	return r.b.failed(r.ctx, "read", r.name, err)
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.closed = true
	if r.body == nil {
		return nil
	}
	_ = r.body.Close() // what is left of the answer is not wanted
	r.body = nil
	return nil
}
