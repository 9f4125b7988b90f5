package file

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/weirdata/weir/internal/connector"
)

// behind is what Lag must know of the files, which belong to Read.
type behind struct {
	todo  []string // files that are not open yet
	files map[*tail]progress
}

// progress is how far a file has been read.
type progress struct {
	partition string
	f         *os.File
	offset    int64 // in the file: of a compressed one, in what it is compressed to
}

// note says how far t has been read.
func (s *Source) note(t *tail) {
	at, partition := t.raw.offset, s.partitionOf(t.id, t.birth)
	if t.format == plain {
		at = t.offset() // what the reader has in its memory is not read yet
	}
	if t.st != nil {
		partition = t.st.Partition
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind.files == nil {
		s.behind.files = map[*tail]progress{}
	}
	s.behind.files[t] = progress{partition, t.f, at}
}

// forget says that t is not read any more.
func (s *Source) forget(t *tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.behind.files, t)
}

// noteTodo says which files are left to open.
func (s *Source) noteTodo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind.todo = s.todo
}

// Lag implements connector.Lagger: the bytes of the files that were not read.
func (s *Source) Lag(ctx context.Context) ([]connector.Lag, error) {
	s.mu.Lock()
	todo := s.behind.todo
	files := make([]progress, 0, len(s.behind.files))
	for _, p := range s.behind.files {
		files = append(files, p)
	}
	s.mu.Unlock()
	lags := make([]connector.Lag, 0, len(files)+len(todo))
	add := func(partition string, bytes int64) {
		lags = append(lags, connector.Lag{Stream: s.config.Path, Partition: partition, Messages: connector.Unknown, Bytes: max(bytes, 0), Age: connector.Unknown})
	}
	for _, p := range files {
		fi, err := p.f.Stat()
		if errors.Is(err, os.ErrClosed) {
			continue // Read is done with it
		}
		if err != nil {
			return nil, err
		}
		add(p.partition, fi.Size()-p.offset)
	}
	for _, name := range todo {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		fi, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		partition := s.partitionOf(identify(name, fi), 0)
		if st := s.book.find(identify(name, fi)); st != nil {
			partition = st.Partition
		}
		add(partition, fi.Size())
	}
	return lags, nil
}
