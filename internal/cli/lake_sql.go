package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/lakesql"
	"github.com/weirdata/weir/internal/spelling"
)

// lakeQuestion is what `weir lake sql` is asked.
type lakeQuestion struct {
	path, query      string
	output, distinct string
	engine           string
	timeout          time.Duration
}

var (
	lakeOutputs = []string{"table", "json", "csv"}
	lakeEngines = []string{"sqlite", "duckdb"}
)

func lakeSQLCommand(s Streams) *cobra.Command {
	q := lakeQuestion{output: "table", engine: "sqlite", timeout: time.Minute}
	c := &cobra.Command{
		Use: "sql PATH [QUERY]", Short: "Ask datasets a question in SQL; nothing needs to be installed",
		Long: `Answer a query about the dataset in PATH, or about each dataset in the folder PATH. Without QUERY it
is read from standard input.

Each dataset is a table called like its folder, and each key of its events one column. Times are
text such as 2026-11-29T10:30:00Z and compared as times, with or without T, Z and seconds. Objects
and lists are JSON: payload ->> '$.title', json_each(tags). A column of an object has a name of its
own, "payload.title", which reads less. The folders of a partition are the columns year, month, day
and hour: a condition on them reads only those. _file is where a row is.

The SQL is that of SQLite (sqlite.org/lang.html), which only reads here. --engine duckdb hands the
query to the duckdb command on this machine, with the same tables.`,
		Example: `  weir lake sql lake "SELECT event_name, count(*) FROM lake GROUP BY 1 ORDER BY 2 DESC"
  weir lake sql lake -o csv "SELECT * FROM lake WHERE day = 29 AND created_at >= '2026-11-29 10:00'"
  weir lake sql lake --distinct event_uuid "SELECT count(*) FROM lake_distinct"`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("%s takes a folder and a query in quotes; see %q", c.CommandPath(), c.CommandPath()+" --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := oneOfFlag("--output", q.output, lakeOutputs); err != nil {
				return err
			}
			if err := oneOfFlag("--engine", q.engine, lakeEngines); err != nil {
				return err
			}
			if q.timeout <= 0 {
				return usagef("--timeout must be more than 0, not %s", q.timeout)
			}
			q.path = args[0]
			if len(args) == 2 {
				q.query = args[1]
			} else if err := q.read(s); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return q.answer(ctx, s)
		},
	}
	c.Flags().StringVarP(&q.output, "output", "o", q.output, "how rows are printed: table, json (one object a line) or csv")
	c.Flags().StringVar(&q.engine, "engine", q.engine, "what answers: sqlite, which is built in, or duckdb, the command on this machine")
	c.Flags().DurationVar(&q.timeout, "timeout", q.timeout, "how long the query may take")
	c.Flags().StringVar(&q.distinct, "distinct", "", "field with the id of an event: TABLE_distinct has each id once")
	return c
}

// oneOfFlag refuses a value that a flag does not have.
func oneOfFlag(flag, value string, values []string) error {
	if slices.Contains(values, value) {
		return nil
	}
	near := ""
	if n := spelling.Nearest(value, values); n != "" {
		near = fmt.Sprintf("; did you mean %s?", n)
	}
	return usagef("%s must be %s, not %q%s", flag, strings.Join(values, ", "), value, near)
}

// longestQuery is the most bytes of a query.
const longestQuery = 1 << 20

// read reads the query from standard input.
func (q *lakeQuestion) read(s Streams) error {
	in := s.In
	if in == nil {
		in = os.Stdin
	}
	if terminal(in) {
		return usagef("there is no query: name one in quotes behind the folder, such as \"SELECT count(*) FROM lake\", or send it to standard input")
	}
	text, err := io.ReadAll(io.LimitReader(in, longestQuery+1))
	if err != nil {
		return fmt.Errorf("read the query: %w", err)
	}
	if len(text) > longestQuery {
		return fmt.Errorf("the query on standard input is longer than %d bytes", longestQuery)
	}
	q.query = string(text)
	return nil
}

func (q *lakeQuestion) answer(ctx context.Context, s Streams) error {
	late := fmt.Errorf("the query took longer than %s: narrow it by year, month, day or hour, or give it more time with --timeout", q.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, q.timeout, late)
	defer cancel()
	if q.engine == "duckdb" {
		return q.duckdb(ctx, s)
	}
	db, err := lakesql.Open(ctx, q.path, lakesql.Options{Distinct: q.distinct})
	if err != nil {
		return err
	}
	err = q.print(ctx, s.Out, db)
	return errors.Join(err, db.Close())
}

func (q *lakeQuestion) print(ctx context.Context, w io.Writer, db *lakesql.DB) error {
	rows, err := db.Query(ctx, q.query)
	if err != nil {
		return err
	}
	switch q.output {
	case "json":
		return rows.WriteJSON(w)
	case "csv":
		return rows.WriteCSV(w)
	}
	return printRows(w, rows)
}

// together is how many rows are lined up with each other.
const together = 10_000

func printRows(w io.Writer, rows *lakesql.Rows) error {
	t, n := newTable(w), 0
	fmt.Fprintln(t, strings.Join(rows.Columns, "\t"))
	err := rows.Cells(func(cells []string) error {
		fmt.Fprintln(t, strings.Join(cells, "\t"))
		if n++; n%together == 0 {
			return t.Flush()
		}
		return nil
	})
	return errors.Join(err, t.Flush())
}

// duckdb hands the query to the user's DuckDB, behind the views of the datasets.
func (q *lakeQuestion) duckdb(ctx context.Context, s Streams) error {
	program, err := exec.LookPath("duckdb")
	if err != nil {
		return fmt.Errorf("there is no duckdb command on the path: install it (duckdb.org/install), or leave out --engine duckdb: %w", err)
	}
	var script strings.Builder
	if err := catalog.Views(ctx, &script, q.path, q.distinct); err != nil {
		return err
	}
	script.WriteString(q.query)
	if !strings.HasSuffix(strings.TrimSpace(q.query), ";") {
		script.WriteString("\n;\n")
	}
	args := map[string][]string{"table": nil, "json": {"-jsonlines"}, "csv": {"-csv"}}[q.output]
	c := exec.CommandContext(ctx, program, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(script.String()), s.Out, s.Err
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("ask %s: %w", program, err)
	}
	return nil
}
