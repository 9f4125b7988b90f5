package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
)

// tableRows is how many events a table lists when --limit does not say.
const tableRows = 100

func failuresLs(s Streams) *cobra.Command {
	var flags failureFlags
	c := &cobra.Command{
		Use:   "ls [FILE|DIRECTORY...]",
		Short: "List whatever has failed or died, and count it by cause",
		Long: `List failed events, dead messages and executions that failed, and count them by cause. TIME
is when the event was read from its source, SIZE the bytes of its payload, SCOPE its workspace,
source and destination. REPLAYED events were sent through the pipeline again by weir failures
replay. The counts are over all events that are chosen, also those that
--limit leaves out. --json prints one JSON object a line, and the counts on standard error.`,
		Example: "  weir failures ls pipeline.hcl --since 24h --cause /timeout|refused/",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := flags.reader(s, args)
			if err != nil {
				return err
			}
			return r.list(c)
		},
	}
	flags.add(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "most events to list; 0 means 100 in a table, and all as JSON")
	c.Flags().BoolVar(&flags.asJSON, "json", false, "print lines of JSON")
	return c
}

// failureLine is a failed event as `weir failures ls --json` prints it; show adds the rest.
type failureLine struct {
	ID        string        `json:"id"`
	Pipeline  string        `json:"pipeline,omitempty"`
	Place     string        `json:"place"`
	Time      time.Time     `json:"time,omitzero"`
	Kind      failures.Kind `json:"kind"`
	Cause     string        `json:"cause"`
	Type      string        `json:"type,omitempty"`
	Code      string        `json:"code,omitempty"`
	Size      int           `json:"size"`
	Maximum   int           `json:"maximum,omitempty"`
	Processor string        `json:"processor"`
	// Whether the payload is as it was read, and whether it is whole.
	AsRead   bool   `json:"as_read"`
	Whole    bool   `json:"whole"`
	Dead     bool   `json:"dead,omitempty"`
	Refusal  string `json:"refusal,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`

	Machine     string     `json:"machine,omitempty"`
	Workspace   admin.Text `json:"workspace,omitempty"`
	Source      admin.Text `json:"source,omitempty"`
	Destination admin.Text `json:"destination,omitempty"`
	MessageID   admin.Text `json:"message_id,omitempty"`
	Died        time.Time  `json:"died,omitzero"`
	Attempts    int        `json:"attempts,omitempty"`

	Errors  []string       `json:"errors,omitempty"`
	Payload *admin.Payload `json:"payload,omitempty"`
	Latest  *admin.Payload `json:"latest_state,omitempty"`
	Key     admin.Text     `json:"key,omitempty"`
	Headers event.Headers  `json:"headers,omitempty"`
}

func lineOf(p *failurePlace, f *failures.Failure, replayed bool) failureLine {
	scope := f.Context.Scope
	return failureLine{ID: f.ID, Pipeline: cmp.Or(f.Context.Pipeline, strings.Join(p.pipelines, ",")), Place: p.String(), Time: f.Time, Kind: f.Kind, Cause: f.Cause(), Type: f.Type,
		Code: f.Code, Size: f.Size(), Maximum: f.Maximum, Processor: strings.TrimSpace(f.Artifact + " " + f.Version), AsRead: f.AsRead, Whole: !f.Cut,
		Dead: f.Dead, Refusal: f.Refusal, Replayed: replayed, Machine: p.machine,
		Workspace: admin.Text(scope.Workspace), Source: admin.Text(scope.Source), Destination: admin.Text(scope.Destination),
		MessageID: admin.Text(f.Context.ID), Died: f.Died, Attempts: f.Attempts}
}

// compact writes v as one line of JSON.
func compact(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// list prints the chosen events.
func (r *failureReader) list(c *cobra.Command) error {
	p := begin(r.s, "reading failed events")
	var by causes
	t := newFailureTable(r.s.Out)
	most := r.flags.limit
	if most == 0 && !r.flags.asJSON {
		most = tableRows
	}
	n, bytes := 0, int64(0)
	err := r.scan(c.Context(), func(at *failurePlace, f *failures.Failure, replayed bool) error {
		n, bytes = n+1, bytes+int64(f.Size())
		by.add(f.Cause())
		if n%1000 == 0 {
			p.say("reading failed events: %d found", n)
		}
		switch {
		case most > 0 && n > most:
		case r.flags.asJSON:
			return compact(r.s.Out, lineOf(at, f, replayed))
		default:
			t.add(at, f, replayed)
		}
		return nil
	})
	p.stop()
	if err != nil {
		return err
	}
	summary := r.s.Out
	if r.flags.asJSON {
		summary = r.s.Err
	}
	if n == 0 {
		fmt.Fprintln(summary, r.none())
	} else {
		if !r.flags.asJSON {
			if err := t.flush(); err != nil {
				return err
			}
			if n > most {
				fmt.Fprintf(r.s.Out, "and %d more: raise --limit (%d)\n", n-most, most)
			}
			fmt.Fprintln(r.s.Out)
		}
		by.print(summary)
		fmt.Fprintf(summary, "%5d  in all, %s of payload\n", n, size(bytes))
	}
	r.tell(r.skipped)
	return nil
}

// none says that there is nothing.
func (r *failureReader) none() string {
	if r.sel.Empty() {
		return "there are no failed events"
	}
	return "no failed event is chosen"
}

// failureTable prints failed events as a person reads them.
type failureTable struct {
	w      io.Writer
	n      int
	rows   [][]string
	scoped bool // one of them says whose it is
}

func newFailureTable(w io.Writer) *failureTable { return &failureTable{w: w} }

// The columns of a table; that of scopes is left out where no event has one.
var failureColumns = []string{"ID", "TIME", "PIPELINE", "SCOPE", "CAUSE", "SIZE", "REPLAYED", "PAYLOAD"}

const scopeColumn = 3

func (t *failureTable) add(p *failurePlace, f *failures.Failure, replayed bool) {
	t.n++
	at := "-"
	if !f.Time.IsZero() {
		at = f.Time.Format(time.RFC3339)
	}
	did := "-"
	if replayed {
		did = "yes"
	}
	scope := "-"
	if s := f.Context.Scope; s != (event.Scope{}) {
		scope, t.scoped = shorten(dash(s.Workspace)+"/"+dash(s.Source)+"/"+dash(s.Destination), 60), true
	}
	t.rows = append(t.rows, []string{f.ID, at, dash(shorten(p.owner(f), 40)), scope, dash(middle(f.Cause(), 60)), strconv.Itoa(f.Size()), did, shorten(string(f.Payload), 40)})
}

func (t *failureTable) flush() error {
	if t.n == 0 {
		return nil
	}
	tab := newTable(t.w)
	for _, row := range append([][]string{failureColumns}, t.rows...) {
		if !t.scoped {
			row = slices.Delete(slices.Clone(row), scopeColumn, scopeColumn+1)
		}
		fmt.Fprintln(tab, strings.Join(row, "\t"))
	}
	return tab.Flush()
}

func failuresShow(s Streams) *cobra.Command {
	var flags failureFlags
	c := &cobra.Command{
		Use:   "show [FILE|DIRECTORY...]",
		Short: "Show failed events whole",
		Long: `Show failed events whole: every error, and the payload as it was read or as the transforms
left it, whichever is kept. Without --id or another choice it is the first event.`,
		Example: "  weir failures show pipeline.hcl --id 4711-9f86d081884c7d65",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := flags.reader(s, args)
			if err != nil {
				return err
			}
			if flags.limit == 0 {
				flags.limit = max(1, len(flags.ids))
			}
			return r.show(c.Context())
		},
	}
	flags.add(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "most events to show (default: 1, or as many as --id names)")
	c.Flags().BoolVar(&flags.asJSON, "json", false, "print lines of JSON; payloads that are not UTF-8 as {\"base64\": \"...\"}")
	return c
}

// export writes failed events whole, as lines of JSON.
func failuresExport(s Streams) *cobra.Command {
	var flags failureFlags
	c := &cobra.Command{
		Use:   "export [FILE|DIRECTORY...]",
		Short: "Write failed events whole to standard output, as lines of JSON",
		Long: `Write failed events, dead messages and the inputs of executions that failed to standard
output, whole, as lines of JSON like those of weir failures show --json. Nothing is changed.`,
		Example: "  weir failures export pipeline.hcl --machine orders > failed.jsonl",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := flags.reader(s, args)
			if err != nil {
				return err
			}
			flags.asJSON = true
			n, err := r.print(c.Context())
			if err == nil {
				fmt.Fprintf(s.Err, "%s exported\n", events(n))
				r.tell(r.skipped)
			}
			return err
		},
	}
	flags.add(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "most events to write; 0 means all")
	return c
}

func (r *failureReader) show(ctx context.Context) error {
	n, err := r.print(ctx)
	if err == nil && n == 0 {
		r.tell(r.skipped)
		return fmt.Errorf("%s", r.none())
	}
	return err
}

// print prints the chosen events whole, and says how many.
func (r *failureReader) print(ctx context.Context) (int, error) {
	n := 0
	err := r.scan(ctx, func(at *failurePlace, f *failures.Failure, replayed bool) error {
		line := lineOf(at, f, replayed)
		line.Errors, line.Payload = f.Errors, (*admin.Payload)(&f.Payload)
		if f.Latest != nil {
			line.Latest = (*admin.Payload)(&f.Latest)
		}
		line.Key = admin.Text(f.Context.Key)
		if m := f.Message; m != nil {
			line.Headers = m.Meta.Headers
		}
		if n++; r.flags.asJSON {
			if err := compact(r.s.Out, line); err != nil {
				return err
			}
		} else {
			if n > 1 {
				fmt.Fprintln(r.s.Out)
			}
			printFailure(r.s.Out, &line, f)
		}
		if r.flags.limit > 0 && n >= r.flags.limit {
			return errEnough
		}
		return nil
	})
	return n, err
}

// printFailure prints an event as a person reads it. What could command a terminal is
// escaped.
func printFailure(w io.Writer, line *failureLine, f *failures.Failure) {
	field := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-10s %s\n", name, shorten(text, len(text)*8))
		}
	}
	field("id", line.ID)
	field("pipeline", line.Pipeline)
	field("machine", line.Machine)
	field("place", line.Place)
	if !f.Time.IsZero() {
		field("read at", f.Time.Format(time.RFC3339))
	}
	field("kind", string(line.Kind))
	field("written by", line.Processor)
	field("type", f.Type)
	field("code", f.Code)
	if f.Kind == failures.SizeViolation {
		field("cause", f.Cause())
	} else {
		for _, text := range f.Errors {
			field("cause", text)
		}
	}
	field("refused", f.Refusal)
	if line.Replayed {
		field("replayed", "yes")
	}
	field("workspace", f.Context.Scope.Workspace)
	field("source", f.Context.Scope.Source)
	field("destination", f.Context.Scope.Destination)
	field("message id", f.Context.ID)
	field("key", f.Context.Key)
	if f.Dead && !f.Died.IsZero() {
		field("died at", f.Died.Format(time.RFC3339))
	}
	if f.Attempts > 0 {
		field("attempts", strconv.Itoa(f.Attempts))
	}
	what := "payload as the transforms left it"
	switch {
	case line.Machine != "":
		what = "input of the execution"
	case f.Kind == failures.DeadMessage:
		what = "payload as it is in the queue"
	case f.AsRead:
		what = "payload as it was read"
	}
	if f.Cut {
		what += fmt.Sprintf(", cut to %d bytes, so that it cannot be replayed", len(f.Payload))
	}
	if f.Doubtful {
		what += "; U+FFFD in it may stand for bytes that were lost"
	}
	fmt.Fprintf(w, "\n%s:\n%s\n", what, printablePayload(f.Payload))
	if f.Latest != nil {
		what = "payload as the transforms left it"
		if f.LatestCut {
			what += ", cut"
		}
		fmt.Fprintf(w, "\n%s:\n%s\n", what, printablePayload(f.Latest))
	}
}

// printablePayload is text with what is not printable escaped, line ends and tabs left as
// they are; other bytes as a dump.
func printablePayload(b []byte) string {
	if !utf8.Valid(b) {
		return hex.Dump(b)
	}
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		switch r {
		case '\n', '\t':
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, shorten(string(r), 8)...)
		}
	}
	return string(out)
}
