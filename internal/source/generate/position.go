package generatesource

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// position is the content of a position file.
type position struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Seed    int    `json:"seed"`
	// Next is the first message that is not settled yet.
	Next int64 `json:"next"`
}

func (s *Source) position(next int64) position {
	return position{Version: 1, Kind: s.config.Kind, Seed: s.config.Seed, Next: next}
}

// load reads the position file; one that is not there begins with the first message.
func (s *Source) load() (position, error) {
	path := s.config.PositionFile
	p := s.position(0)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return p, fmt.Errorf("make the directory of position_file: %w", err)
		}
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read position_file: %w", err)
	}
	var got position
	if err := json.Unmarshal(text, &got); err != nil {
		return p, fmt.Errorf("read position_file %s: %w; correct position_file, or delete the file to begin with the first message", path, err)
	}
	if want := s.position(got.Next); got != want || got.Next < 0 {
		return p, fmt.Errorf("position_file %s is of version %d, kind %q and seed %d, not of version 1, %q and %d; set another position_file, or delete the file to begin with the first message",
			path, got.Version, got.Kind, got.Seed, want.Kind, want.Seed)
	}
	return got, nil
}

// save replaces the file at path; after a crash it has the old or the new content, and it is
// durable when save returns.
func (p position) save(path string) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = replace(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save position_file %s: %w", path, err)
	}
	return nil
}

func replace(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // best effort: the next save writes it anew
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
