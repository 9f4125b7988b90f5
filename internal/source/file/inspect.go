package file

import (
	"fmt"

	"github.com/weirdata/weir/internal/connector"
)

var (
	_ connector.Inspector = (*Source)(nil)
	_ connector.Located   = (*Source)(nil)
)

// Inspect implements connector.Inspector.
func (s *Source) Inspect() error {
	if s.config.Follow {
		return nil
	}
	names, err := matches(s.config.Path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return connector.Blame("path", "correct it, create the file, or set follow = true to wait for one", fmt.Errorf("no file matches path %q", s.config.Path))
	}
	return nil
}

// Location implements connector.Located.
func (s *Source) Location() string { return connector.FileLocation(s.config.Path) }
