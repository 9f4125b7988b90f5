package file

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// born is when the file was made, in unix ns; 0 where the file system does not tell. Two files
// that had one inode one after the other differ in it.
func born(f *os.File) int64 {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}

// nameOf is where an open file is now; empty when it is nowhere.
func nameOf(f *os.File) string {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil || strings.HasSuffix(name, " (deleted)") || !strings.HasPrefix(name, "/") {
		return ""
	}
	return name
}

// dataFrom passes over a hole at an offset: the next offset that may hold something else than
// NULs, and false when there is none.
func dataFrom(f *os.File, offset int64) (int64, bool) {
	at, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	switch err {
	case nil:
		return at, true
	case unix.ENXIO:
		return 0, false
	}
	return offset, true // it does not say
}

// readBehind reads from an offset into p, and what lies before it into behind, at one moment.
// It returns how much of both it has read.
func readBehind(f *os.File, behind, p []byte, offset int64) (int, error) {
	for {
		n, err := unix.Preadv(int(f.Fd()), [][]byte{behind, p}, offset-int64(len(behind)))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, &os.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		return n, nil
	}
}
