package kinesissource

import (
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/connector"
)

// A position is a sequence number: how many digits it has in one byte, and the digits. So the
// order of the bytes is that of the numbers, of whatever length.

// maxDigits is how many digits a sequence number may have; Kinesis gives 56.
const maxDigits = 255

// putSequence appends the position of a sequence number.
func putSequence(dst []byte, sequence string) ([]byte, error) {
	digits := strings.TrimLeft(sequence, "0")
	if sequence == "" || len(digits) > maxDigits || strings.Trim(sequence, "0123456789") != "" {
		return dst, fmt.Errorf("%.80q is no sequence number", sequence)
	}
	return append(append(dst, byte(len(digits))), digits...), nil
}

// sequenceOf is the sequence number of a position.
func sequenceOf(p connector.Position) (string, error) {
	b := p.Bytes
	if len(b) == 1 && b[0] == 0 {
		return "0", nil
	}
	if len(b) < 2 || int(b[0]) != len(b)-1 || b[1] == '0' || strings.Trim(string(b[1:]), "0123456789") != "" {
		return "", fmt.Errorf("% x is no position in a Kinesis shard", b)
	}
	return string(b[1:]), nil
}

// compareSequences orders two sequence numbers.
func compareSequences(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
