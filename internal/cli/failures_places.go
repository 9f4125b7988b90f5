package cli

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/failures"
)

// failurePlace is where failed events can be read: rows in a file or in a queue, or the dead
// messages of a queue.
type failurePlace struct {
	pipelines []string // whose failed events they are
	machine   string   // or whose executions
	file      string
	queue     string
	dead      bool // its dead messages, which are no rows
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

// owner is whose f is, as far as that is known.
func (p *failurePlace) owner(f *failures.Failure) string {
	switch {
	case f.Context.Pipeline != "":
		return f.Context.Pipeline
	case p.machine != "":
		return "machine " + p.machine
	}
	return strings.Join(p.pipelines, ",")
}

// of reports whether failed events of a pipeline are there.
func (p *failurePlace) of(pipeline string) bool { return slices.Contains(p.pipelines, pipeline) }

// failureReader reads failed events of a config.
type failureReader struct {
	s       Streams
	flags   *failureFlags
	sel     failures.Selection
	builder *app.Builder
	cfg     *config.Config
	places  []*failurePlace // of rows
	store   bool            // the dead messages of the store's queues are looked for
	skipped failures.Skipped
	unasked error          // why the store could not be looked through
	raised  int            // dead messages that wait again
	without bool           // rows are not looked for in the store
	open    admin.Operator // the store, in the process that has it open
	from    *start         // where in the list to begin; nil: at its beginning
}

// start is a place of the list of failures.
type start struct {
	place, id string // id: after it; empty: the whole place
	only      bool   // and no other
}

// key names the open or dead jobs, or the rows, of a place.
func (p *failurePlace) key(dead bool) string {
	switch {
	case p.file != "":
		return "file " + p.file
	case p.dead:
		return "messages " + p.queue
	case dead:
		return "dead rows " + p.queue
	}
	return "rows " + p.queue
}

// begin is the ID after which a place is read, and whether it is read at all.
func (r *failureReader) begin(key string) (after string, read bool) {
	switch {
	case r.from == nil:
		return "", true
	case r.from.place != key:
		return "", false
	case r.from.only:
		return "", true
	}
	after = r.from.id
	r.from = nil // those behind it are read whole
	return after, true
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

// chosen is the pipelines whose failed events are meant.
func (r *failureReader) chosen() ([]*config.Pipeline, error) {
	if r.flags.machine != "" {
		return nil, r.knownMachine()
	}
	var chosen []*config.Pipeline
	var names []string
	for _, p := range r.cfg.Pipelines {
		names = append(names, p.Name)
		if r.flags.pipeline == "" || r.flags.pipeline == p.Name {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, usagef("there is no pipeline %q; the config has %s", r.flags.pipeline, strings.Join(names, ", "))
	}
	return chosen, nil
}

func (r *failureReader) knownMachine() error {
	if r.flags.pipeline != "" || r.flags.from != "" {
		return usagef("--machine is the executions of a machine, which are in no pipeline and no file: leave out --pipeline and --from")
	}
	var names []string
	for _, m := range r.cfg.Machines {
		if m.Name == r.flags.machine {
			return nil
		}
		names = append(names, m.Name)
	}
	if len(names) == 0 {
		return usagef("there is no machine %q: the config has none", r.flags.machine)
	}
	return usagef("there is no machine %q; the config has %s", r.flags.machine, strings.Join(names, ", "))
}

// find finds the places.
func (r *failureReader) find() error {
	chosen, err := r.chosen()
	if err != nil {
		return err
	}
	if r.flags.from != "" {
		r.places = []*failurePlace{{file: r.flags.from}}
		if len(chosen) == 1 {
			r.places[0].pipelines = []string{chosen[0].Name}
		}
		return nil
	}
	r.sel.Pipeline = r.flags.pipeline
	r.store = r.cfg.Plan().Store != nil
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
	if len(r.places) == 0 && !r.store {
		return errReported
	}
	return nil
}

// target adds the failure target of p as a place; the text says why it is none.
func (r *failureReader) target(p *config.Pipeline) string {
	u := p.FailureTarget.Use
	if p.FailureTarget.Keep {
		return "" // what failed is dead in the queue that p reads
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

// deadPlace is the place of the dead messages of a queue, nil when they are not meant; ofRows says
// that it holds rows, which somebody took out of the config.
func (r *failureReader) deadPlace(queue string) *failurePlace {
	at := &failurePlace{queue: queue, dead: true}
	for _, p := range r.cfg.Pipelines {
		if slices.Contains(p.Upstream(), queue) {
			at.pipelines = append(at.pipelines, p.Name)
		}
	}
	for _, m := range r.cfg.Machines {
		if queue == connector.StartQueue(m.Name) || queue == connector.StepQueue(m.Name) {
			at.machine = m.Name
		}
	}
	if of, ok := strings.CutPrefix(strings.TrimSuffix(queue, config.OverflowQueue("")[len(config.FailureQueue("")):]), config.FailureQueue("")); ok {
		at.dead, at.pipelines = false, []string{of} // rows: spill was taken out of the config
	}
	switch {
	case r.flags.machine != "" && at.machine != r.flags.machine, r.flags.pipeline != "" && !at.of(r.flags.pipeline):
		return nil
	}
	return at
}
