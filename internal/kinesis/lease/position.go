package lease

import (
	"cmp"
	"fmt"
	"strings"
)

// Position is a place in a shard: the sequence number of a record and, where the record holds
// several, the place in it. As what was done it means everything up to it, itself included; the
// sentinels say where to start in a shard of which nothing was read yet, and [End] that all was.
// The zero Position is none.
type Position struct {
	// Sequence is a decimal number, or one of the words of the sentinels.
	Sequence string
	// Sub is the place in a record that holds several, from 0.
	Sub uint64
}

// The sentinels, in the words of the Kinesis Client Library. A time is not part of a position: it
// is in the settings of whoever reads, and changing it there moves every shard of which nothing
// was read.
var (
	AtTimestamp = Position{Sequence: "AT_TIMESTAMP"}
	TrimHorizon = Position{Sequence: "TRIM_HORIZON"}
	Latest      = Position{Sequence: "LATEST"}
	End         = Position{Sequence: "SHARD_END"}
)

// ranks is the order of the sentinels and, between them, of numbers.
var ranks = map[string]int{"": -1, AtTimestamp.Sequence: 0, TrimHorizon.Sequence: 1, Latest.Sequence: 2, End.Sequence: 4}

const rankOfNumbers = 3

// At is the position of a record, or of one in it.
func At(sequence string, sub uint64) (Position, error) {
	if !decimal(sequence) {
		return Position{}, fmt.Errorf("%.80q is no sequence number: it has to be decimal", sequence)
	}
	return Position{Sequence: sequence, Sub: sub}, nil
}

// parsePosition reads the two columns of a table.
func parsePosition(text string, sub uint64) (Position, error) {
	if rank, ok := ranks[text]; ok && rank >= 0 {
		return Position{Sequence: text}, nil
	}
	if !decimal(text) {
		return Position{}, fmt.Errorf("%.80q is neither a decimal sequence number nor one of TRIM_HORIZON, LATEST, AT_TIMESTAMP and SHARD_END", text)
	}
	return Position{Sequence: text, Sub: sub}, nil
}

// IsRecord reports whether p is the place of a record, and no sentinel.
func (p Position) IsRecord() bool { return p.rank() == rankOfNumbers }

// IsZero reports whether p is none.
func (p Position) IsZero() bool { return p.Sequence == "" }

func (p Position) rank() int {
	if rank, ok := ranks[p.Sequence]; ok {
		return rank
	}
	return rankOfNumbers
}

// Compare is -1 when p is before q in a shard, 1 when it is behind it, and 0 otherwise: none,
// AT_TIMESTAMP, TRIM_HORIZON, LATEST, records by number and then by place, SHARD_END.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.rank(), q.rank()); c != 0 || p.rank() != rankOfNumbers {
		return c
	}
	if c := compareDecimal(p.Sequence, q.Sequence); c != 0 {
		return c
	}
	return cmp.Compare(p.Sub, q.Sub)
}

// String is p for people: the number or word, and the place in the record where there is one.
func (p Position) String() string {
	switch {
	case p.IsZero():
		return "none"
	case p.Sub > 0:
		return fmt.Sprintf("%s/%d", p.Sequence, p.Sub)
	}
	return p.Sequence
}

// maxDigits is more than any number of Kinesis has: its sequence numbers have 56, its hash keys 39.
const maxDigits = 128

func decimal(s string) bool {
	if s == "" || len(s) > maxDigits {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// compareDecimal compares numbers of any length.
func compareDecimal(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}
