package generatesource

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
)

// Config is the HCL of the generate source.
type Config struct {
	// What is made: "lessons", the events of a language school's app; "events", what an SDK
	// sends to a gateway; "orders", a shop's orders, a few of which cannot be processed; or
	// "access_log", lines of a web server's log in the combined format.
	Kind string `hcl:"kind"`
	// Messages made in a second; 10 by default. 0 makes as many as the pipeline takes. What
	// a slow pipeline did not take is made up for, but never more than a second of it.
	Rate float64 `hcl:"rate,optional"`
	// How many messages are made in all, those of earlier runs included where there is a
	// position_file; then the pipeline ends. 0, the default, sets no limit.
	Count int `hcl:"count,optional"`
	// Decides what is in the messages: the same seed makes the same ones; 1 by default.
	Seed int `hcl:"seed,optional"`
	// Time of the first message, in RFC 3339 ("2026-11-20T09:00:00Z"); later ones follow at
	// the rate, or one a millisecond without one. Without it, the default, a message has the
	// time at which it is made.
	Start string `hcl:"start,optional"`
	// Where to keep how many messages were made and delivered, so that a restart continues
	// there. A relative path means from the directory of the config file; the directory it is
	// in is made when it is not there. Without it every start of the process begins with the first message.
	// One pipeline, one position file.
	PositionFile string `hcl:"position_file,optional"`
	// Most messages handed to the transforms at once; 1000 by default.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if _, ok := makers[c.Kind]; !ok {
		refuse("kind", "write "+strings.Join(kinds(), ", "), "there is no kind %q", c.Kind)
	}
	if c.Rate < 0 || math.IsNaN(c.Rate) || c.Rate > mostRate {
		refuse("rate", "write how many messages a second, or 0 for as many as the pipeline takes", "rate must be from 0 to %d, not %v", mostRate, c.Rate)
	}
	if c.Count < 0 {
		refuse("count", "leave it out to set no limit", "count must not be negative, and is %d", c.Count)
	}
	if c.MaxBatchMessages < 1 || c.MaxBatchMessages > mostBatch {
		refuse("max_batch_messages", "leave it out to use the default", "max_batch_messages must be from 1 to %d, not %d", mostBatch, c.MaxBatchMessages)
	}
	if _, err := c.start(); err != nil {
		refuse("start", "write it as 2026-11-20T09:00:00Z", "start %q is not a time of RFC 3339", c.Start)
	}
	return ps
}

// Limits of the settings.
const (
	mostRate  = 10_000_000
	mostBatch = 1_000_000
)

// start is the time of the first message; zero means the time at which each is made.
func (c Config) start() (time.Time, error) {
	if c.Start == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, c.Start)
}

func defaults() Config { return Config{Rate: 10, Seed: 1, MaxBatchMessages: 1000} }

// Entry is the generate source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "generate", Summary: "Makes sample messages at a rate: events, orders, log lines.", Stability: connector.Experimental,
	Default: defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		start, err := c.start()
		if err != nil {
			return nil, fmt.Errorf("read start: %w", err)
		}
		log := d.Log
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		c.PositionFile = d.Path(c.PositionFile)
		return &Source{config: c, start: start, make: makers[c.Kind](uint64(int64(c.Seed))), log: log}, nil
	},
})
