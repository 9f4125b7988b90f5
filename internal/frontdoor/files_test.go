package frontdoor

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestOutOfFiles: that connections wait for file descriptors is told at once, then now and then,
// and once when it is over.
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := files{log: slog.New(slog.NewTextHandler(&log, nil)), address: "x"}
		told := func() (int, int) {
			return strings.Count(log.String(), "no file descriptors left"), strings.Count(log.String(), "descriptors for connections again")
		}
		full := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		for _, err := range []error{nil, errors.New("other"), nil} {
			f.note(err)
		}
		for round := range 2 {
			for range 150 { // of a second each
				f.note(full)
				f.note(errors.New("other"))
				time.Sleep(time.Second)
			}
			f.note(nil)
			f.note(nil)
			if out, again := told(); out != 3*(round+1) || again != round+1 {
				t.Errorf("told %d times that there are none, %d that there are:\n%s", out, again, log.String())
			}
		}
	})
}
