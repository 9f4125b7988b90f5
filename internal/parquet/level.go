package parquet

import (
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Level is how hard a file is compressed.
type Level uint8

// The levels.
const (
	Balanced Level = iota // a column is compressed fast where more time would gain next to nothing
	Fast                  // a third less time, an eighth more bytes
	Thorough
)

// Levels are the names of the levels.
var Levels = []string{"balanced", "fast", "thorough"}

// ParseLevel is the level with the given name.
func ParseLevel(name string) (Level, bool) {
	i := slices.Index(Levels, name)
	return Level(max(i, 0)), i >= 0
}

// A page from worthwhile bytes on is compressed fast where the thorough way gains less than
// a fiftieth on a sample of it: it takes three times as long to find matches that are not
// there, as in a column of random ids.
const (
	worthwhile  = 96 << 10
	sampleBytes = 32 << 10
)

// compressorFor is the compressor for a page; the first large one of a column decides for all.
func (f *fileWriter) compressorFor(page []byte) *zstd.Encoder {
	switch {
	case f.level == Fast:
		return f.fast
	case f.level == Thorough, len(page) < worthwhile:
		return f.thorough
	}
	if f.zstd == nil {
		middle := (len(page) - sampleBytes) / 2
		sample := page[middle : middle+sampleBytes]
		f.sample = f.thorough.EncodeAll(sample, f.sample[:0])
		best := len(f.sample)
		f.sample = f.fast.EncodeAll(sample, f.sample[:0])
		if f.zstd = f.thorough; len(f.sample) <= best+best/50 {
			f.zstd = f.fast
		}
	}
	return f.zstd
}
