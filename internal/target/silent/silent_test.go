package silent_test

import (
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/target/silent"
)

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Examples(t, conntest.One(silent.Entry), "../../..")
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			return func() connector.Target {
				target, err := silent.Entry.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
				return target
			}, nil
		},
		Features: conntest.TargetFeatures{Binary: true, Empty: true, Tombstone: true},
	})
}

func TestEveryWriterIsWelcome(t *testing.T) {
	t.Parallel()
	target, err := silent.Entry.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	l := target.(connector.Limiter).Limits()
	if !l.Eager || l.MaxMessageBytes < 1<<30 {
		t.Errorf("limits %+v: a target that keeps nothing makes nobody wait and refuses nothing", l)
	}
}
