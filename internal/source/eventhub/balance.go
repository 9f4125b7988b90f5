package eventhubsource

import (
	"math/rand/v2"
	"slices"
	"sort"
)

// wanted is which partitions the instance me claims now, beyond those it has: first those that
// nobody owns, up to an even share, then those of whoever has two more than me. So what moves only
// makes shares more even, and where no owner has two more than another, nothing moves.
// owner is the live owner of a partition; empty when it has none.
func wanted(me string, partitions []string, owner func(partition string) string) []string {
	has := map[string][]string{me: nil}
	var free []string
	for _, p := range partitions {
		if o := owner(p); o != "" {
			has[o] = append(has[o], p)
		} else {
			free = append(free, p)
		}
	}
	mine := len(has[me])
	share := (len(partitions) + len(has) - 1) / len(has)
	var claims []string
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, p := range free {
		if mine >= share {
			break
		}
		claims, mine = append(claims, p), mine+1
	}
	delete(has, me)
	others := make([]string, 0, len(has))
	for o, ps := range has {
		others = append(others, o)
		rand.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	}
	slices.Sort(others)
	for len(others) > 0 {
		sort.SliceStable(others, func(i, j int) bool { return len(has[others[i]]) > len(has[others[j]]) })
		o := others[0]
		if len(has[o]) < mine+2 {
			break
		}
		claims, mine = append(claims, has[o][0]), mine+1
		has[o] = has[o][1:]
	}
	return claims
}
