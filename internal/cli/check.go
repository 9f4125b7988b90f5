package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
)

func checkCommand(s Streams) *cobra.Command {
	connect, asJSON := false, false
	c := &cobra.Command{
		Use:   "check [FILE|DIRECTORY...]",
		Short: "Find everything wrong with a config that can be known without running it",
		Long: `Find everything wrong with a config that can be known without the network: syntax, names,
types, limits, scripts, templates and certificates. A config that check accepts starts.

With --connect the connections of sources and targets are opened as well, and a store in
PostgreSQL is looked at: whether it can be opened and worked with (its version, privileges,
connections, a pooler between), and which of its queues have messages that nobody reads. No
event is read or written; where files are to be written, one is created and removed.

Queues that have open messages, and that neither the config nor another process reads, are warned
about: while a process runs, its admin server on this machine is asked for them; with --connect an
embedded store that no process has open is opened to count them. On a store that processes share,
queues that the config leaves to others are named behind the summary.`,
		Example: "  weir check pipeline.hcl\n  weir check --connect conf.d/",
		RunE: func(c *cobra.Command, args []string) error {
			return check(c.Context(), configPaths(args, s), connect, asJSON, s)
		},
	}
	c.Flags().BoolVar(&connect, "connect", false, "also open the connections of sources and targets")
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return c
}

func check(ctx context.Context, paths []string, connect, asJSON bool, s Streams) error {
	b := builder()
	b.Log = slog.New(slog.DiscardHandler)
	cfg, found := config.Load(paths, b.Options(s.Env))
	var built *app.Built
	if !found.HasErrors() {
		var more config.Diagnostics
		built, more = b.Build(ctx, cfg.Plan())
		found = append(found, more...)
	}
	if built != nil {
		found = append(found, built.Inspect()...)
	}
	if connect && built != nil {
		found = append(found, reach(ctx, built)...)
		found = append(found, survey(ctx, built)...)
	}
	if built != nil {
		found = append(found, orphans(ctx, cfg, built, connect)...)
	}
	if asJSON {
		if _, err := s.Out.Write(found.JSON()); err != nil {
			return err
		}
	} else if err := report(found, s); err != nil {
		return err
	}
	if found.HasErrors() {
		return errReported
	}
	if !asJSON {
		fmt.Fprintf(s.Out, "ok: %s\n", summary(cfg))
		if left := built.Plan.Elsewhere(); len(left) > 0 {
			fmt.Fprintf(s.Out, "for other processes that share the store to read: queue %s\n", strings.Join(left, ", "))
		}
	}
	return nil
}

// reach asks every connector that can be asked whether its other side is there.
func reach(ctx context.Context, built *app.Built) config.Diagnostics {
	var found config.Diagnostics
	for _, c := range built.Checkers {
		ctx, done := context.WithTimeout(ctx, 15*time.Second)
		if err := c.Check(ctx); err != nil {
			found = append(found, c.Use.Diagnose(fmt.Errorf("cannot be reached: %w", err))...)
		}
		done()
	}
	for _, p := range built.Planes {
		ctx, done := context.WithTimeout(ctx, 15*time.Second)
		if err := p.Check(ctx); err != nil {
			found = append(found, p.Of.Diagnose("control_plane", fmt.Sprintf("cannot be used: %v", err), "correct it, or try again when the control plane is there"))
		}
		done()
	}
	return found
}

// survey looks at a store that processes share, which may be in use: at what would keep it
// from being opened, and at queues that are read neither by a process nor by this config.
func survey(ctx context.Context, built *app.Built) config.Diagnostics {
	shared, can := built.Store.(surveyed)
	use := built.Plan.Store
	if !can || use == nil {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	unread, err := shared.Survey(ctx)
	if err != nil {
		return use.Diagnose(fmt.Errorf("cannot be opened: %w", err))
	}
	reads := built.Plan.Reads()
	var found config.Diagnostics
	for _, b := range unread {
		if !reads[b.Queue] {
			found = append(found, use.Warn(fmt.Sprintf("queue %q has %d open messages, and neither a process that runs nor this config reads it", b.Queue, b.Open)))
		}
	}
	return found
}

// orphans are queues that have open messages, and that neither a pipeline or machine of the config
// nor another process reads: as far as the process that runs knows, whose place the config may
// take, or a store of this machine that none has open. Whatever keeps it from knowing is no finding.
func orphans(ctx context.Context, cfg *config.Config, built *app.Built, connect bool) (found config.Diagnostics) {
	use := built.Plan.Store
	if use == nil || built.Store == nil {
		return nil
	}
	_, shared := built.Store.(surveyed)
	surveyed := shared && connect // which has found what nobody reads
	ctx, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	reads := built.Plan.Reads()
	look := func(o admin.Operator) error {
		all, err := o.Queues(ctx, "")
		if err != nil {
			return err
		}
		for _, q := range all.Queues {
			_, implied := built.Plan.Implied[q.Name]
			if implied || reads[q.Name] || q.Open == 0 || q.ReadElsewhere || surveyed && q.Unread {
				continue
			}
			found = append(found, use.Warn(fmt.Sprintf("queue %q has %d open messages, and no pipeline or machine of this config reads it: they wait until one does, or until weir queue move, drain or drop --open decides about them", q.Name, q.Open)))
		}
		return nil
	}
	if remote, _ := runningProcess(ctx, cfg, built.Store.Identity()); remote != nil {
		defer remote.Close()
		_ = look(remote)
		return found
	}
	if connect && !shared {
		_ = operateOn(ctx, cfg, built.Store, mustExist, look)
	}
	return found
}

// summary says in a line what a config does.
func summary(cfg *config.Config) string {
	texts := make([]string, len(cfg.Pipelines))
	for i, p := range cfg.Pipelines {
		texts[i] = fmt.Sprintf("pipeline %q: %s", p.Name, p.Shape())
	}
	if len(texts) > 3 {
		return fmt.Sprintf("%d pipelines\n  %s", len(texts), strings.Join(texts, "\n  "))
	}
	return strings.Join(texts, "; ")
}
