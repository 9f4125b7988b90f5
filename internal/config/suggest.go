package config

import (
	"strings"

	"github.com/agext/levenshtein"
)

// nearest is the candidate that name was probably meant to be; "" when none is close.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", len(name)+1
	for _, c := range candidates {
		d := levenshtein.Distance(folded(name), folded(c), nil)
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	// A third of the letters may be wrong; of four, two: letters that are swapped cost two.
	limit := (min(len(name), len(best)) + 2) / 3
	if bestDistance <= limit && bestDistance < len(best) {
		return best
	}
	// What is left is a name cut short, or one said at more length.
	for _, c := range candidates {
		if len(name) >= 3 && strings.HasPrefix(folded(c), folded(name)) || len(c) >= 3 && strings.HasPrefix(folded(name), folded(c)) {
			return c
		}
	}
	return ""
}

// folded is name without what people mix up: case and the kind of separator.
func folded(name string) string {
	return strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(name))
}
