package queue

import (
	"math"
	"time"
)

// SteadyBase is added to times of the steady clock of a store where they stand for a due time:
// these are below zero, and times of the wall clock are not.
const SteadyBase = math.MinInt64 / 2

// Head is what the order of a lane needs to know of a job.
type Head struct {
	// Hash is the hash of the ordering key; 0 when the job is not ordered. Keys that share
	// a hash are treated as one.
	Hash uint64
	// NotBefore is in unix ns; 0 means at once. Below zero it is of the steady clock.
	NotBefore int64
}

// ReadHead reads the Head of a record. Of a record that has none it reads the flags only.
func ReadHead(rec []byte) (Head, error) {
	r := reader{b: rec}
	version, flags := r.begin()
	if version > recordVersion {
		return Head{}, errVersion("job record", version)
	}
	var h Head
	if flags&(flagOrdered|flagNotBefore) == 0 && !r.bad {
		return h, nil
	}
	if version != 1 && flags&flagNotBefore != 0 {
		t := r.time()
		if h.NotBefore = Nanos(t); flags&flagSteady != 0 {
			h.NotBefore += SteadyBase
		}
	}
	if flags&flagKey != 0 && (flags&flagOrdered != 0 || version == 1) {
		key := r.bytes()
		if flags&flagOrdered != 0 {
			h.Hash = HashKey(key)
		}
	}
	if version == 1 && flags&flagNotBefore != 0 {
		if flags&flagID != 0 {
			r.bytes()
		}
		if flags&flagHeaders != 0 {
			r.skipHeaders()
		}
		if flags&flagRaw != 0 {
			r.bytes()
		}
		h.NotBefore = Nanos(r.time())
	}
	if r.bad {
		return Head{}, errRecord(rec)
	}
	return h, nil
}

// Nanos is t in unix ns, held within what an int64 can say.
func Nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() <= 0:
		return 1
	case t.Unix() >= 1<<33:
		return 1 << 33 * int64(time.Second)
	}
	return t.UnixNano()
}
