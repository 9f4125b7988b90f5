package file

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirdata/weir/internal/connector"
)

var (
	_ connector.Inspector = (*Source)(nil)
	_ connector.Located   = (*Source)(nil)
)

// Inspect implements connector.Inspector.
func (s *Source) Inspect() error {
	if err := s.inspectPositions(); err != nil {
		return err
	}
	names, err := matches(s.config.Path)
	if err != nil {
		return err
	}
	if name := s.config.Path; len(names) == 1 && names[0] == name {
		if fi, err := os.Stat(name); err == nil && irregular(fi) != "" {
			what, fix := misfit(fi)
			return connector.Blame("path", fix, fmt.Errorf("%s cannot be read: %s", name, what))
		}
	}
	if len(names) == 0 && !s.config.Follow {
		return connector.Blame("path", "correct it, create the file, or set follow = true to wait for one", fmt.Errorf("no file matches path %q", s.config.Path))
	}
	return nil
}

func (s *Source) inspectPositions() error {
	path := s.config.PositionFile
	if path == "" {
		return nil
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return connector.Blame("position_file", "name a file", fmt.Errorf("%s is not a regular file", path))
	}
	if err := connector.LookForFolder(filepath.Dir(path), false); err != nil {
		return connector.Blame("position_file", "create it, or name a file in one that is there", err)
	}
	return nil
}

// Location implements connector.Located.
func (s *Source) Location() string { return connector.FileLocation(s.config.Path) }
