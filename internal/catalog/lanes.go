package catalog

import (
	"bytes"
	"cmp"
	"slices"
)

// Place is where a message lies in its lane, and which one it is of those that became of what
// was read there.
type Place struct {
	Position []byte `json:"position"` // in the order of the lane
	Sub      uint64 `json:"sub,omitempty"`
	Piece    uint32 `json:"piece,omitempty"`
}

// Compare orders two places of one lane.
func (p Place) Compare(q Place) int {
	if c := bytes.Compare(p.Position, q.Position); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Sub, q.Sub); c != 0 {
		return c
	}
	return cmp.Compare(p.Piece, q.Piece)
}

// Lane is the messages of a write that were read in one partition of a stream.
type Lane struct {
	Stream    string
	Partition string
	First     Place // of the message that came first
	Last      Place // the furthest
	Rising    bool  // each lies behind the one before
	// Runs are the places of the messages in the write, from and to.
	Runs [][2]int
}

// reach is how far the messages of a lane go that have landed, or are about to.
type reach struct {
	Stream    string `json:"stream"`
	Partition string `json:"partition,omitempty"`
	Last      Place  `json:"last"`
}

type laneKey struct{ stream, partition string }

// mostLanes is how many lanes are remembered.
const mostLanes = 100_000

// lanes remember how far each lane goes. What lies behind that is new, and need not be looked
// for among what has landed.
type lanes struct {
	last   map[laneKey]Place
	forgot bool // there were more than may be remembered
}

// fresh reports whether all of the lane's messages are new.
func (l *lanes) fresh(x *Lane) bool {
	last, known := l.last[laneKey{x.Stream, x.Partition}]
	if !known {
		return x.Rising && !l.forgot
	}
	return x.Rising && x.First.Compare(last) > 0
}

// note notes that a lane goes as far as r.
func (l *lanes) note(r reach) {
	key := laneKey{r.Stream, r.Partition}
	last, known := l.last[key]
	if known && r.Last.Compare(last) <= 0 {
		return
	}
	if !known && len(l.last) >= mostLanes {
		clear(l.last)
		l.forgot = true
	}
	r.Last.Position = slices.Clone(r.Last.Position)
	l.last[key] = r.Last
}

func reachOf(ls []Lane) []reach {
	out := make([]reach, len(ls))
	for i := range ls {
		out[i] = reach{ls[i].Stream, ls[i].Partition, ls[i].Last}
	}
	return out
}

// past is the ids of what has landed. They are put in order when somebody looks for one, which
// happens only when something is delivered again.
type past struct {
	seen   Seen
	recent [][]ID // not in seen, the oldest first
	n      int    // ids in recent
	most   int
}

// add notes ids that have landed, behind all others.
func (p *past) add(ids []ID) {
	if len(ids) == 0 {
		return
	}
	p.recent = append(p.recent, ids)
	for p.n += len(ids); p.n-len(p.recent[0]) >= p.most; p.recent = p.recent[1:] {
		p.n -= len(p.recent[0])
	}
}

// has reports whether the id has landed.
func (p *past) has(id ID) bool {
	for _, ids := range p.recent {
		p.seen.Add(ids)
	}
	p.recent, p.n = nil, 0
	return p.seen.Has(id)
}
