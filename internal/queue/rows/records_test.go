package rows

import (
	"testing"

	"pgregory.net/rapid"
)

// TestChanged: whatever is forgotten, a record that was written after a commit is never taken for one
// that was not, and one that is remembered is not looked at in vain.
func TestChanged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := changed{most: rapid.IntRange(1, 9).Draw(t, "most"), at: map[uint64]uint64{}}
		last := map[uint64]uint64{}
		commit := uint64(0)
		for range rapid.IntRange(0, 30).Draw(t, "groups") {
			marks := rapid.SliceOfN(rapid.Uint64Range(0, 12), 0, 6).Draw(t, "marks")
			c.note(marks, commit+1)
			for _, m := range marks {
				last[m] = commit + 1
			}
			commit += rapid.Uint64Range(0, 3).Draw(t, "commits") // 0: the group was not written
			if len(c.order) > c.most || len(c.at) > c.most {
				t.Fatalf("%d marks in a place for %d", len(c.order), c.most)
			}
			since := rapid.Uint64Range(0, commit).Draw(t, "since")
			for m := range uint64(13) {
				is, says := last[m] > since, c.after(m, since)
				if is && !says || says && !is && since >= c.floor {
					t.Fatalf("record %d was written at %d, and after %d: %t", m, last[m], since, says)
				}
			}
		}
	})
}
