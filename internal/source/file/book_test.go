package file

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestPositionFile reads a position file of the last release and one of this one, and writes what it
// has read of the latter as it was: what an earlier release does not know of it, it passes over.
func TestPositionFile(t *testing.T) {
	t.Parallel()
	b, err := loadBook("testdata/positions-1-first.json")
	if err != nil {
		t.Fatal(err)
	}
	if st := b.alive[fileID{65024, 14017217}]; len(b.alive) != 1 || st == nil || st.Offset != 16 || st.Partition != "65024-14017217" {
		t.Errorf("the last release's: %+v", st)
	}
	want, err := os.ReadFile("testdata/positions-1.json")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "positions.json")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = loadBook(path); err != nil {
		t.Fatal(err)
	}
	if len(b.alive) != 1 || len(b.gone) != 1 {
		t.Fatalf("%d files and %d that are gone are known", len(b.alive), len(b.gone))
	}
	if err := b.prove(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("it is written in another way. If an earlier release would read it wrong, raise its version:\n%s", got)
	}
}
