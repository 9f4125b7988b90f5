package file

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// state is what is known of one content of one file: which one it is, and what of it is
// settled. It is the same with and without a position file, which holds those that are known
// at a moment. Its fields are guarded by the book, but for what only Read uses.
type state struct {
	Path string `json:"path"` // where it was seen last
	fileID
	// Names are what it was called, without the directory, the latest last.
	Names []string `json:"names,omitempty"`
	// Birth is when the inode was made, in unix ns; 0 where that is not known.
	Birth int64 `json:"birth,omitzero"`
	// Partition is what its messages say of where they are; no other content has it.
	Partition string `json:"partition,omitzero"`
	// Offset is in the content: of a compressed file, in what it decompresses to. Everything
	// before it is settled.
	Offset int64 `json:"offset"`
	// Prefix is of the first bytes of the file, Tail of the bytes of the content before Offset.
	Prefix digest `json:"prefix"`
	Tail   digest `json:"tail,omitzero"`
	// Done is what is settled beyond Offset, in order and apart from each other.
	Done []span `json:"done,omitempty"`
	// Gone is when the content was found to be replaced or removed, in unix ns; 0: it is there.
	Gone int64 `json:"gone,omitzero"`
	// Packed says that the file is compressed.
	Packed bool `json:"packed,omitzero"`

	// Broken is how large the compressed file was when what it ends with was refused; 0: it was not.
	Broken int64 `json:"broken,omitzero"`

	Generation int64 `json:"generation,omitzero"` // of an earlier form, which named no partition

	// How far it was read since Open, and the content before that; 0 when it was not.
	read   int64
	behind []byte
	head   []byte // what Prefix is of; nil where that was not read
}

// span is a part of a content that is settled. Tail is of the bytes before To.
type span struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	Tail digest `json:"tail,omitzero"`
}

// digest is of some bytes, by which content is told from other content.
type digest struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// digestBytes is how many bytes a digest covers at most.
const digestBytes = 1024

func digestOf(b []byte) digest {
	if len(b) == 0 {
		return digest{}
	}
	sum := sha256.Sum256(b)
	return digest{len(b), hex.EncodeToString(sum[:])}
}

// headOf is the first bytes of f, at most n.
func headOf(f *os.File, n int) ([]byte, error) {
	buf := make([]byte, n)
	got, err := readFullAt(f, buf)
	return buf[:got], err
}

// begins reports whether f begins with what d was made of.
func (d digest) begins(f *os.File) bool {
	now, err := headOf(f, d.Bytes)
	return err == nil && digestOf(now) == d
}

// ends reports whether content ends with what d was made of.
func (d digest) ends(content []byte) bool {
	return d.Bytes == 0 || len(content) >= d.Bytes && digestOf(content[len(content)-d.Bytes:]) == d
}

// partitionOf names the first content of a file. Without a position file a later process reads
// it anew, on purpose: its messages are others.
func (s *Source) partitionOf(id fileID, birth int64) string {
	if s.config.PositionFile == "" {
		return partitionOf(id, birth) + "-" + thisProcess
	}
	return partitionOf(id, birth)
}

// thisProcess tells positions that no other process will know from those of another.
var thisProcess = strings.ToLower(rand.Text()[:10])

// partitionOf names the first content of a file, as far as that can be told from the file
// alone.
func partitionOf(id fileID, birth int64) string {
	if birth == 0 {
		return fmt.Sprintf("%d-%d", id.Device, id.Inode)
	}
	return fmt.Sprintf("%d-%d-%x", id.Device, id.Inode, birth)
}

// settle notes that what lies between two offsets is settled. tail is of what is before to.
func (st *state) settle(from, to int64, tail digest) {
	from = max(from, st.Offset)
	if to <= from {
		return
	}
	first, _ := slices.BinarySearchFunc(st.Done, from, func(s span, at int64) int { return compare(s.To, at) })
	last := first
	for ; last < len(st.Done) && st.Done[last].From <= to; last++ {
		from = min(from, st.Done[last].From)
		if st.Done[last].To >= to {
			to, tail = st.Done[last].To, st.Done[last].Tail
		}
	}
	st.Done = slices.Replace(st.Done, first, last, span{from, to, tail})
	if d := st.Done[0]; d.From <= st.Offset {
		st.Offset, st.Tail = d.To, d.Tail
		st.Done = slices.Delete(st.Done, 0, 1)
	}
}

// mostNames is how many names of a file are kept.
const mostNames = 8

// called notes what the file is called.
func (st *state) called(path string) {
	st.Path = path
	st.also(path)
}

// also notes that the file is called something else too.
func (st *state) also(path string) {
	name := filepath.Base(path)
	if slices.Contains(st.Names, name) {
		return
	}
	st.Names = append(st.Names, name)
	st.Names = slices.Delete(st.Names, 0, max(len(st.Names)-mostNames, 0))
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// settled reports whether what is at an offset is.
func (st *state) settled(at int64) bool {
	if at < st.Offset {
		return true
	}
	i, found := slices.BinarySearchFunc(st.Done, at, func(s span, at int64) int { return compare(s.From, at) })
	return found || i > 0 && at < st.Done[i-1].To
}

// valid reports whether the state can ever have been saved.
func (st *state) valid() bool {
	if st.Offset < 0 || st.Prefix.Bytes < 0 || st.Prefix.Bytes > digestBytes || st.Tail.Bytes < 0 || st.Tail.Bytes > digestBytes {
		return false
	}
	at := st.Offset
	for _, s := range st.Done {
		if s.From <= at || s.To <= s.From || s.Tail.Bytes < 0 || s.Tail.Bytes > digestBytes {
			return false
		}
		at = s.To
	}
	return true
}
