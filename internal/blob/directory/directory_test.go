package directory

import (
	"path/filepath"
	"testing"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/blobtest"
)

func opened(t testing.TB, path string, o Options) *Bucket {
	t.Helper()
	b, err := Make(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		path := filepath.Join(t.TempDir(), "made", "here")
		return func() blob.Bucket { return opened(t, path, Options{}) }
	})
}
