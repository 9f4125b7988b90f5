package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
)

func failuresReplay(s Streams) *cobra.Command {
	var flags failureFlags
	c := &cobra.Command{
		Use:   "replay [FILE|DIRECTORY...]",
		Short: "Send whatever has failed or died again",
		Long: `Send whatever has failed or died again, all of it or what is chosen.

Messages that are dead in a queue wait in it again, like new ones, for the pipeline that reads
it; executions that failed start again with their input. A running process does so at once, and
otherwise the next weir run.

The payloads of failed events are sent through their pipeline: the same transforms, target and
failure target, with the failed events in place of the source, and workspace, source,
destination, key and message id as they were. An event that fails again goes to the failure
target again; of what fails meanwhile nothing is read. Where several pipelines have failed
events, one is replayed after the other.

The payload that is sent is the one the pipeline read, where it was kept: in queues, and in
event forwarding errors. Generic errors and size violations keep the payload as the
transforms left it. --payload chooses. Events whose payload was cut are left out.

A file is not changed. What was replayed of it is noted in a journal beside it, so that the
same command sends what is left after it was stopped, and nothing twice; --again ignores the
journal. From a queue, an event is removed when it is delivered, filtered or failed again. When
the process is killed, what was in flight at that moment is sent again by the same command, and
may come twice; nothing is lost, and what was dead stays dead until it is sent.

The process that writes the failure file may go on, with --failed-to FILE for what fails
again; failed events in a queue are replayed while no process has its store open. With --from,
--through, --payload or --failed-to, dead messages are left where they are.

The exit code is 0 only when all chosen events were replayed.`,
		Example: `  weir failures replay pipeline.hcl --cause "400 Bad Request" --dry-run
  weir failures replay pipeline.hcl --from failed.jsonl.gz --failed-to again.jsonl`,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := flags.reader(s, args)
			if err != nil {
				return err
			}
			return r.replay(c.Context())
		},
	}
	flags.add(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "most events to replay; 0 means all")
	c.Flags().BoolVar(&flags.dry, "dry-run", false, "list what would be replayed, and replay nothing")
	c.Flags().BoolVar(&flags.again, "again", false, "replay also what the journal of the file says was replayed")
	c.Flags().StringVar(&flags.through, "through", "", "pipeline to send the events through (default: the one they failed in)")
	c.Flags().StringVar(&flags.payload, "payload", "", "read: as it was read, and no others; latest: as the transforms left it (default: as it was read, where it was kept)")
	c.Flags().StringVar(&flags.failedTo, "failed-to", "", "file for events that fail again, instead of the failure target")
	return c
}

// replay checks what is asked for and does it.
func (r *failureReader) replay(ctx context.Context) error {
	switch r.flags.payload {
	case "", "read", "latest":
	default:
		return usagef(`--payload is "read" or "latest", not %q`, r.flags.payload)
	}
	if r.flags.through != "" {
		if _, ok := r.cfg.Pipeline(r.flags.through); !ok {
			return usagef("there is no pipeline %q", r.flags.through)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	failed, err := r.failed(ctx)
	if err != nil {
		return err
	}
	raised, err := r.raise(ctx)
	if err != nil {
		return err
	}
	if len(failed) == 0 {
		if raised == 0 {
			fmt.Fprintln(r.s.Out, r.none())
		}
		if r.tell(r.skipped); r.unasked != nil {
			return errReported
		}
		return nil
	}
	var errs []error
	for _, p := range failed {
		one := *r
		one.raised = raised
		if err := one.through(ctx, p, len(failed) > 1); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if r.unasked != nil {
		r.skipped = failures.Skipped{}
		r.tell(r.skipped)
		errs = append(errs, errReported)
	}
	return errors.Join(errs...)
}

// failed are the pipelines whose failed events are replayed. When the config has several and the
// command names none, they are those that have some.
func (r *failureReader) failed(ctx context.Context) ([]*config.Pipeline, error) {
	switch {
	case r.flags.machine != "":
		return nil, nil
	case r.flags.pipeline != "":
		p, _ := r.cfg.Pipeline(r.flags.pipeline) // find has seen it
		if len(r.places) == 0 {
			return nil, nil
		}
		if shared := r.others(p); len(shared) > 0 && r.flags.from == "" {
			fmt.Fprintf(r.s.Err, "weir: failed events of the pipelines %s are in the same place: those that do not say where they failed are taken for events of %q\n",
				strings.Join(shared, ", "), p.Name)
		}
		return []*config.Pipeline{p}, nil
	case len(r.cfg.Pipelines) == 1 && len(r.places) > 0, r.flags.from != "" && r.flags.through != "":
		return r.cfg.Pipelines[:1], nil
	}
	// Which have some? Those that share a place know their own.
	have := map[string]bool{}
	nameless, shared := 0, false
	for _, at := range r.places {
		shared = shared || len(at.pipelines) > 1
	}
	look := *r
	look.store = r.rowsInStore()
	err := look.scan(ctx, func(at *failurePlace, f *failures.Failure, _ bool) error {
		switch {
		case at.dead:
		case f.Context.Pipeline != "":
			have[f.Context.Pipeline] = true
		case len(at.pipelines) == 1:
			have[at.pipelines[0]] = true
		default:
			nameless++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var names []string
	var some []*config.Pipeline
	for _, p := range r.cfg.Pipelines {
		if names = append(names, p.Name); have[p.Name] {
			some = append(some, p)
		}
	}
	if nameless > 0 || (shared || r.flags.from != "") && len(some) == 0 {
		return nil, usagef("say which pipeline's events are replayed: --pipeline with one of %s", strings.Join(names, ", "))
	}
	return some, nil
}

// through replays the failed events of one pipeline; of several says that others are replayed
// by the same command.
func (r *failureReader) through(ctx context.Context, failed *config.Pipeline, several bool) error {
	if several {
		r.builder = builder()
		r.builder.Log = slog.New(slog.DiscardHandler)
		r.places = slices.DeleteFunc(slices.Clone(r.places), func(at *failurePlace) bool { return !at.of(failed.Name) })
		r.sel.Pipeline, r.sel.Named = failed.Name, slices.ContainsFunc(r.places, func(at *failurePlace) bool { return len(at.pipelines) > 1 })
	}
	r.skipped = failures.Skipped{}
	p := failed
	if r.flags.through != "" {
		p, _ = r.cfg.Pipeline(r.flags.through) // replay has seen it
	}
	plan := failures.Plan{Selection: r.sel, Limit: r.flags.limit, Tally: &failures.Tally{}}
	switch r.flags.payload {
	case "read":
		plan.Which = failures.Read
	case "latest":
		plan.Which = failures.Latest
	default:
		var err error
		if plan.Which, err = r.start(p); err != nil {
			return err
		}
	}
	if r.flags.dry {
		return r.rehearse(ctx, p, plan)
	}
	return r.run(ctx, p, plan)
}

// others are the pipelines that share the failure target of p.
func (r *failureReader) others(p *config.Pipeline) []string {
	var names []string
	for _, at := range r.everywhere() {
		if !at.of(p.Name) {
			continue
		}
		for _, name := range at.pipelines {
			if name != p.Name && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// start is which payload is meant when p reads a queue: the payload as it was read is what the
// first pipeline read, and p may want what that one made of it. Without transforms, p has failed
// with the very payload that it read; otherwise nobody guesses.
func (r *failureReader) start(p *config.Pipeline) (failures.Which, error) {
	name := p.Source.Use.Queue()
	if name == "" || r.flags.through != "" {
		return failures.Original, nil
	}
	for _, before := range r.cfg.Pipelines {
		for _, u := range before.Uses() {
			if u.Block != "target" || u.Queue() != name || len(before.Transform.Use) == 0 {
				continue
			}
			if len(p.Transform.Use) == 0 {
				return failures.Latest, nil
			}
			return failures.Original, usagef("the pipeline %q reads the queue %q, which the pipeline %q writes after its transforms, and the payload as it was read is what %q read: "+
				"say --through %s to start there, or --payload latest for what the transforms of %q left",
				p.Name, name, before.Name, before.Name, before.Name, p.Name)
		}
	}
	return failures.Original, nil
}

// rehearse lists what a replay would send.
func (r *failureReader) rehearse(ctx context.Context, p *config.Pipeline, plan failures.Plan) error {
	t := newFailureTable(r.s.Out)
	asRead, latest, before, cut := 0, 0, 0, 0
	var why error
	look := *r
	look.store = r.rowsInStore()
	err := look.scan(ctx, func(at *failurePlace, f *failures.Failure, replayed bool) error {
		if at.dead {
			return nil // raise has told of them
		}
		_, read, err := f.Replayed(plan.Which)
		switch {
		case replayed && !r.flags.again:
			before++
			return nil
		case err != nil:
			if cut++; why == nil {
				why = fmt.Errorf("%s: %w", f.ID, err)
			}
			return nil
		case read:
			asRead++
		default:
			latest++
		}
		if t.n < tableRows {
			t.add(at, f, replayed)
		}
		if plan.Limit > 0 && asRead+latest >= plan.Limit {
			return errEnough
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if more := asRead + latest - t.n; more > 0 {
		fmt.Fprintf(r.s.Out, "and %d more\n", more)
	}
	fmt.Fprintf(r.s.Out, "%s would be sent through the pipeline %q: %d as read, %d as the transforms left them\n", events(asRead+latest), p.Name, asRead, latest)
	r.leftOut(int64(before), int64(cut), why)
	r.tell(look.skipped)
	return nil
}

// events is "1 failed event" or "5 failed events".
func events(n int) string { return strings.Replace(plural(n), "message", "failed event", 1) }

// leftOut says what was chosen and not sent.
func (r *failureReader) leftOut(before, cut int64, why error) {
	if before > 0 {
		fmt.Fprintf(r.s.Out, "%s left out: replayed before; --again sends them too\n", events(int(before)))
	}
	if cut > 0 {
		fmt.Fprintf(r.s.Out, "%s left out: they have no payload that can be sent (%v)\n", events(int(cut)), why)
	}
}

// sources is what the pipeline reads.
func (r *failureReader) sources(plan failures.Plan) []connector.Source {
	var all []connector.Source
	for _, p := range r.places {
		if p.queue != "" {
			all = append(all, &failures.QueueSource{Plan: plan, Name: p.queue, Store: func() queue.Store { return r.builder.Store }})
			continue
		}
		all = append(all, &failures.FileSource{Plan: plan, Path: p.file, Journal: r.journal(p), Again: r.flags.again, Must: r.flags.from != "", In: r.s.input()})
	}
	return all
}

// standsOnStore reports whether a replay through p needs the store.
func (r *failureReader) standsOnStore(p *config.Pipeline) bool {
	for _, at := range r.places {
		if at.queue != "" {
			return true
		}
	}
	return p.FailureTarget.Spill || p.Overflow() != nil && r.flags.failedTo == "" || len(p.Downstream()) > 0 // the source is replaced
}

// errReplayed is the cause with which what runs beside a replay is stopped at its end.
var errReplayed = errors.New("everything is replayed")

// run replays.
func (r *failureReader) run(ctx context.Context, p *config.Pipeline, plan failures.Plan) error {
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log := logFlags{}.logger(r.cfg.Process, r.s.Err, r.s.Err, &level)
	if r.flags.failedTo != "" {
		path, err := filepath.Abs(r.flags.failedTo)
		if err != nil {
			return fmt.Errorf("find --failed-to %s: %w", r.flags.failedTo, err)
		}
		p.FailureTarget = &config.FailureTarget{Use: config.FileUse(path)}
	}
	p.OnFailure = config.FailureExit // who waits for the command is told, and decides
	a := &app.App{Log: log, Meter: &meter.Registry{}, Builder: r.builder}
	source := &failures.Sources{All: r.sources(plan), Closed: func() { a.Stop(errReplayed) }}
	r.builder.Log = log
	r.builder.Wrap = func(parts *pipeline.Parts) {
		if parts.Name == p.Name {
			parts.Source, parts.Backup = source, pipeline.Sink{} // what was read is backed up
		}
	}
	built, found := r.builder.Build(ctx, r.cfg.Plan())
	if err := report(found, r.s); err != nil {
		return err
	}
	built.Only(p.Name)
	if !r.standsOnStore(p) {
		built.Store = nil
	}
	began := time.Now()
	line := begin(r.s, "replaying failed events")
	watched, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		watch(line, plan.Tally, watched)
	}()
	err := a.Run(ctx, built)
	close(watched)
	<-ended
	line.stop()
	if errors.Is(err, queue.ErrInUse) {
		return fmt.Errorf("%w.\nWhat waits in the store is replayed while no process has it open; what failed into a file at any time, with --from FILE --failed-to FILE", err)
	}
	if errors.Is(err, syscall.EAGAIN) && r.flags.failedTo == "" {
		return fmt.Errorf("%w.\nA process that runs keeps the file of its failure target to itself: --failed-to FILE has what fails again written elsewhere", err)
	}
	return r.conclude(ctx, a, p, plan.Tally, time.Since(began), err)
}

// watch keeps the live line up to date.
func watch(line *work, t *failures.Tally, quit <-chan struct{}) {
	tick := time.NewTicker(showAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			line.say("replaying failed events: %d sent, %d settled", t.Sent.Load(), t.Settled.Load())
		case <-quit:
			return
		}
	}
}

// conclude says what a replay has done.
func (r *failureReader) conclude(ctx context.Context, a *app.App, p *config.Pipeline, t *failures.Tally, took time.Duration, err error) error {
	var m *meter.Pipeline
	for _, x := range a.Meter.Pipelines() {
		if x.Name == p.Name {
			m = x
		}
	}
	if m == nil {
		return err // it did not begin
	}
	sent, settled := t.Sent.Load(), t.Settled.Load()
	switch {
	case sent == 0 && t.Before.Load()+t.NoPayload.Load()+t.Gone.Load() == 0 && err == nil:
		if r.raised == 0 {
			fmt.Fprintln(r.s.Out, r.none())
		}
	default:
		fmt.Fprintf(r.s.Out, "%s replayed through the pipeline %q in %s: %d delivered, %d filtered, %d failed again\n",
			events(int(settled)), p.Name, took.Round(time.Millisecond), m.Target.Written.Load(), m.Filtered.Load(), m.Invalid.Load()+m.Oversized.Load())
	}
	if read := t.AsRead.Load(); sent > read {
		fmt.Fprintf(r.s.Out, "%d of them were sent as the transforms had left them: their payload as it was read is not kept\n", sent-read)
	}
	if n := t.Doubtful.Load(); n > 0 {
		fmt.Fprintf(r.s.Out, "%d of them hold U+FFFD, which may stand for bytes that were lost when they failed\n", n)
	}
	r.leftOut(t.Before.Load(), t.NoPayload.Load(), t.Refused())
	if n := t.Gone.Load(); n > 0 {
		fmt.Fprintf(r.s.Out, "%s left out: another process has taken them\n", events(int(n)))
	}
	r.tell(t.Skipped())
	if sent > settled {
		fmt.Fprintf(r.s.Out, "%s sent and not settled: the same command sends them again\n", events(int(sent-settled)))
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		fmt.Fprintln(r.s.Out, "stopped: the same command goes on")
		return errReported
	case t.NoPayload.Load()+t.Gone.Load() > 0 || sent > settled:
		return errReported
	}
	return nil
}
