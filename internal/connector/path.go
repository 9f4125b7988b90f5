package connector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Path is where a name in a config leads: a relative one means from dir, the directory of the
// config file. A config without a directory of its own, which is environment variables or
// nothing, has dir "" and means the working directory.
func Path(dir, name string) string {
	if name == "" || dir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// File is [Path] of what has to be there, which the attribute called field names. The error
// is for a name, or a pattern of names, that leads to nothing from dir and to something from
// the working directory: a config that was written for a program that looks there says now
// that it means something else, and never reads or makes another file in silence.
func File(dir, field, name string) (string, error) {
	at := Path(dir, name)
	if at == name || exists(at) || !exists(name) || same(filepath.Clean(at), filepath.Clean(name)) {
		return at, nil
	}
	here, herr := filepath.Abs(name)
	there, terr := filepath.Abs(at)
	if err := errors.Join(herr, terr); err != nil {
		return at, fmt.Errorf("find %s: %w", at, err)
	}
	write := here
	if beside, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(beside) {
		write = filepath.ToSlash(beside)
	}
	return at, Blame(field, fmt.Sprintf("write %s = %q for the one that is there, or the whole path of another, as in %q", last(field), write, there),
		fmt.Errorf("%s is not there, and %s is: a relative path means from the directory of the config file, not from the working directory", there, here))
}

// ReadFile reads a file that the attribute called field names.
func ReadFile(dir, field, name string) ([]byte, error) {
	path, err := File(dir, field, name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// exists reports whether a name, or a pattern of names, leads to something, as far as can be
// told.
func exists(name string) bool {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	names, err := filepath.Glob(name)
	return err == nil && len(names) > 0
}

// same reports whether two paths are one, seen from the working directory.
func same(a, b string) bool {
	a, aerr := filepath.Abs(a)
	b, berr := filepath.Abs(b)
	return aerr == nil && berr == nil && a == b
}

func last(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[i+1:]
		}
	}
	return path
}

// Path is where a name in the config leads; see the function [Path].
func (d Deps) Path(name string) string { return Path(d.Dir, name) }

// File is where a name in the config leads to what has to be there; see the function [File].
func (d Deps) File(field, name string) (string, error) { return File(d.Dir, field, name) }

// ReadFile reads a file that the config names; see the function [ReadFile].
func (d Deps) ReadFile(field, name string) ([]byte, error) { return ReadFile(d.Dir, field, name) }

// FileLocation is the [Located] of what reads or writes the file at path.
func FileLocation(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return "file " + path
}

// LookForFolder says what keeps a folder from being used, as far as that is seen without changing
// anything: it is missing, where it will not be made, or something else has its name, or the name
// of one above it.
func LookForFolder(dir string, made bool) error {
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		switch {
		case err == nil && fi.IsDir():
			return nil
		case err == nil && at == dir:
			return fmt.Errorf("%s is no directory", dir)
		case err == nil:
			return fmt.Errorf("%s cannot be a directory: %s is none", dir, at)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("look for the directory %s: %w", dir, err)
		case !made && errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("there is no directory %s", dir)
		case filepath.Dir(at) == at:
			return nil
		}
	}
}

// TryFolder tries whether files can be created in a folder: by creating one, and taking it away
// again. Of a folder that will be made, the nearest one above it that is there has to allow it.
func TryFolder(dir string, made bool) error {
	for made && !exists(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".weir-check-")
	if err != nil {
		return fmt.Errorf("try to create a file in %s: %w", dir, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
