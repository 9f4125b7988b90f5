package frontdoor

import (
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// files tells of a process, or a host, that has no file descriptors left for connections: they
// wait then, and nothing else says why.
type files struct {
	log     *slog.Logger
	address string
	out     bool
	told    time.Time
}

// tellFilesEvery is how often it is told while that lasts.
const tellFilesEvery = time.Minute

// note notes how accepting a connection ended.
func (f *files) note(err error) {
	out := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	if f.log == nil || !out && (err != nil || !f.out) {
		return
	}
	now := time.Now()
	switch {
	case !out:
		f.out, f.told = false, time.Time{}
		f.log.Info("there are file descriptors for connections again", "address", f.address)
	case f.told.IsZero() || now.Sub(f.told) >= tellFilesEvery:
		f.out, f.told = true, now
		f.log.Error("there are no file descriptors left: connections wait; raise the limit (ulimit -n, or LimitNOFILE of the service), or lower max_connections", "address", f.address, "error", err)
	}
}
