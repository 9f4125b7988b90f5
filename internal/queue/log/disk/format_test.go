package disk

import (
	"fmt"
	"os"
	"testing"

	"github.com/weirdata/weir/internal/queue/log"
)

// TestBytes compares what is written now with what was written when FORMAT was raised last.
func TestBytes(t *testing.T) {
	t.Parallel()
	frame, err := encode(nil, log.Position{Segment: 3, Offset: 100}, 5, sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	m := mark{turn: 9, commit: 7, end: log.Position{Segment: 3, Offset: 1234}, state: 6}
	g := segment{number: 3, first: 5}
	got := fmt.Sprintf("format %q\nsegment %x\nframe %x\nmark %x\n", formatOf(formatNow), g.header(), frame, m.encode())
	want, err := os.ReadFile("testdata/format.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what is written has changed. Programs that know this FORMAT read it wrong, or not: raise formatNow, go on reading the one before, and say so in docs/compatibility.md.\ngot\n%swant\n%s", got, want)
	}
}
