package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
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
		Short: "List failed events, and count them by cause",
		Long: `List failed events, and count them by cause. TIME is when the event was read from its
source, SIZE the bytes of its payload. REPLAYED events were sent through the pipeline again
by weir failures replay. The counts are over all events that are chosen, also those that
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

	Errors  []string       `json:"errors,omitempty"`
	Payload *admin.Payload `json:"payload,omitempty"`
	Latest  *admin.Payload `json:"latest_state,omitempty"`
	Key     admin.Text     `json:"key,omitempty"`
	Headers event.Headers  `json:"headers,omitempty"`
}

func lineOf(p *failurePlace, f *failures.Failure, replayed bool) failureLine {
	return failureLine{ID: f.ID, Pipeline: p.pipeline(), Place: p.String(), Time: f.Time, Kind: f.Kind, Cause: f.Cause(), Type: f.Type,
		Code: f.Code, Size: f.Size(), Maximum: f.Maximum, Processor: f.Artifact + " " + f.Version, AsRead: f.AsRead, Whole: !f.Cut,
		Dead: f.Dead, Refusal: f.Refusal, Replayed: replayed}
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
	t *tableWriter
	n int
}

func newFailureTable(w io.Writer) *failureTable {
	return &failureTable{t: newTable(w)}
}

func (t *failureTable) add(p *failurePlace, f *failures.Failure, replayed bool) {
	if t.n++; t.n == 1 {
		fmt.Fprintln(t.t, "ID\tTIME\tPIPELINE\tCAUSE\tSIZE\tREPLAYED\tPAYLOAD")
	}
	at := "-"
	if !f.Time.IsZero() {
		at = f.Time.Format(time.RFC3339)
	}
	did := "-"
	if replayed {
		did = "yes"
	}
	fmt.Fprintf(t.t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", f.ID, at, dash(p.pipeline()), dash(middle(f.Cause(), 60)), f.Size(), did, shorten(string(f.Payload), 40))
}

func (t *failureTable) flush() error { return t.t.Flush() }

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
			return r.show(c)
		},
	}
	flags.add(c)
	c.Flags().IntVar(&flags.limit, "limit", 0, "most events to show (default: 1, or as many as --id names)")
	c.Flags().BoolVar(&flags.asJSON, "json", false, "print lines of JSON; payloads that are not UTF-8 as {\"base64\": \"...\"}")
	return c
}

func (r *failureReader) show(c *cobra.Command) error {
	n := 0
	err := r.scan(c.Context(), func(at *failurePlace, f *failures.Failure, replayed bool) error {
		line := lineOf(at, f, replayed)
		line.Errors, line.Payload = f.Errors, (*admin.Payload)(&f.Payload)
		if f.Latest != nil {
			line.Latest = (*admin.Payload)(&f.Latest)
		}
		if m := f.Message; m != nil {
			line.Key, line.Headers = admin.Text(m.Key), m.Meta.Headers
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
		if n >= r.flags.limit {
			return errEnough
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s", r.none())
	}
	return nil
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
	if m := f.Message; m != nil {
		field("key", m.Key)
	}
	what := "payload as the transforms left it"
	if f.AsRead {
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
