package embeddedstore_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	embeddedstore "github.com/weirdata/weir/internal/store/embedded"
)

func opener(t *testing.T, path string) connector.StoreOpener {
	t.Helper()
	o, err := embeddedstore.Entry.Build(t.Context(), connector.Deps{Log: slog.New(slog.DiscardHandler)}, func(into any) error {
		into.(*embeddedstore.Config).Path = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestStore opens a store, looks after it, and opens it again.
func TestStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	o := opener(t, path)
	if got := o.Identity(); got != "embedded "+path {
		t.Errorf("identity %q", got)
	}
	exists := func() bool {
		there, err := o.(interface{ Exists() (bool, error) }).Exists()
		if err != nil {
			t.Error(err)
		}
		return there
	}
	if exists() {
		t.Error("the store exists before it was opened")
	}
	for n := range int64(2) {
		s, err := o.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !exists() {
			t.Error("the store does not exist")
		}
		if _, err := o.Open(t.Context()); !errors.Is(err, queue.ErrInUse) {
			t.Errorf("open twice: %v", err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))})
		}); err != nil {
			t.Fatal(err)
		}
		figures, err := s.(interface {
			Verify(context.Context, func(int64, int64)) (map[string]int64, error)
		}).Verify(t.Context(), nil)
		if err != nil || figures["open_batches"] != n+1 {
			t.Errorf("verify: %v, %v", figures, err)
		}
		usage, err := s.(interface {
			Usage(context.Context) (map[string]int64, error)
		}).Usage(t.Context())
		if err != nil || usage["log_bytes"] == 0 || usage["log_segments"] == 0 {
			t.Errorf("usage: %v, %v", usage, err)
		}
		if err := s.(interface{ Compact(context.Context) error }).Compact(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := *embeddedstore.Entry.Default().(*embeddedstore.Config)
	if ps := good.Validate(); len(ps) > 0 {
		t.Errorf("the defaults are refused: %v", ps)
	}
	for field, change := range map[string]func(*embeddedstore.Config){
		"path":                func(c *embeddedstore.Config) { c.Path = "" },
		"max_bytes":           func(c *embeddedstore.Config) { c.MaxBytes = -1 },
		"min_free_bytes":      func(c *embeddedstore.Config) { c.MinFreeBytes = -1 },
		"dead_retention_days": func(c *embeddedstore.Config) { c.DeadRetentionDays = -1 },
	} {
		c := good
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != field {
			t.Errorf("%s: problems %v", field, ps)
		}
	}
}
