package logtest_test

import (
	"testing"

	"github.com/weirdata/weir/internal/queue/log/logtest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	for name, frontOnly := range map[string]bool{"anywhere": false, "at its front": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logtest.Run(t, func(testing.TB) logtest.Place { return &logtest.Memory{FrontOnly: frontOnly} })
		})
	}
}
