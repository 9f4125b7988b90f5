package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Seek implements connector.Seeker. The content of a partition is found wherever its file is now,
// also as what it was compressed to.
func (s *Source) Seek(_ context.Context, r connector.Range) (connector.Replay, error) {
	first, ok1 := offsetOf(r.First)
	last, ok2 := offsetOf(r.Last)
	switch {
	case r.Stream != s.config.Path:
		return nil, absent(r, "this source reads "+s.config.Path)
	case !ok1 || !ok2 || last < first:
		return nil, absent(r, "it ends before it begins, or is none of a file")
	case s.book == nil:
		return nil, fault.New(fault.Setup, errors.New("seek in files: the source is not open"))
	}
	t, st, err := s.holding(r.Partition)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, absent(r, "the file is not there any more, or has another content now")
	}
	// The replay is a source of its own, of one file and nothing that is kept.
	own := &Source{config: s.config, log: s.log, poll: s.poll, grace: s.grace, book: newBook(""), told: map[string]string{}}
	own.config.Follow = false
	t.follow, t.raw.follow = false, false
	if t.format, err = detect(t.f, false); err == nil {
		err = begins(t, first)
	}
	if err != nil {
		t.close()
		return nil, absent(r, err.Error())
	}
	t.st = &state{Partition: st.Partition, fileID: t.id, Packed: t.format != plain, Prefix: st.Prefix}
	return &replay{source: own, t: t, st: t.st, r: r, last: last}, nil
}

// offsetOf is the offset of a position.
func offsetOf(p connector.Position) (int64, bool) {
	if len(p.Bytes) != 8 || p.Sub != 0 {
		return 0, false
	}
	at := int64(binary.BigEndian.Uint64(p.Bytes))
	return at, at >= 0
}

func absent(r connector.Range, why string) error {
	return fault.New(fault.Invalid, fmt.Errorf("read a range of %s, partition %s: it is not there: %s", r.Stream, r.Partition, why))
}

// holding opens the file that has the content of a partition; none where there is none.
func (s *Source) holding(partition string) (*tail, state, error) {
	if st, ok := s.book.partition(partition); ok {
		if st.Gone != 0 {
			return nil, st, nil
		}
		path, _ := find(&st, map[string][]fs.DirEntry{}, watch{size: -1})
		if path == "" {
			return nil, st, nil
		}
		t, err := openTail(path, false, s.config.MaxLineBytes)
		if err != nil {
			return nil, st, missing(err)
		}
		if same, err := still(t, &st); err != nil || !same {
			t.close()
			return nil, st, err
		}
		return t, st, nil
	}
	names, err := s.matches()
	if err != nil {
		return nil, state{}, err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		if beside, err := filepath.Glob(filepath.Join(escaped(filepath.Dir(name)), "*")); err == nil && !dirs[filepath.Dir(name)] {
			dirs[filepath.Dir(name)] = true
			names = append(names, beside...)
		}
	}
	for _, name := range names {
		t, err := openTail(name, false, s.config.MaxLineBytes)
		if err != nil {
			continue
		}
		if s.partitionOf(t.id, t.birth) == partition && s.book.find(t.id) == nil {
			return t, state{Partition: partition}, nil
		}
		t.close()
	}
	return nil, state{}, nil
}

// escaped is a directory as a pattern that means it alone.
func escaped(dir string) string {
	var out []byte
	for i := range len(dir) {
		if c := dir[i]; c == '*' || c == '?' || c == '[' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, dir[i])
	}
	return string(out)
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// still reports whether t has the content of st, as far as that was read.
func still(t *tail, st *state) (bool, error) {
	if !alike(st.Birth, t.birth) || !st.Prefix.begins(t.f) {
		return false, nil
	}
	form, err := detect(t.f, false)
	if err != nil || form != plain {
		return err == nil, err
	}
	at, tail := st.Offset, st.Tail
	if st.read > at {
		at, tail = st.read, digestOf(st.behind)
	}
	behind, err := before(t.f, at)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil && tail.ends(behind), err
}

// begins has t begin where a line does.
func begins(t *tail, at int64) error {
	t.start = at
	if t.format == plain {
		behind, err := before(t.f, at)
		if err != nil {
			return err
		}
		t.behind = behind
	}
	if at == 0 {
		return nil
	}
	if err := t.begin(); err != nil {
		return err
	}
	if n := len(t.behind); n == 0 || t.behind[n-1] != '\n' && t.behind[n-1] != 0 {
		return errors.New("no line begins at its first position")
	}
	return nil
}

// replay reads lines, to the one at last.
type replay struct {
	source *Source
	t      *tail // nil after Close
	st     *state
	r      connector.Range
	last   int64
	ended  bool
}

// Read implements connector.Replay.
func (p *replay) Read(ctx context.Context, room connector.Room) (event.Batch, error) {
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case p.ended:
		return nil, io.EOF
	case p.t == nil:
		return nil, errClosed
	}
	b, c := p.source.batch(p.t, room)
	switch {
	case len(p.source.failed) > 0:
		return nil, fault.New(fault.Invalid, errors.Join(p.source.failed...))
	case len(b) == 0:
		return nil, absent(p.r, fmt.Sprintf("the file ends at byte %d", p.t.offset()))
	case c.st != p.st:
		return nil, absent(p.r, "the file was replaced while it was read")
	}
	for i, e := range c.at {
		switch {
		case e.from == p.last:
			p.ended = true
			return b[:i+1], nil
		case e.from > p.last:
			return nil, absent(p.r, "no line begins at its last position")
		}
	}
	return b, nil
}

// Close implements connector.Replay.
func (p *replay) Close() error {
	if p.t != nil {
		p.t.close()
		p.t = nil
	}
	return nil
}
