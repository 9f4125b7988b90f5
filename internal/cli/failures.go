package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
)

func failuresCommand(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "failures",
		Short: "See failed events, and send them through their pipeline again",
		Long: `See failed events, and send them through their pipeline again.

Failed events are read back from the failure target of the config's pipelines: a file, a
queue, or the queue in the store where they wait for a failure target that spills. A file
written by something else, such as standard output that was kept, is named with --from; it
may be compressed. Rows that Snowbridge wrote are read as well.`,
		Example: `  weir failures ls pipeline.hcl
  weir failures show pipeline.hcl --id 4711-9f86d081884c7d65
  weir failures replay pipeline.hcl --cause "400 Bad Request" --since 24h`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(failuresLs(s), failuresShow(s), failuresReplay(s))
	return c
}

// failureFlags choose failed events.
type failureFlags struct {
	pipeline, from, journal    string
	cause, since, until        string
	minSize, maxSize, limit    int
	ids                        []string
	asJSON, again, dry         bool
	through, payload, failedTo string
}

func (f *failureFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.pipeline, "pipeline", "", "failed events of this pipeline")
	c.Flags().StringVar(&f.from, "from", "", "file with failed events to read instead of the failure target; - is standard input")
	c.Flags().StringVar(&f.journal, "journal", "", "file that notes what was replayed of a file (default: the file's name with .replayed)")
	c.Flags().StringVar(&f.cause, "cause", "", "events whose error or error code contains this text, or matches it when it is /a regular expression/")
	c.Flags().StringVar(&f.since, "since", "", "events read at or after this time: RFC 3339, or a duration ago such as 90m, 24h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "events read before this time, written like --since")
	c.Flags().IntVar(&f.minSize, "min-size", 0, "events whose payload has at least this many bytes")
	c.Flags().IntVar(&f.maxSize, "max-size", 0, "events whose payload has at most this many bytes; 0 means no bound")
	c.Flags().StringArrayVar(&f.ids, "id", nil, "the event with this ID; repeat it for several")
}

// selection is what the flags choose.
func (f *failureFlags) selection(now time.Time) (sel failures.Selection, err error) {
	if f.minSize < 0 || f.maxSize < 0 || f.limit < 0 {
		return sel, usagef("--min-size, --max-size and --limit must not be negative")
	}
	sel = failures.Selection{MinSize: f.minSize, MaxSize: f.maxSize}
	if sel.Cause, err = failures.ParseCause(f.cause); err != nil {
		return sel, usagef("--cause: %w", err)
	}
	if sel.Since, err = instant("--since", f.since, now); err != nil {
		return sel, err
	}
	if sel.Until, err = instant("--until", f.until, now); err != nil {
		return sel, err
	}
	for _, id := range f.ids {
		if sel.IDs == nil {
			sel.IDs = map[string]bool{}
		}
		sel.IDs[id] = true
	}
	return sel, nil
}

// instant reads a time: RFC 3339, or a duration before now.
func instant(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("%s is a time such as 2026-11-20T10:00:00Z, or a duration ago such as 90m, 24h or 7d, not %q", flag, text)
}

// failurePlace is where failed events can be read.
type failurePlace struct {
	pipelines []string // whose failure target it is
	file      string   // or
	queue     string
}

func (p *failurePlace) String() string {
	if p.queue != "" {
		return fmt.Sprintf("queue %q", p.queue)
	}
	if p.file == "-" {
		return "standard input"
	}
	return p.file
}

func (p *failurePlace) pipeline() string { return strings.Join(p.pipelines, ",") }

// failureReader reads failed events of a config.
type failureReader struct {
	s       Streams
	flags   *failureFlags
	sel     failures.Selection
	builder *app.Builder
	cfg     *config.Config
	places  []*failurePlace
	skipped failures.Skipped
}

// reader reads the config and finds where its failed events are.
func (f *failureFlags) reader(s Streams, args []string) (*failureReader, error) {
	sel, err := f.selection(time.Now())
	if err != nil {
		return nil, err
	}
	b := builder()
	b.Log = slog.New(slog.DiscardHandler)
	paths := configPaths(args, s)
	if len(paths) == 0 {
		return nil, usagef("no config says where failed events are: name it, or set SNOWBRIDGE_CONFIG_FILE")
	}
	cfg, err := load(paths, b, s)
	if err != nil {
		return nil, err
	}
	r := &failureReader{s: s, flags: f, sel: sel, builder: b, cfg: cfg}
	if err := r.find(); err != nil {
		return nil, err
	}
	return r, nil
}

// find finds the places.
func (r *failureReader) find() error {
	var chosen []*config.Pipeline
	var names []string
	for _, p := range r.cfg.Pipelines {
		names = append(names, p.Name)
		if r.flags.pipeline == "" || r.flags.pipeline == p.Name {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return usagef("there is no pipeline %q; the config has %s", r.flags.pipeline, strings.Join(names, ", "))
	}
	if r.flags.from != "" {
		r.places = []*failurePlace{{file: r.flags.from}}
		if len(chosen) == 1 {
			r.places[0].pipelines = []string{chosen[0].Name}
		}
		return nil
	}
	var notes []string
	for _, p := range chosen {
		if p.FailureTarget.Spill {
			r.place(p.Name, failurePlace{queue: config.FailureQueue(p.Name)})
		}
		if p.Overflow() != nil {
			r.place(p.Name, failurePlace{queue: config.OverflowQueue(p.Name)})
		}
		if note := r.target(p); note != "" {
			notes = append(notes, note)
		}
	}
	for _, n := range notes {
		fmt.Fprintf(r.s.Err, "weir: %s\n", n)
	}
	if len(r.places) == 0 {
		return errReported
	}
	return nil
}

// target adds the failure target of p as a place; the text says why it is none.
func (r *failureReader) target(p *config.Pipeline) string {
	u := p.FailureTarget.Use
	if p.FailureTarget.Keep {
		name, ok := p.Source.Use.Attribute("name")
		if !ok {
			name = "NAME"
		}
		return fmt.Sprintf("pipeline %q: what failed is kept in the queue that it reads, dead: see weir queue show %s --dead, and weir queue retry", p.Name, name)
	}
	attribute := map[string]string{"file": "path", "queue": "name"}[u.Name]
	if attribute == "" {
		hint := "read a copy of it with --from FILE"
		if u.Name == "stdout" {
			hint = "keep its output in a file and read that with --from FILE"
		}
		what := "failed events"
		if p.FailureTarget.Spill {
			what = "failed events that were delivered"
		}
		return fmt.Sprintf("pipeline %q: %s cannot be read back from its failure target %q: %s", p.Name, what, u.Name, hint)
	}
	value, ok := u.Attribute(attribute)
	if !ok {
		return fmt.Sprintf("pipeline %q: the %s of its failure target %q is not known: name the file with --from FILE", p.Name, attribute, u.Name)
	}
	if u.Name == "queue" {
		r.place(p.Name, failurePlace{queue: value})
		return ""
	}
	r.place(p.Name, failurePlace{file: connector.Path(u.Dir(), value)})
	return ""
}

// place adds a place, or a pipeline to one that is there.
func (r *failureReader) place(pipeline string, at failurePlace) {
	for _, p := range r.places {
		if p.file == at.file && p.queue == at.queue {
			p.pipelines = append(p.pipelines, pipeline)
			return
		}
	}
	at.pipelines = []string{pipeline}
	r.places = append(r.places, &at)
}

// journal is the journal of a place; empty where there is none.
func (r *failureReader) journal(p *failurePlace) string {
	switch {
	case r.flags.journal != "":
		return r.flags.journal
	case p.file == "" || p.file == "-":
		return ""
	}
	return failures.JournalOf(p.file)
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// scan calls fn with each chosen event of every place; replayed says that its journal has
// it. It ends when fn returns errEnough.
func (r *failureReader) scan(ctx context.Context, fn func(p *failurePlace, f *failures.Failure, replayed bool) error) error {
	for _, p := range r.places {
		has := func(string) bool { return false }
		if name := r.journal(p); name != "" && p.file != "" {
			var err error
			if has, _, err = failures.Replayed(name); err != nil {
				return err
			}
		}
		err := r.each(ctx, p, func(f *failures.Failure) error {
			if !r.sel.Match(f) {
				return nil
			}
			return fn(p, f, has(f.ID))
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *failureReader) each(ctx context.Context, p *failurePlace, fn func(*failures.Failure) error) error {
	if p.queue != "" {
		return r.eachJob(ctx, p.queue, fn)
	}
	var in io.Reader
	if p.file == "-" {
		in = r.s.input()
	}
	skipped, err := failures.ScanFile(ctx, p.file, in, fn, r.flags.from != "")
	r.skipped.Other += skipped.Other
	r.skipped.Damaged += skipped.Damaged
	if r.skipped.First == nil {
		r.skipped.First = skipped.First
	}
	return err
}

// eachJob reads a queue: through the process that has the store open, where there is one.
func (r *failureReader) eachJob(ctx context.Context, name string, fn func(*failures.Failure) error) error {
	opener, found := r.builder.OpenerOf(ctx, r.cfg.Plan())
	if err := report(found, r.s); err != nil {
		return err
	}
	err := operateOn(ctx, r.cfg, opener, mustExist, func(o admin.Operator) error {
		for _, dead := range []bool{false, true} {
			for after := ""; ; {
				page, err := o.Jobs(ctx, name, admin.Selection{Dead: dead}, after, 500)
				if err != nil {
					return err
				}
				for i := range page.Jobs {
					f, err := failures.OfMessage(messageOf(&page.Jobs[i]))
					if err != nil {
						r.skipped.Add(err, fmt.Sprintf("queue %q, job %s", name, page.Jobs[i].ID))
						continue
					}
					f.ID, f.Dead, f.Refusal = page.Jobs[i].ID, dead, string(page.Jobs[i].Cause)
					if err := fn(f); err != nil {
						return err
					}
				}
				if after = page.Next; after == "" {
					break
				}
			}
		}
		return nil
	})
	if errors.Is(err, errNoStore) {
		return nil // nothing has run, so nothing has failed
	}
	return err
}

// messageOf is the message of a job.
func messageOf(j *admin.Job) *event.Message {
	m := &event.Message{Key: string(j.Key)}
	if j.Payload != nil {
		m.Data = *j.Payload
	}
	m.SetRaw(m.Data)
	if j.Raw != nil {
		m.SetRaw(*j.Raw)
	}
	m.Meta.ID, m.Meta.Headers, m.Times.Created = string(j.MessageID), j.Headers, j.Created
	return m
}

// tell says what was left out.
func (r *failureReader) tell(s failures.Skipped) {
	if s.Other > 0 && r.flags.from == "" {
		fmt.Fprintf(r.s.Err, "%s left out: no failed events\n", plural(s.Other))
	}
	if s.Damaged > 0 {
		fmt.Fprintf(r.s.Err, "%s left out: damaged, the first is %v\n", plural(s.Damaged), s.First)
	}
}

// causes counts failed events by cause.
type causes struct {
	counts map[string]int
	other  int // of causes that are too many
}

const (
	mostCauses  = 1000
	shownCauses = 20
)

func (c *causes) add(cause string) {
	cause = middle(cause, 100)
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	if _, known := c.counts[cause]; !known && len(c.counts) >= mostCauses {
		c.other++
		return
	}
	c.counts[cause]++
}

// sorted is the causes, the most frequent first.
func (c *causes) sorted() []string {
	names := make([]string, 0, len(c.counts))
	for name := range c.counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := c.counts[b] - c.counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

func (c *causes) print(w io.Writer) {
	names := c.sorted()
	fmt.Fprintln(w, "COUNT  CAUSE")
	rest := c.other
	for i, name := range names {
		if i >= shownCauses {
			rest += c.counts[name]
			continue
		}
		fmt.Fprintf(w, "%5d  %s\n", c.counts[name], dash(name))
	}
	if rest > 0 {
		fmt.Fprintf(w, "%5d  (other causes)\n", rest)
	}
}
