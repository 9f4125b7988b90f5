//go:build unix && !aix && !solaris

package directory

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks an open file until it is closed or the process ends; ErrLocked when somebody
// else has.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	if err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// unlock comes before closing: a child that is just being started has the file open too,
// until it becomes its own program.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// openLock opens a file to lock it.
func openLock(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o640)
}

// syncFolder makes the names in a folder survive power loss.
func syncFolder(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFile makes the content of a file survive power loss.
func syncFile(root *os.Root, name string) error { return syncFolder(root, name) }

// withoutLinks reports whether an error of link means that the file system has none.
func withoutLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EOPNOTSUPP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}
