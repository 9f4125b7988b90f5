package file

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// position is how far one file was read and delivered.
type position struct {
	Path string `json:"path"`
	fileID
	// Offset is in the content: of a compressed file, in what it decompresses to.
	Offset int64  `json:"offset"`
	Prefix prefix `json:"prefix"`
	// Generation is when the content was replaced, in unix ns; 0 when it never was.
	Generation int64 `json:"generation,omitzero"`
}

// prefix is the digest of a file's first bytes, by which it is told from another that has
// its inode.
type prefix struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// prefixBytes is how many bytes a prefix covers, once the file has them.
const prefixBytes = 1024

// prefixOf is the prefix of f, of at most n bytes.
func prefixOf(f *os.File, n int) (prefix, error) {
	buf := make([]byte, n)
	got, err := readFullAt(f, buf)
	if err != nil {
		return prefix{}, err
	}
	sum := sha256.Sum256(buf[:got])
	return prefix{got, hex.EncodeToString(sum[:])}, nil
}

// still reports whether f begins with what p was made of.
func (p prefix) still(f *os.File) bool {
	now, err := prefixOf(f, p.Bytes)
	return err == nil && now == p
}

// positionFile is the content of a position file.
type positionFile struct {
	Version int        `json:"version"`
	Files   []position `json:"files"`
}

// positions is what a position file holds, and how it is replaced.
type positions struct {
	path string

	mu    sync.Mutex
	files map[fileID]position
}

// newPositions holds nothing yet. Without a path it is never saved.
func newPositions(path string) *positions {
	return &positions{path: path, files: map[fileID]position{}}
}

// loadPositions reads the file at path; one that is not there holds nothing.
func loadPositions(path string) (*positions, error) {
	ps := newPositions(path)
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ps, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read position file: %w", err)
	}
	var content positionFile
	if err := json.Unmarshal(src, &content); err != nil || content.Version != 1 {
		return nil, fmt.Errorf("read position file %s: it is not one of this version (%w); correct position_file, or delete the file to read everything from the beginning", path, errors.Join(err, fmt.Errorf("version %d", content.Version)))
	}
	for _, p := range content.Files {
		if p.Offset < 0 || p.Prefix.Bytes < 0 || p.Prefix.Bytes > prefixBytes {
			return nil, fmt.Errorf("read position file %s: the position of %s can never have been saved; delete the file to read everything from the beginning", path, p.Path)
		}
		ps.files[p.fileID] = p
	}
	return ps, nil
}

func (ps *positions) get(id fileID) (position, bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, ok := ps.files[id]
	return p, ok
}

func (ps *positions) set(p position) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.files[p.fileID] = p
}

func (ps *positions) forget(id fileID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.files, id)
}

func (ps *positions) all() []position {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	all := make([]position, 0, len(ps.files))
	for _, p := range ps.files {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b position) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Inode, b.Inode))
	})
	return all
}

// save replaces the position file; it is durable when save returns.
func (ps *positions) save() error {
	if ps.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(positionFile{Version: 1, Files: ps.all()}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode positions: %w", err)
	}
	if err := replace(ps.path, append(text, '\n')); err != nil {
		return fmt.Errorf("save position file: %w", err)
	}
	return nil
}

// replace writes a file as a whole: after a crash it has the old or the new content.
func replace(path string, content []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return err
}

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return !s.config.Follow }

// Exclusive implements connector.Exclusive: positions have one owner.
func (s *Source) Exclusive() []string {
	if s.config.PositionFile == "" {
		return nil
	}
	return []string{"position file " + s.config.PositionFile}
}
