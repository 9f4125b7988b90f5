//go:build !linux

package file

import (
	"errors"
	"io"
	"os"
)

// born is when the file was made, where that is known.
func born(*os.File) int64 { return 0 }

// nameOf is where an open file is now, where that is known.
func nameOf(*os.File) string { return "" }

// dataFrom passes over a hole, where those are known.
func dataFrom(_ *os.File, offset int64) (int64, bool) { return offset, true }

// readBehind reads what lies before an offset into behind, and from there on into p. It returns
// how much of both it has read.
func readBehind(f *os.File, behind, p []byte, offset int64) (int, error) {
	n, err := f.ReadAt(behind, offset-int64(len(behind)))
	if n == len(behind) {
		var more int
		more, err = f.ReadAt(p, offset)
		n += more
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
