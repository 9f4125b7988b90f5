package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// Limits of an import.
const (
	maxLine      = 256 << 20 // bytes of a line
	importJobs   = 1000      // jobs of one transaction
	importBytes  = 16 << 20  // bytes of them, or one job
	importBuffer = 1 << 20
)

// Export implements Operator.
func (l Local) Export(ctx context.Context, name string, s Selection, w io.Writer, progress func(int)) (int, error) {
	buf := bufio.NewWriterSize(w, 64<<10)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	n := 0
	err := l.each(ctx, name, s, func(jobs []queue.Job) error {
		for i := range jobs {
			if err := e.Encode(jobOf(&jobs[i], stateOf(s))); err != nil {
				return fmt.Errorf("write the export: %w", err)
			}
			n++
		}
		if progress != nil {
			progress(n)
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	if err := buf.Flush(); err != nil {
		return n, fmt.Errorf("write the export: %w", err)
	}
	return n, nil
}

// Import implements Operator. Jobs are appended in order, some at a time; the error says
// which lines were, so that the rest can be imported.
func (l Local) Import(ctx context.Context, name string, r io.Reader, progress func(int)) (int, error) {
	q, declared := l.declared(name)
	if !declared {
		return 0, requestError{l.unknown(name)}
	}
	in := importer{local: l, name: name, ordered: q.Ordered, progress: progress}
	lines := bufio.NewReaderSize(r, importBuffer)
	for {
		line, err := readLine(lines)
		in.line++
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return in.failed(ctx, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			if err := in.add(ctx, text); err != nil {
				return in.failed(ctx, err)
			}
		}
		if end {
			break
		}
	}
	if err := in.flush(ctx); err != nil {
		return in.failed(ctx, err)
	}
	return in.done, nil
}

// readLine returns the next line; io.EOF comes with the last.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxLine {
			return nil, requestError{fmt.Errorf("the line has more than %d bytes", maxLine)}
		}
	}
}

type importer struct {
	local    Local
	name     string
	ordered  bool
	progress func(int)
	line     int // being read
	upTo     int // last line that was appended
	done     int
	jobs     []queue.Job
	bytes    int
}

func (in *importer) add(ctx context.Context, text []byte) error {
	var j Job
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return requestError{fmt.Errorf("not a message of an export: %w", err)}
	}
	if d.More() {
		return requestError{errors.New("not a message of an export: there is something after the object")}
	}
	job := j.job(in.name, in.ordered, time.Now().UTC())
	if err := job.Check(); err != nil {
		return requestError{err}
	}
	size := len(job.Msg.Data) + len(job.Msg.Raw()) + len(text)
	if len(in.jobs) > 0 && (len(in.jobs) == importJobs || in.bytes+size > importBytes) {
		in.line-- // this one is not part of it
		err := in.flush(ctx)
		in.line++
		if err != nil {
			return err
		}
	}
	in.jobs, in.bytes = append(in.jobs, job), in.bytes+size
	return nil
}

func (in *importer) flush(ctx context.Context) error {
	if len(in.jobs) == 0 {
		return nil
	}
	if err := in.local.Store.Update(ctx, func(tx queue.Tx) error { return tx.Append(in.jobs...) }); err != nil {
		return err
	}
	in.done, in.upTo = in.done+len(in.jobs), in.line
	in.jobs, in.bytes = in.jobs[:0], 0
	if in.progress != nil {
		in.progress(in.done)
	}
	return nil
}

// failed says what was imported when err ended the import. The messages before the line
// at fault are imported as far as that can be done.
func (in *importer) failed(ctx context.Context, err error) (int, error) {
	bad := in.line
	if _, ok := errors.AsType[requestError](err); ok {
		in.line--
		if ferr := in.flush(ctx); ferr != nil {
			err = errors.Join(err, ferr)
		}
		err = fmt.Errorf("line %d: %w", bad, err)
	}
	if in.upTo == 0 {
		return 0, fmt.Errorf("%w (nothing was imported)", err)
	}
	return in.done, fmt.Errorf("%w (%d messages were imported, up to line %d: import the rest with tail -n +%d)", err, in.done, in.upTo, in.upTo+1)
}
