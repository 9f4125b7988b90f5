package failures

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/fault"
)

// JournalOf is the name of the journal of a file of rows.
func JournalOf(file string) string { return file + ".replayed" }

// journal is which rows of a file were replayed: a file of one identity a line, which is only
// appended to. A last line that a crash tore names no row, so that its row is replayed again.
type journal struct {
	name string
	done map[identity]struct{}

	mu   sync.Mutex
	file *os.File // nil when it is only read
	text []byte
}

// readJournal reads a journal; one that is not there is empty.
func readJournal(name string) (*journal, error) {
	j := &journal{name: name, done: map[identity]struct{}{}}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read the journal of replayed events: %w", err))
	}
	err = j.load(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal %s: %w", name, err)
	}
	return j, nil
}

func (j *journal) load(r io.Reader) error {
	s := bufio.NewScanner(r)
	for s.Scan() {
		if id, ok := parseIdentity(s.Text()); ok {
			j.done[id] = struct{}{}
		}
	}
	return s.Err()
}

// parseIdentity reads the String form of an identity.
func parseIdentity(text string) (identity, bool) {
	offset, hash, ok := strings.Cut(text, "-")
	if !ok || len(hash) != 16 {
		return identity{}, false
	}
	o, err1 := strconv.ParseInt(offset, 10, 64)
	h, err2 := strconv.ParseUint(hash, 16, 64)
	return identity{o, h}, err1 == nil && err2 == nil
}

// Replayed is which rows of a file were replayed, as its journal says; none when there is no
// journal.
func Replayed(journal string) (has func(id string) bool, n int, err error) {
	j, err := readJournal(journal)
	if err != nil {
		return nil, 0, err
	}
	return func(text string) bool {
		id, ok := parseIdentity(text)
		return ok && j.has(id)
	}, len(j.done), nil
}

// openJournal opens a journal to append to it. Only one process may.
func openJournal(name string) (*journal, error) {
	explain := func(err error) error {
		return fault.New(fault.Setup, fmt.Errorf("open the journal of replayed events: %w; name one elsewhere with --journal FILE", err))
	}
	_, missing := os.Stat(name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, explain(err)
	}
	j := &journal{name: name, done: map[identity]struct{}{}, file: f}
	if err := lock(f); err != nil {
		j.file = nil
		return nil, errors.Join(fault.New(fault.Setup, fmt.Errorf("open %s: another replay of this file runs (%w): wait for its end", name, err)), f.Close())
	}
	if err := j.begin(missing != nil); err != nil {
		return nil, errors.Join(explain(err), j.Close())
	}
	return j, nil
}

// begin reads what is in the journal and ends a torn line.
func (j *journal) begin(created bool) error {
	if created {
		return syncDirectory(filepath.Dir(j.name))
	}
	if err := j.load(j.file); err != nil {
		return err
	}
	size, err := j.file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	var last [1]byte
	if _, err := j.file.ReadAt(last[:], size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = j.file.Write([]byte{'\n'})
	}
	return err
}

func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// has reports whether a row was replayed before the journal was opened.
func (j *journal) has(id identity) bool {
	if j == nil {
		return false
	}
	_, ok := j.done[id]
	return ok
}

// add notes rows. They survive the end of the process, and after Close that of the machine.
func (j *journal) add(ids []identity) error {
	if j == nil || len(ids) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = j.text[:0]
	for _, id := range ids {
		j.text = append(append(j.text, id.String()...), '\n')
	}
	if j.file == nil {
		return fmt.Errorf("note replayed events in %s: it is closed", j.name)
	}
	if _, err := j.file.Write(j.text); err != nil {
		return fmt.Errorf("note replayed events: %w", err)
	}
	return nil
}

// Close brings the journal to the disk.
func (j *journal) Close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	err := f.Sync()
	unlock(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("close the journal of replayed events: %w", err)
	}
	return nil
}
