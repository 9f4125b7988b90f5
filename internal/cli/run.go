package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/garbage"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/tap"
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
drain_timeout_ms; a second SIGINT ends the process at once. SIGHUP reads the config again:
a config that cannot start, or has no pipeline any more, changes nothing.

A pipeline that fails is started again and takes no other with it, or ends the process: see
on_failure.

The exit code is 0 only when everything that was read was settled.`,
		Example: "  weir run pipeline.hcl\n  cat events.tsv | weir run enrich.hcl > events.json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			r := runner{s: s, flags: flags, paths: configPaths(args, s), quiet: quiet, builder: builder()}
			r.builder.Taps = &tap.Hub{}
			r.builder.Paths = r.paths
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
	screen  screen
	output  *steady         // standard error, behind screen
	limited *outage.Limited // what every line of log goes through
	level   slog.LevelVar   // of log; a reload may change it
	started config.Process  // of the config at the start
	app     *app.App
	meter   *meter.Registry
	reports *app.Reporter
	exports *exports
	admin   atomic.Pointer[admin.Server] // nil without one
	// live is set when there is a live line, and quietly when nothing is said of what runs.
	live, quietly bool
	drawn         drawn                         // for the console
	read          *config.Config                // the last one that was built
	config        atomic.Pointer[config.Config] // what runs
	since         atomic.Int64                  // when that came into force, in milliseconds of Unix time
}

// limitMemory has the process keep to its memory limit, and tells why it is not known.
func (r *runner) limitMemory(p config.Process) error {
	err := limitMemory(r.s, p)
	if _, set := r.s.Env("GOGC"); !set {
		garbage.Floor(uint64(memorylimit.Share(gcFloor, gcPart, 1)), gcPercent)
	}
	return err
}

// How far the heap grows between collections, where GOGC does not say: to a size of its own
// first, since what is live is small and bounded by in_flight, and by a percentage beyond.
const (
	gcFloor   = 64 << 20
	gcPart    = 4 // of the memory limit, at the most
	gcPercent = 150
)

func (r *runner) run(ctx context.Context) error {
	// A reload that is asked for before anything runs is the start itself.
	early := make(chan os.Signal, 1)
	signal.Notify(early, syscall.SIGHUP)
	defer signal.Stop(early)
	broken := make(chan os.Signal, 1) // nobody reads the log any more: what is moved goes on
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	_ = r.limitMemory(config.Process{}) // what is wrong is said with the config that says it again
	defer func() {
		if r.output != nil {
			r.limited.End()
			r.output.flush()
		}
	}()
	built, err := r.build(ctx)
	if r.exports != nil {
		defer r.exports.end(ctx)
	}
	if err != nil {
		return err
	}
	process := built.Plan.Process
	r.meter = &meter.Registry{Reports: r.reports.Dropped()}
	r.app = &app.App{Log: r.log, Meter: r.meter, Builder: r.builder}

	ctx, stop := r.signals(ctx)
	defer stop()
	r.introduce(built) // who reads it may count on a clean end
	operated := admin.Options{Pipelines: r.meter, Process: meter.Process{Version: Version(), Commit: commit()}, Ready: r.app.Ready, Degraded: r.app.Degraded, Store: r.app.Store}
	if err := r.exports.measure(ctx, operated.Gatherer()); err != nil {
		return err
	}
	if process.Admin != nil {
		operated.Address, operated.Path, operated.Route, operated.Log = process.Admin.Address, process.Admin.Path, app.AdminRoute(process.Admin), r.log
		operated.Access = accessOf(process.Admin)
		endConsole, err := r.console(&operated, process.Admin)
		if err != nil {
			return err
		}
		defer endConsole()
		server, err := admin.Listen(ctx, operated)
		if err != nil {
			return err
		}
		r.admin.Store(server)
		r.log.Info("admin server listens", meter.KeyAddress, server.Address())
		if process.Admin.Console != nil {
			r.log.Info("the console can be opened in a browser", meter.KeyAddress, server.Address(), "path", process.Admin.Path+"/")
		}
		go func() {
			if err := server.Serve(); err != nil {
				r.log.Error("admin server ended", meter.KeyError, err)
			}
		}()
		defer func() { _ = server.Close(context.WithoutCancel(ctx)) }() // the process ends next
	}
	began := time.Now()
	progress := r.progress()
	endReports := r.startReports(ctx)
	err = r.app.Run(ctx, built)
	if !progress.stop() {
		r.ended(began)
	}
	endReports(err)
	if at, ok := errors.AsType[*app.Placed](err); ok {
		return report(at.Found, r.s)
	}
	return err
}

// build reads and builds the config; the first time it also makes the logger.
func (r *runner) build(ctx context.Context) (*app.Built, error) {
	cfg, found := config.Load(r.paths, r.builder.Options(r.s.Env))
	if err := r.report(found); err != nil {
		return nil, err
	}
	if r.log == nil {
		dropped := plainDropped
		if r.flags.json(cfg.Process, r.s.Err) {
			dropped = jsonDropped
		}
		r.output = newSteady(r.s.Err, dropped)
		r.screen.w, r.screen.terminal = r.output, r.s.Err
		r.started = cfg.Process
		unknown := r.limitMemory(cfg.Process)
		r.flags.apply(cfg.Process, &r.level)
		r.limited = outage.Limit(r.flags.logger(cfg.Process, r.s.Err, &r.screen, &r.level).Handler())
		r.reports, r.log = r.builder.Report(cfg.Process, slog.New(r.limited))
		slog.SetDefault(r.log)
		if unknown != nil {
			r.log.Warn("the memory limit of the container is not known: set memory_limit_bytes, or GOMEMLIMIT", meter.KeyError, unknown)
		}
		r.exports = &exports{builder: r.builder, reports: r.reports}
		if err := r.exports.trace(ctx, cfg.Process); err != nil {
			return nil, err
		}
	} else if r.app != nil {
		if err := r.exports.prepare(ctx, cfg.Process, r.app.Drained()); err != nil {
			return nil, err
		}
	}
	r.read = cfg
	plan := cfg.Plan()
	if r.app == nil {
		r.inForce(cfg)
		r.decide(plan)
	}
	built, found := r.builder.Build(ctx, plan)
	if built != nil {
		found = append(found, built.InspectStart()...)
	}
	if err := r.report(found); err != nil {
		return nil, err
	}
	return built, nil
}

// inForce makes cfg the config that runs, as others see it.
func (r *runner) inForce(cfg *config.Config) {
	r.config.Store(cfg)
	r.since.Store(time.Now().UnixMilli())
}

// report tells what is wrong with a config: on a reload in the log where that is JSON, which
// a program may read.
func (r *runner) report(found config.Diagnostics) error {
	if r.app == nil || !r.flags.json(r.started, r.s.Err) {
		return report(found, r.s)
	}
	for _, d := range found {
		level := slog.LevelWarn
		if d.Severity == config.Error {
			level = slog.LevelError
		}
		r.log.Log(context.Background(), level, "the config has a mistake", "finding", d.String())
	}
	if found.HasErrors() {
		return errReported
	}
	return nil
}

// signals ends the context at the first SIGINT or SIGTERM, the process at the second SIGINT,
// and reloads at SIGHUP. SIGTERM may come any number of times, as a service manager and its
// wrappers send it. A broken pipe is an error of the write, not the end of the process. A
// reload that takes long holds up no other signal; one that comes meanwhile is the next. What
// a signal asks for is done before it is logged.
func (r *runner) signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	reloads := make(chan struct{}, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		for range reloads {
			r.reload(ctx)
		}
	}()
	go func() {
		defer close(reloads)
		interrupts := 0
		for sig := range ch {
			switch sig {
			case syscall.SIGPIPE:
			case syscall.SIGHUP:
				select {
				case reloads <- struct{}{}:
				default: // one that waits reads the same files
				}
			default:
				if sig == syscall.SIGINT {
					interrupts++
				}
				first := ctx.Err() == nil
				cancel(fmt.Errorf("signal: %s", sig))
				switch {
				case interrupts > 1:
					r.log.Error("second signal: ending at once, what is not settled is delivered again")
					r.limited.End()
					r.output.flush()
					os.Exit(exitFailed)
				case first:
					r.log.Info("stopping: reading has ended, waiting for what was read to settle; interrupt twice to end at once", "signal", sig.String())
				}
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
	if ctx.Err() != nil {
		r.log.Warn("not reloading the config: the process is stopping")
		return
	}
	r.log.Info("reloading the config")
	built, err := r.build(ctx)
	if err == nil {
		r.exports.replacing()
		err = r.app.Reload(ctx, built)
	}
	if at, ok := errors.AsType[*app.Placed](err); ok {
		err = r.report(at.Found)
	}
	if err != nil {
		r.exports.abandon(ctx)
	}
	switch {
	case errors.Is(err, errReported):
		r.log.Error("the new config was refused, the old one runs on")
	case err != nil:
		r.log.Error("the new config could not start, the old one runs on", meter.KeyError, err)
	default:
		r.inForce(r.read)
		r.flags.apply(built.Plan.Process, &r.level)
		if is, server := built.Plan.Process.Admin, r.admin.Load(); is != nil && server != nil {
			server.SetAccess(accessOf(is))
		}
		r.exports.adopt(ctx)
		r.warnOfLater(built.Plan.Process)
		r.log.Info("the new config runs")
	}
}
