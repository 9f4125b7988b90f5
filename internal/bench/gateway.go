package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// connections is how many connections the load has.
const connections = 256

// gatewayGroup is what it costs to collect events, and to route them to a webhook.
func gatewayGroup() group {
	return group{
		name:  "gateway",
		title: "What it costs to collect and to route",
		intro: fmt.Sprintf(`Events of %d bytes, as a server SDK sends them, over %d connections that each wait for their
answer, which comes when the event is on the disk. Load, server and sink are processes of
their own on one machine and share its CPUs, so that requests/s and latencies are those of
all of them together; CPU is that of the server alone, user plus system, while the load
lasts. The limit is a net/http server that reads the body, appends it to a file and answers
after an fdatasync that it shares with those who wait; it parses nothing.`, len(eventText), connections),
		run: gatewaySections,
	}
}

// pipeline is a case with servers.
type pipeline struct {
	name     string
	requests int
	events   int // of a request
	route    bool
	aim      string
}

func (p pipeline) total() int { return p.requests * p.events }

func gatewaySections(b *bench) ([]section, error) {
	collect := section{title: "Under load", head: []string{"case", "us CPU/event", "limit", "ratio", "events/s", "p50 ms", "p99 ms", "limit events/s", "limit p99 ms", "peak MB", "aim"},
		text: `The latencies are from a request to its answer. The full way is gateway, queue, fan-out to
one destination, queue and webhook in one process, until the sink has every event; the sink
is not counted.`}
	for _, p := range []pipeline{
		{"single events into a queue", b.scaled(100_000), 1, false, "22 us"},
		{"batches of 100 into a queue", b.scaled(4000), 100, false, "6 us"},
		{"full way of single events", b.scaled(60_000), 1, true, "60 us"},
		{"full way of batches of 100", b.scaled(1000), 100, true, ""},
	} {
		if !b.wanted(p.name) {
			continue
		}
		row, err := b.collect(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		collect.rows = append(collect.rows, row)
	}
	quiet := section{title: "When quiet", head: []string{"case", "p50 ms", "p99 ms", "aim"},
		text: "Fifty single events a second over four connections, for ten seconds, on the full way."}
	if b.wanted("quiet full way") {
		rows, err := b.quiet()
		if err != nil {
			return nil, fmt.Errorf("quiet: %w", err)
		}
		quiet.rows = rows
	}
	return []section{collect, quiet}, nil
}

// outcome is one run of a server under load.
type outcome struct {
	cost
	answers  loaded
	arrivals received
}

func (b *bench) collect(p pipeline) ([]string, error) {
	var ours, limits []outcome
	for range b.rounds {
		l, err := b.runBare(p, connections, 0)
		if err != nil {
			return nil, fmt.Errorf("limit: %w", err)
		}
		o, err := b.runWeir(p, connections, 0)
		if err != nil {
			return nil, err
		}
		ours, limits = append(ours, o), append(limits, l)
	}
	key := func(o outcome) time.Duration { return o.cpu }
	o, l := median(ours, key), median(limits, key)
	b.say("%s: %.2f us CPU an event, %.2f times the limit", p.name, o.perEvent(p.total()), float64(o.cpu)/float64(l.cpu))
	speed := func(o outcome) string { return fmt.Sprintf("%.0f", float64(p.total())/o.wall.Seconds()) }
	return []string{
		p.name, fmt.Sprintf("%.2f", o.perEvent(p.total())), fmt.Sprintf("%.2f", l.perEvent(p.total())), fmt.Sprintf("%.2f", float64(o.cpu)/float64(l.cpu)),
		speed(o), fmt.Sprintf("%.1f", o.answers.P50), fmt.Sprintf("%.1f", o.answers.P99), speed(l), fmt.Sprintf("%.1f", l.answers.P99), strconv.FormatInt(o.rss/1024, 10), cmp.Or(p.aim, "-"),
	}, nil
}

func (b *bench) quiet() ([][]string, error) {
	const rate, seconds = 50, 10
	p := pipeline{name: "quiet", requests: rate * seconds, events: 1, route: true}
	var all, limits []outcome
	for range b.rounds {
		l, err := b.runBare(p, 4, rate)
		if err != nil {
			return nil, fmt.Errorf("limit: %w", err)
		}
		o, err := b.runWeir(p, 4, rate)
		if err != nil {
			return nil, err
		}
		all, limits = append(all, o), append(limits, l)
	}
	limit := median(limits, func(o outcome) float64 { return o.answers.P99 }).answers
	answer := median(all, func(o outcome) float64 { return o.answers.P99 }).answers
	arrival := median(all, func(o outcome) float64 { return o.arrivals.P99 }).arrivals
	return [][]string{
		{"limit: request to answer", fmt.Sprintf("%.1f", limit.P50), fmt.Sprintf("%.1f", limit.P99), "-"},
		{"request to answer", fmt.Sprintf("%.1f", answer.P50), fmt.Sprintf("%.1f", answer.P99), "-"},
		{"request to arrival at the webhook's receiver", fmt.Sprintf("%.1f", arrival.P50), fmt.Sprintf("%.1f", arrival.P99), "< 50"},
	}, nil
}

// drive runs the load to its end.
func (b *bench) drive(address string, connections, requests, events, first, rate int) (l loaded, err error) {
	args := []string{address}
	for _, n := range []int{connections, requests, events, first, rate} {
		args = append(args, strconv.Itoa(n))
	}
	s, err := serve(b.command("load", b.self, args...), b.dir)
	if err != nil {
		return l, err
	}
	err = s.answer(10*time.Minute, &l)
	return l, err
}

// warm is how many requests come before those that are measured.
const warm = 2000

func (b *bench) runBare(p pipeline, connections, rate int) (o outcome, err error) {
	work, err := b.fresh(nil)
	if err != nil {
		return o, err
	}
	address, err := freeAddress()
	if err != nil {
		return o, err
	}
	s, err := serve(b.command("bare", b.self, address), work)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.listening(address); err != nil {
		return o, err
	}
	if _, err := b.drive(address, connections, warm, 1, 0, 0); err != nil {
		return o, err
	}
	err = b.window(s, &o, func() (err error) {
		o.answers, err = b.drive(address, connections, p.requests, p.events, warm, rate)
		return err
	})
	return o, err
}

// window sets what the server uses while f runs.
func (b *bench) window(s *server, o *outcome, f func() error) error {
	before, err := s.used()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return errors.Join(err, said(s))
	}
	o.wall = time.Since(begin)
	after, err := s.used()
	if err != nil {
		return err
	}
	o.cpu, o.rss = after.cpu-before.cpu, after.rss
	return nil
}

// said is the end of what a server has logged.
func said(s *server) error {
	text := s.stderr.String()
	return fmt.Errorf("the server's log ends: %s", text[max(len(text)-4000, 0):])
}

// runWeir measures Weir from the first request to the last answer or, when it routes, to
// the arrival of the last event.
func (b *bench) runWeir(p pipeline, connections, rate int) (o outcome, err error) {
	var address [3]string // gateway, sink, admin
	for i := range address {
		if address[i], err = freeAddress(); err != nil {
			return o, err
		}
	}
	work, err := b.fresh(map[string]string{"bench.hcl": gatewayConfig(address[0], address[2], p.route), "workspaceConfig.json": workspaceConfig(address[1], p.route)})
	if err != nil {
		return o, err
	}
	s, err := serve(b.command("", b.weir, "run", "--no-progress", "bench.hcl"), work)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.listening(address[0]); err != nil {
		return o, err
	}
	// what warms up goes the whole way too
	if _, err := b.through(p, address[1], 0, warm, func() (loaded, error) { return b.drive(address[0], connections, warm, 1, 0, 0) }, &o); err != nil {
		return o, errors.Join(fmt.Errorf("warm up: %w", err), said(s))
	}
	profiled := b.profiled(p.name, address[2])
	err = b.window(s, &o, func() (err error) {
		o.answers, err = b.through(p, address[1], warm, p.total(), func() (loaded, error) {
			return b.drive(address[0], connections, p.requests, p.events, warm, rate)
		}, &o)
		return err
	})
	return o, errors.Join(err, profiled())
}

// through runs the load and, where there is a sink, waits until it has the n events that
// are numbered from first.
func (b *bench) through(p pipeline, address string, first, n int, load func() (loaded, error), o *outcome) (l loaded, err error) {
	if !p.route {
		return load()
	}
	s, err := serve(b.command("sink", b.self, address, strconv.Itoa(first), strconv.Itoa(n)), b.dir)
	if err != nil {
		return l, err
	}
	if err := s.listening(address); err != nil {
		return l, err
	}
	if l, err = load(); err != nil {
		return l, errors.Join(err, s.cmd.Process.Kill())
	}
	err = s.answer(2*time.Minute, &o.arrivals)
	return l, err
}

// profiled takes a CPU profile of the first 15 seconds of what follows, if one is asked for;
// the function waits for it.
func (b *bench) profiled(name, admin string) func() error {
	if b.profile == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			r, err := http.Get("http://" + admin + "/debug/pprof/profile?seconds=15")
			if err != nil {
				return err
			}
			defer r.Body.Close()
			data, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != http.StatusOK {
				return fmt.Errorf("profile: %s: %w", r.Status, err)
			}
			return os.WriteFile(filepath.Join(b.profile, strings.ReplaceAll(name, " ", "-")+".prof"), data, 0o600)
		}()
	}()
	return func() error { return <-done }
}

// workspaceConfig has a source and, where events are routed, a destination.
func workspaceConfig(sink string, route bool) string {
	destinations := ""
	if route {
		destinations = fmt.Sprintf(`{"id":"dst1","name":"sink","enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"http://%s/"},"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}`, sink)
	}
	return `{"workspaceId":"ws1","sources":[{"id":"src1","name":"http","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP","type":"cloud"},"destinations":[` + destinations + `]}]}`
}

func gatewayConfig(address, admin string, route bool) string {
	text := fmt.Sprintf(`admin {
  address = %q
}
store {
  use "embedded" {
    path = "store"
  }
}
queue "events" {}
pipeline "collect" {
  source {
    use "gateway" {
      workspace_config = "workspaceConfig.json"
      address          = %q
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
`, admin, address)
	if !route {
		return text
	}
	return text + `queue "deliveries" {}
pipeline "route" {
  source {
    use "queue" {
      name    = "events"
      ordered = true
    }
  }
  transform {
    use "fanout" {
      workspace_config = "workspaceConfig.json"
    }
  }
  target {
    use "queue" {
      name = "deliveries"
    }
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name      = "deliveries"
      isolation = "destination"
      ordered   = true
    }
  }
  target {
    use "webhook" {
      workspace_config = "workspaceConfig.json"
    }
  }
}
`
}
