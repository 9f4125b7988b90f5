// Package spelling finds the name that somebody probably meant to write, and lists names
// for a sentence.
//
// Names are short and from a list that is known: options, components, fields, states. Two
// names that differ in case or in the kind of separator only are the same misspelling.
package spelling

import "strings"

// Nearest is the one of names that name was probably meant to be; "" when none is close.
// The first of several that are as close counts. A third of the letters may be wrong, and
// of four, two: letters that are swapped cost two. Of a name of one or two letters nothing
// can be told.
func Nearest(name string, names []string) string {
	best, distance := "", 0
	for _, n := range names {
		most := (min(len(name), len(n)) + 2) / 3
		if len(name) < 3 {
			most = 0
		}
		d := edits(folded(name), folded(n), most)
		if d >= 0 && d < len(n) && (best == "" || d < distance) {
			best, distance = n, d
		}
	}
	if best != "" {
		return best
	}
	// What is left is a name cut short, or one said at more length.
	for _, n := range names {
		if len(name) >= 3 && strings.HasPrefix(folded(n), folded(name)) || len(n) >= 3 && strings.HasPrefix(folded(name), folded(n)) {
			return n
		}
	}
	return ""
}

// longest is how much of a name counts for [Closest]; it bounds the work.
const longest = 64

// Closest is the one of names with the fewest letters to change, however many they are; the
// first of several. It is "" when there are no names.
func Closest(name string, names []string) string {
	name = name[:min(len(name), longest)]
	best, least := "", -1
	for _, n := range names {
		if d := edits(name, n, len(name)+len(n)); least < 0 || d < least {
			best, least = n, d
		}
	}
	return best
}

// Same reports whether two names differ at most in case and in the kind of separator.
func Same(a, b string) bool { return folded(a) == folded(b) }

var separators = strings.NewReplacer("-", "_", ".", "_", " ", "_")

func folded(name string) string { return separators.Replace(strings.ToLower(name)) }

// edits is how many letters have to be put in, taken out or changed to make b of a; -1 when
// they are more than most.
func edits(a, b string, most int) int {
	if max(len(a), len(b))-min(len(a), len(b)) > most {
		return -1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	if row[len(b)] > most {
		return -1
	}
	return row[len(b)]
}

// Or joins names for a sentence: "a", "b" or "c".
func Or(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + n + `"`
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}
