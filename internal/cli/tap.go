package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/console"
	"github.com/weirdata/weir/internal/tap"
)

func tapCommand(s Streams) *cobra.Command {
	var at, when string
	var pipeline string
	every, limit, asJSON := 1, 0, false
	c := &cobra.Command{
		Use:   "tap [FILE|DIRECTORY...]",
		Short: "Listen to a pipeline of a running process",
		Long: `Show messages as they pass a pipeline of the process that runs the config: what the source read,
what each transform made of it, and what came to which target. The process is asked by its admin
block. Nothing is held up or changed: at most 100 messages and 1 MiB in a second are told, for five
minutes, and what passes faster is counted.`,
		Example: `  weir tap pipeline.hcl --pipeline deliver
  weir tap pipeline.hcl --pipeline deliver --point transform.0 --when "destination == 'archive'" --json`,
		RunE: func(c *cobra.Command, args []string) error {
			where, cfg, err := running(args, s)
			if err != nil {
				return err
			}
			if pipeline == "" && len(cfg.Pipelines) == 1 {
				pipeline = cfg.Pipelines[0].Name
			}
			v := url.Values{"pipeline": {pipeline}, "point": {at}, "when": {when}}
			if every != 1 {
				v.Set("every", strconv.Itoa(every))
			}
			n := 0
			return follow(c, where, "/v1/tap", v, func(kind string, data []byte) error {
				done, err := tapped(s, kind, data, asJSON)
				if n += done; err == nil && limit > 0 && n >= limit {
					err = errEnough
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&pipeline, "pipeline", "", "pipeline to listen to (default: the only one)")
	c.Flags().StringVar(&at, "point", "", "source, transform.N (from 0), target, target.NAME, filter_target, backup_target or failure_target (default: all)")
	c.Flags().StringVar(&when, "when", "", "messages that this condition is true for, written like that of a target")
	c.Flags().IntVar(&every, "every", 1, "one message in so many")
	c.Flags().IntVar(&limit, "limit", 0, "end after so many messages; 0 means after five minutes")
	c.Flags().BoolVar(&asJSON, "json", false, "print lines of JSON, whole")
	return c
}

// running is where the process that runs a config is asked.
func running(args []string, s Streams) (admin.Where, *config.Config, error) {
	paths := configPaths(args, s)
	if len(paths) == 0 {
		return admin.Where{}, nil, usagef("no config says where the running process is: name it, or set SNOWBRIDGE_CONFIG_FILE")
	}
	cfg, err := load(paths, builder(), s)
	if err != nil {
		return admin.Where{}, nil, err
	}
	if cfg.Admin == nil {
		return admin.Where{}, nil, fmt.Errorf("the config has no admin block, by which the running process is asked: add admin { address = \"127.0.0.1:8080\" } and start it again")
	}
	return whereOf(cfg.Admin, s), cfg, nil
}

// operatorToken is the variable that has a token where the config has only the hashes of those of others.
const operatorToken = "WEIR_TOKEN"

func whereOf(a *config.Admin, s Streams) admin.Where {
	at := admin.Where{Address: a.Address, HostNames: a.HostNames, Path: a.Path, Token: a.Token}
	if token, ok := s.Env(operatorToken); ok && token != "" {
		at.Token = token
	}
	return at
}

// follow reads events until they end, enough came, or somebody interrupts.
func follow(c *cobra.Command, at admin.Where, path string, v url.Values, fn func(kind string, data []byte) error) error {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := admin.Events(ctx, at, path, v, fn)
	if errors.Is(err, errEnough) || ctx.Err() != nil && c.Context().Err() == nil {
		return nil
	}
	return err
}

// tapped prints an event of a tap, and says how many messages it was.
func tapped(s Streams, kind string, data []byte, asJSON bool) (int, error) {
	switch kind {
	case "message":
		if asJSON {
			_, err := fmt.Fprintf(s.Out, "%s\n", data)
			return 1, err
		}
		var r tap.Record
		if err := json.Unmarshal(data, &r); err != nil {
			return 0, fmt.Errorf("read what passed: %w", err)
		}
		return 1, printRecord(s.Out, &r)
	case "lost":
		var l struct {
			Messages int64 `json:"messages"`
		}
		if err := json.Unmarshal(data, &l); err != nil {
			return 0, fmt.Errorf("read what was lost: %w", err)
		}
		fmt.Fprintf(s.Err, "%d passed too fast to be shown\n", l.Messages)
	case "end":
		var e struct {
			Why string `json:"why"`
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return 0, fmt.Errorf("read why it ends: %w", err)
		}
		fmt.Fprintln(s.Err, e.Why)
	}
	return 0, nil
}

// printRecord prints what happened to a message. What could command a terminal is escaped.
func printRecord(w io.Writer, r *tap.Record) error {
	point := r.Point
	if r.Step != "" {
		point += " " + r.Step
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-20s  %-9s  %s", r.At.Local().Format("15:04:05.000"), shorten(point, 60), r.Outcome, payloadLine(&r.Before))
	if r.Why != "" {
		b.WriteString("\n    " + shorten(r.Why, 400))
	}
	for i := range r.After {
		b.WriteString("\n  -> " + payloadLine(&r.After[i]))
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

func payloadLine(s *tap.State) string {
	if s.Deleted {
		return "(no payload)"
	}
	return shorten(string(s.Data), 400)
}

func topCommand(s Streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "top [FILE|DIRECTORY...]",
		Short: "Show how the pipelines and queues of a running process stand, each second",
		Long: `Show how the pipelines and queues of the process that runs the config stand, each second, and what
needs somebody. The process is asked by its admin block. Where the output is no terminal, it is
shown once.`,
		Example: "  weir top pipeline.hcl",
		RunE: func(c *cobra.Command, args []string) error {
			where, _, err := running(args, s)
			if err != nil {
				return err
			}
			frames := 0
			return follow(c, where, "/v1/live", nil, func(kind string, data []byte) error {
				if kind != "now" {
					return nil
				}
				if frames++; frames == 1 && !terminal(s.Out) {
					return nil // rates are known from the second on
				}
				if asJSON {
					_, err = fmt.Fprintf(s.Out, "%s\n", data)
				} else {
					err = printNow(s.Out, data)
				}
				if err == nil && !terminal(s.Out) {
					err = errEnough
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print lines of JSON")
	return c
}

// printNow prints how everything stands; on a terminal in the place of what was there.
func printNow(w io.Writer, data []byte) error {
	var n console.Now
	if err := json.Unmarshal(data, &n); err != nil {
		return fmt.Errorf("read how everything stands: %w", err)
	}
	if terminal(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J")
	}
	state := "ready"
	if n.Unready != "" {
		state = "not ready: " + n.Unready
	}
	fmt.Fprintf(w, "%s  %s\n\n", n.At.Local().Format(time.DateTime), shorten(state, 200))
	t := newTable(w)
	fmt.Fprintln(t, "PIPELINE\tSTATE\tREADS\tDELIVERS\tIN FLIGHT\tBEHIND\tFAILED\tRETRIES")
	for i := range n.Pipelines {
		p := &n.Pipelines[i]
		delivers, retries, behind := 0.0, int64(0), "-"
		for _, x := range p.Sinks {
			if retries += x.Retries; strings.HasPrefix(x.Role, "target") {
				delivers += x.Rate
			}
		}
		if p.Behind >= 0 {
			behind = strconv.FormatInt(p.Behind, 10)
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f/s\t%.1f/s\t%d\t%s\t%d\t%d\n", shorten(p.Name, 60), p.State, p.ReadRate, delivers, p.InFlight, behind, p.Invalid, retries)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(n.Queues) > 0 {
		fmt.Fprintln(w)
		t = newTable(w)
		fmt.Fprintln(t, "QUEUE\tWAITING\tIN WORK\tTO BE RETRIED\tDEAD\tGROWTH")
		for _, q := range n.Queues {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%+.1f/s\n", shorten(q.Name, 60), q.Waiting, q.Leased, q.Retrying, q.Dead, q.Growth)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for i, x := range n.Needs {
		if i == 0 {
			fmt.Fprintln(w, "\nWhat needs you:")
		}
		fmt.Fprintf(w, "  %s: %s\n", shorten(x.What, 300), shorten(x.Do, 300))
	}
	return nil
}
