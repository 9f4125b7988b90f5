package catalog

import (
	"errors"
	"syscall"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked")

const sharingViolation = syscall.Errno(32)

// fileLock is a file that is open without sharing: nobody else can open it, and the system
// closes it when the process ends.
type fileLock struct{ handle syscall.Handle }

func lockFile(path string) (*fileLock, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, sharingViolation) {
		err = errLocked
	}
	if err != nil {
		return nil, err
	}
	return &fileLock{h}, nil
}

func (l *fileLock) release() error { return syscall.CloseHandle(l.handle) }

// syncFolder has nothing to do: the file system writes names with the files.
func syncFolder(string) error { return nil }
