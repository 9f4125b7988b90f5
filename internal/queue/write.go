package queue

import "github.com/weirdata/weir/internal/memorylimit"

// A store holds an Update several times over while it commits it: as jobs, as rows, and as what is
// sent. So where memory is limited, what can be several Updates is made smaller ones.
const (
	// MaxWriteBytes is the most bytes of jobs that one Update should append, well below what it may
	// hold: a payload that was changed is kept as it was read too.
	MaxWriteBytes = MaxTxBytes / 2

	writePart  = 32 // of the memory limit
	leastWrite = 4 << 20
)

// WriteBytes is about how many bytes of jobs one Update should append where it can be several: at most
// MaxWriteBytes, and less where memory is limited.
func WriteBytes() int { return int(memorylimit.Share(MaxWriteBytes, writePart, leastWrite)) }
