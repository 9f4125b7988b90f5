package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
)

func runCommand(s Streams) *cobra.Command {
	var flags logFlags
	quiet := false
	c := &cobra.Command{
		Use:   "run [FILE|DIRECTORY...]",
		Short: "Run the pipelines of a config until they end or a signal stops them",
		Long: `Run the pipelines of a config until their sources end or a signal stops them.

Several files are read as one config; a directory means all its .hcl files. Without an
argument the file named by SNOWBRIDGE_CONFIG_FILE is run, and without that, standard input
is copied to standard output.

SIGINT and SIGTERM end the reading and let what was read settle, for at most
drain_timeout_ms; a second signal ends the process at once. SIGHUP reads the config again:
a config that cannot start changes nothing.

The exit code is 0 only when everything that was read was settled.`,
		Example: "  weir run pipeline.hcl\n  cat events.tsv | weir run enrich.hcl > events.json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			r := runner{s: s, flags: flags, paths: configPaths(args, s), quiet: quiet, builder: builder()}
			return r.run(c.Context())
		},
	}
	c.Flags().StringVar(&flags.level, "log-level", "", "least severe level to log: debug, info, warning or error (default: log_level of the config)")
	c.Flags().StringVar(&flags.format, "log-format", "", "text, json, or auto: text on a terminal, JSON otherwise (default: log_format of the config)")
	c.Flags().BoolVar(&quiet, "no-progress", false, "no live line on a terminal")
	return c
}

// runner is one `weir run`.
type runner struct {
	s       Streams
	flags   logFlags
	paths   []string
	quiet   bool
	builder *app.Builder
	log     *slog.Logger
	app     *app.App
	meter   *meter.Registry
	// printsEvents is set when a target of the config writes to standard output.
	printsEvents bool
}

func (r *runner) run(ctx context.Context) error {
	built, err := r.build(ctx)
	if err != nil {
		return err
	}
	cfg := built.Config
	r.meter = &meter.Registry{}
	r.app = &app.App{Log: r.log, Meter: r.meter, Builder: r.builder}

	ctx, stop := r.signals(ctx)
	defer stop()
	if cfg.Admin != nil {
		server, err := admin.Listen(cfg.Admin.Address, r.meter, r.app.Ready)
		if err != nil {
			return err
		}
		r.log.Info("admin server listens", meter.KeyAddress, server.Address())
		go func() {
			if err := server.Serve(); err != nil {
				r.log.Error("admin server ended", meter.KeyError, err)
			}
		}()
		defer func() { _ = server.Close(context.WithoutCancel(ctx)) }() // the process ends next
	}
	progress := r.progress()
	err = r.app.Run(ctx, built)
	progress.stop()
	if err != nil {
		return err
	}
	return nil
}

// build reads and builds the config; the first time it also makes the logger.
func (r *runner) build(ctx context.Context) (*app.Built, error) {
	cfg, err := load(r.paths, r.builder, r.s)
	if err != nil {
		return nil, err
	}
	if r.log == nil {
		r.log = r.flags.logger(cfg.Process, r.s.Err)
		slog.SetDefault(r.log)
		r.builder.Log = r.log
	}
	built, found := r.builder.Build(ctx, cfg)
	if err := report(found, r.s); err != nil {
		return nil, err
	}
	for _, p := range cfg.Pipelines {
		for _, u := range p.Uses() {
			r.printsEvents = r.printsEvents || u.Name == "stdout" && u.Block == "target"
		}
	}
	for _, w := range notReported(cfg) {
		r.log.Warn(w)
	}
	return built, nil
}

// notReported names the settings that are read for compatibility and do nothing yet.
func notReported(cfg *config.Config) []string {
	var ws []string
	add := func(on bool, block string) {
		if on {
			ws = append(ws, block+" is accepted and not acted upon by this version: metrics are at /metrics of the admin address")
		}
	}
	add(cfg.Sentry != nil, "sentry")
	add(cfg.StatsReceiver != nil && cfg.StatsReceiver.Use != nil, "stats_receiver")
	add(cfg.Monitoring != nil, "monitoring")
	add(cfg.Metrics != nil && cfg.Metrics.E2ELatency, "metrics.enable_e2e_latency")
	return ws
}

// signals ends the context at the first SIGINT or SIGTERM, the process at the second, and
// reloads at SIGHUP. A broken pipe is an error of the write, not the end of the process.
func (r *runner) signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		for sig := range ch {
			switch sig {
			case syscall.SIGPIPE:
			case syscall.SIGHUP:
				r.reload(ctx)
			default:
				if ctx.Err() != nil {
					r.log.Error("second signal: ending at once, what is not settled is delivered again")
					os.Exit(exitFailed)
				}
				r.log.Info("stopping: reading has ended, waiting for what was read to settle", "signal", sig.String())
				cancel(fmt.Errorf("signal: %s", sig))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(ch)
		cancel(nil)
	}
}

// reload builds the config anew and replaces what runs by it. Any failure leaves
// everything as it was.
func (r *runner) reload(ctx context.Context) {
	r.log.Info("reloading the config")
	built, err := r.build(ctx)
	if err == nil {
		err = r.app.Reload(ctx, built)
	}
	switch {
	case errors.Is(err, errReported):
		r.log.Error("the new config was refused, the old one runs on")
	case err != nil:
		r.log.Error("the new config could not start, the old one runs on", meter.KeyError, err)
	default:
		r.log.Info("the new config runs")
	}
}
