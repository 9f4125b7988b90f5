package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// benchmark is a case that reads a file on standard input and ends: configs for Weir, and
// the limit to hold it against. Paths in a config are relative to a directory of its own,
// empty at the start of each round.
type benchmark struct {
	name    string
	prepare string // config that reads the input first and is not measured; may be empty
	config  string
	input   func(path string, events int) error
	events  int
	limit   string
	aim     string
	check   func(work string, events int) error // whether it did what it was to do; may be nil
}

// limits says what each limit is.
var limits = map[string]string{
	"lines":   "line scanner into a buffered writer",
	"goja":    "the script engine alone",
	"log":     "line scanner, write and fdatasync of each 1000 lines",
	"parquet": "line scanner and the Parquet encoder alone, one goroutine, files of 20,000 events",
}

// stdinCases measures cases.
func (b *bench) stdinCases(cases []benchmark) (section, error) {
	s := section{head: []string{"case", "us CPU/event", "limit", "ratio", "events/s", "peak MB", "the limit is", "aim"}}
	for _, c := range cases {
		if !b.wanted(c.name) {
			continue
		}
		c.events = b.scaled(c.events)
		ours, limit, err := b.measure(c)
		if err != nil {
			return s, fmt.Errorf("%s: %w", c.name, err)
		}
		ratio := float64(ours.cpu) / float64(limit.cpu)
		b.say("%s: %.2f us CPU an event, %.2f times the limit", c.name, ours.perEvent(c.events), ratio)
		s.rows = append(s.rows, []string{
			c.name, fmt.Sprintf("%.2f", ours.perEvent(c.events)), fmt.Sprintf("%.2f", limit.perEvent(c.events)), fmt.Sprintf("%.2f", ratio),
			fmt.Sprintf("%.0f", float64(c.events)/ours.wall.Seconds()), strconv.FormatInt(ours.rss/1024, 10), limits[c.limit], cmp.Or(c.aim, "-"),
		})
	}
	return s, nil
}

func (b *bench) measure(c benchmark) (ours, limit cost, err error) {
	input := filepath.Join(b.dir, "input")
	if err := c.input(input, c.events); err != nil {
		return ours, limit, err
	}
	var all, limits []cost
	for range b.rounds {
		work, err := b.fresh(map[string]string{"bench.hcl": c.config, "prepare.hcl": c.prepare})
		if err != nil {
			return ours, limit, err
		}
		l, err := child(b.command("limit", b.self, c.limit), work, input)
		if err != nil {
			return ours, limit, err
		}
		measured := input
		if c.prepare != "" {
			if _, err := child(b.command("", b.weir, "run", "--no-progress", "prepare.hcl"), work, input); err != nil {
				return ours, limit, err
			}
			measured = os.DevNull
		}
		w, err := child(b.command("", b.weir, "run", "--no-progress", "bench.hcl"), work, measured)
		if err != nil {
			return ours, limit, err
		}
		if c.check != nil {
			if err := c.check(work, c.events); err != nil {
				return ours, limit, err
			}
		}
		limits, all = append(limits, l), append(all, w)
	}
	return median(all, cpuOf), median(limits, cpuOf), os.RemoveAll(filepath.Join(b.dir, "work"))
}

// fresh is an empty directory with these files.
func (b *bench) fresh(files map[string]string) (string, error) {
	work := filepath.Join(b.dir, "work")
	if err := os.RemoveAll(work); err != nil {
		return "", err
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", err
	}
	for name, text := range files {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return work, nil
}

// holds checks that a file has so many lines.
func holds(name string, lines func(events int) int) func(work string, events int) error {
	return func(work string, events int) error {
		data, err := os.ReadFile(filepath.Join(work, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if n := bytes.Count(data, []byte("\n")); n != lines(events) {
			return fmt.Errorf("%s has %d lines after %d events, not %d", name, n, events, lines(events))
		}
		return nil
	}
}

func every(events int) int { return events }
func none(int) int         { return 0 }
