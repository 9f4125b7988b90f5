package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// storeFlags say where the store is.
type storeFlags struct{ config []string }

func (f *storeFlags) add(c *cobra.Command) {
	c.PersistentFlags().StringArrayVar(&f.config, "config", nil, "config file or directory that names the store; repeat it for several (default: SNOWBRIDGE_CONFIG_FILE)")
}

// absence is what a command does when the store was not made yet.
type absence int

const (
	mustExist absence = iota
	mayBeMade
)

// operate runs do on the store that the config names: through the admin server of the
// process that has it open, where there is one, and otherwise by opening it.
func (f *storeFlags) operate(ctx context.Context, s Streams, missing absence, do func(admin.Operator) error) error {
	cfg, opener, err := f.opener(ctx, s)
	if err != nil {
		return err
	}
	return operateOn(ctx, cfg, opener, missing, do)
}

// surveyed is the opener of a store that processes share.
type surveyed interface {
	Survey(ctx context.Context) ([]queue.Backlog, error)
}

// errNoStore says that the store was not made yet.
var errNoStore = errors.New("weir run makes it")

// operateOn is operate for a config that is read already.
func operateOn(ctx context.Context, cfg *config.Config, opener connector.StoreOpener, missing absence, do func(admin.Operator) error) (err error) {
	remote, rerr := runningProcess(ctx, cfg, opener.Identity())
	if remote != nil {
		defer remote.Close()
		return explain(do(remote))
	}
	if e, ok := opener.(interface{ Exists() (bool, error) }); ok && missing == mustExist {
		there, err := e.Exists()
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("there is no store yet (%s): %w", opener.Identity(), errNoStore)
		}
	}
	store, err := opener.Open(ctx)
	if errors.Is(err, queue.ErrInUse) {
		return fmt.Errorf("%s is in use by another process%s", opener.Identity(), advice(cfg, rerr))
	}
	if err != nil {
		return err
	}
	defer func() {
		if cerr := store.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
		}
	}()
	plan := cfg.Plan()
	l := admin.Local{Store: store, Name: opener.Identity(), Config: plan.Queues, Who: "command line"}
	if _, shared := opener.(surveyed); !shared {
		l.Reads = plan.Reads()
	}
	return explain(do(l))
}

// opener reads the config as far as the store needs it.
func (f *storeFlags) opener(ctx context.Context, s Streams) (*config.Config, connector.StoreOpener, error) {
	paths := configPaths(f.config, s)
	if len(paths) == 0 {
		return nil, nil, usagef("no config says where the store is: use --config FILE, or set SNOWBRIDGE_CONFIG_FILE")
	}
	b := builder()
	b.Log = slog.New(slog.DiscardHandler)
	cfg, err := load(paths, b, s)
	if err != nil {
		return nil, nil, err
	}
	plan := cfg.Plan()
	if plan.Store == nil {
		return nil, nil, fmt.Errorf("%s declares no queue, so there is no store: add a block like queue \"events\" {}", strings.Join(paths, ", "))
	}
	opener, found := b.OpenerOf(ctx, plan)
	if err := report(found, s); err != nil {
		return nil, nil, err
	}
	return cfg, opener, nil
}

// runningProcess is the admin server of the process that has the store open. Without one
// it is nil, and the error says why, as far as it is known.
func runningProcess(ctx context.Context, cfg *config.Config, identity string) (*admin.Client, error) {
	if cfg.Admin == nil {
		return nil, nil
	}
	c, err := admin.Dial(ctx, whereOf(cfg.Admin, Streams{Env: os.LookupEnv}))
	if err != nil {
		return nil, err
	}
	if c.Identity() != identity {
		c.Close()
		return nil, fmt.Errorf("the process at %s has another store open: %s", c.Address(), c.Identity())
	}
	return c, nil
}

// advice says what to do about a store that another process has open.
func advice(cfg *config.Config, err error) string {
	switch {
	case cfg.Admin == nil:
		return ".\nAdd a block admin { address = \"127.0.0.1:8080\" } to its config and start it again: then this command works through it. Or stop the process first"
	case err != nil:
		return fmt.Sprintf(", which cannot be asked: %v.\nStart it with the admin block of this config, or stop it first", err)
	}
	return ": stop it first"
}

// explain adds what a person can do about an error.
func explain(err error) error {
	if errors.Is(err, admin.ErrUnsupported) {
		return fmt.Errorf("%w: only the store \"embedded\" has it; PostgreSQL has its own means", err)
	}
	return err
}

// input is what a command reads.
func (s Streams) input() io.Reader {
	if s.In != nil {
		return s.In
	}
	return os.Stdin
}
