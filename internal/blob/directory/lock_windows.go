package directory

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// farAway is where the byte is that a lock is on: locks keep others from reading what they
// cover, and no file has that byte.
var farAway = windows.Overlapped{Offset: 0xfffffffe, OffsetHigh: 0x7ffffffe}

// tryLock locks an open file until it is closed or the process ends; ErrLocked when somebody
// else has.
func tryLock(f *os.File) error {
	at := farAway
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}

func unlock(f *os.File) error {
	at := farAway
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at)
}

// openLock opens a file to lock it. Older versions of weir open the lock of a dataset for
// nobody else to open.
func openLock(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o640)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil, ErrLocked
	}
	return f, err
}

// syncFolder has nothing to do: the file system writes names with the files.
func syncFolder(*os.Root, string) error { return nil }

// syncFile makes the content of a file survive power loss.
func syncFile(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// withoutLinks reports whether an error of a link means that the file system has none.
func withoutLinks(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED)
}
