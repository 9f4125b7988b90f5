package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// isolationGroup is what a value of an isolated queue costs, and who waits for whom.
func isolationGroup() group {
	return group{
		name:  "isolation",
		title: "Many values of one queue",
		intro: `Jobs of many destinations wait in a queue and are delivered by one pipeline that is isolated by
destination, through a JavaScript transform. The limit is the same pipeline without
isolation. CPU is user plus system time of the whole process, start-up included.`,
		notes: `A value costs what it has in flight: its messages, and a goroutine for each write in progress.`,
		run:   isolationSections,
	}
}

const isolationConfig = `queue "deliveries" {}
source {
  use "queue" {
    name            = "deliveries"
    isolation       = %q
    stop_when_empty = true
  }
}
transform {
  use "js" {
    script = "function main(x) { var e = JSON.parse(x.Data); e.ok = true; return { Data: e } }"
  }
}
target {
  use "silent" {}
}
`

func isolationSections(b *bench) ([]section, error) {
	costs := section{head: []string{"case", "jobs", "CPU s", "CPU s not isolated", "ratio", "peak MB", "peak MB not isolated", "aim"}}
	for _, c := range []struct {
		name         string
		values, jobs int
		aim          string
	}{
		{"200 values, a job each", 200, 200, "ratio 1"},
		{"10,000 values, two jobs each", 10_000, 20_000, "< 300 MB"},
		{"1,000 values, 100 jobs each", 1000, 100_000, "< 150 MB"},
		{"10 values, 10,000 jobs each", 10, 100_000, "ratio 1"},
	} {
		name := "isolation of " + c.name
		if !b.wanted(name) {
			continue
		}
		with, without, err := b.isolated(c.values, b.scaled(c.jobs))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.say("%s: %.2f s CPU, %d MB", name, with.cpu.Seconds(), with.rss/1024)
		costs.rows = append(costs.rows, []string{c.name, strconv.Itoa(b.scaled(c.jobs)), fmt.Sprintf("%.2f", with.cpu.Seconds()), fmt.Sprintf("%.2f", without.cpu.Seconds()),
			fmt.Sprintf("%.2f", with.cpu.Seconds()/without.cpu.Seconds()), strconv.FormatInt(with.rss/1024, 10), strconv.FormatInt(without.rss/1024, 10), c.aim})
	}
	waits, err := b.hanging()
	return []section{costs, waits}, err
}

// isolated is what it costs to deliver jobs of so many values, with and without isolation.
func (b *bench) isolated(values, jobs int) (with, without cost, err error) {
	lines := filepath.Join(b.dir, "jobs.jsonl")
	if err := jobsOf(lines, values, jobs); err != nil {
		return with, without, err
	}
	var all [2][]cost
	for range b.rounds {
		for i, isolation := range []string{"destination", "none"} {
			work, err := b.fresh(map[string]string{"bench.hcl": fmt.Sprintf(isolationConfig, isolation)})
			if err != nil {
				return with, without, err
			}
			if _, err := child(b.command("", b.weir, "queue", "import", "deliveries", "--config", "bench.hcl"), work, lines); err != nil {
				return with, without, err
			}
			c, err := child(b.command("", b.weir, "run", "--no-progress", "bench.hcl"), work, os.DevNull)
			if err != nil {
				return with, without, err
			}
			if err := b.ended(work); err != nil {
				return with, without, err
			}
			all[i] = append(all[i], c)
		}
	}
	return median(all[0], cpuOf), median(all[1], cpuOf), nil
}

// jobsOf writes jobs, as weir queue import reads them, one value after the other.
func jobsOf(name string, values, jobs int) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for i := range jobs {
		_, _ = fmt.Fprintf(w, `{"payload":"{\"n\":%d,\"type\":\"track\",\"event\":\"Order Completed\",\"context\":{\"library\":\"x\"}}","workspace":"w","destination":"d%d"}`+"\n", i, i%values)
	}
	return w.Flush() // and what writing came to
}

// hanging measures how long destinations that answer wait for those that do not.
func (b *bench) hanging() (section, error) {
	s := section{
		title: "Healthy values beside hanging ones",
		text: `Each destination has a source of its own, whose client sends an event a second for a minute; the
hanging ones answer no request within 30 seconds. The latency is that of the events of the
healthy ones, from the request to the gateway to the request to the webhook.`,
		head: []string{"case", "events", "p50 ms", "p99 ms", "peak MB", "aim, p99"},
	}
	for _, c := range []struct {
		name             string
		healthy, hanging int
		aim              string
	}{
		{"100 healthy", 100, 0, ""},
		{"100 healthy, 900 hanging", 100, 900, "< 1000 ms"},
	} {
		name := "isolation with " + c.name
		if !b.wanted(name) {
			continue
		}
		took, peak, err := b.waits(c.healthy, c.hanging)
		if err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
		p50, p99 := took[len(took)/2], took[len(took)*99/100]
		b.say("%s: p99 %s", name, p99)
		s.rows = append(s.rows, []string{c.name, strconv.Itoa(len(took)), fmt.Sprintf("%.1f", ms(p50)), fmt.Sprintf("%.1f", ms(p99)), strconv.FormatInt(peak/1024, 10), c.aim})
	}
	return s, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// waits is how long the events of healthy destinations took beside hanging ones, sorted, and
// the most memory of the process in kB.
func (b *bench) waits(healthy, hanging int) (took []time.Duration, peak int64, err error) {
	r := receiver{hang: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	sink := &http.Server{Handler: &r, ReadHeaderTimeout: patience}
	go func() { _ = sink.Serve(l) }()
	defer func() { err = errors.Join(err, sink.Close()) }()
	defer close(r.hang)
	address, err := freeAddress()
	if err != nil {
		return nil, 0, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, 0, err
	}
	work, err := b.fresh(map[string]string{"bench.hcl": gatewayConfig(address, admin, true), "workspaceConfig.json": destinationsConfig(l.Addr().String(), healthy, hanging)})
	if err != nil {
		return nil, 0, err
	}
	s, err := serve(b.command("", b.weir, "run", "--no-progress", "--log-level", "error", "bench.hcl"), work)
	if err != nil {
		return nil, 0, err
	}
	if err := s.listening(address); err != nil {
		return nil, 0, err
	}
	err = send("http://"+address+"/v1/track", healthy, hanging, b.scaled(60))
	used, uerr := s.used()
	// What hangs would be waited for until the drain deadline.
	err = errors.Join(err, uerr, s.cmd.Process.Kill())
	<-s.ended //nolint:errcheck // it was killed
	if err != nil {
		return nil, 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := healthy * (b.scaled(60) - 2); len(r.took) < want {
		return nil, 0, fmt.Errorf("%d events of healthy destinations were delivered, want %d", len(r.took), want)
	}
	slices.Sort(r.took)
	return r.took, used.rss, nil
}

// destinationsConfig is a workspace with a source for each destination.
func destinationsConfig(sink string, healthy, hanging int) string {
	var sources []string
	for i := range healthy + hanging {
		path := "healthy"
		if i >= healthy {
			path = "hangs"
		}
		sources = append(sources, fmt.Sprintf(`{"id":"src%d","name":"s%d","writeKey":"KEY%d","enabled":true,"sourceDefinition":{"name":"HTTP","type":"cloud"},"destinations":[{"id":"dst%d","name":"d%d","enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"http://%s/%s"},"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}]}`, i, i, i, i, i, sink, path))
	}
	return `{"workspaceId":"ws1","sources":[` + strings.Join(sources, ",") + `]}`
}

// send has the client of each source send an event a second.
func send(url string, healthy, hanging, seconds int) error {
	var failed atomic.Pointer[error]
	var clients sync.WaitGroup
	all := healthy + hanging
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}, Timeout: patience}
	begin := time.Now()
	for i := range all {
		clients.Go(func() {
			for n := range seconds {
				<-time.After(time.Until(begin.Add(time.Duration(n)*time.Second + time.Duration(i)*time.Second/time.Duration(all))))
				body := fmt.Sprintf(`{"type":"track","event":"bench","userId":"u%d","properties":{"sent":%d}}`, i, time.Now().UnixNano())
				r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
				if err == nil {
					r.SetBasicAuth("KEY"+strconv.Itoa(i), "")
					err = post(client, r)
				}
				if err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	clients.Wait()
	<-time.After(2 * time.Second) // for the last events
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func post(client *http.Client, r *http.Request) error {
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the gateway answers %s", resp.Status)
	}
	return err
}

// receiver is all destinations.
type receiver struct {
	hang chan struct{} // closed at the end

	mu   sync.Mutex
	took []time.Duration
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender is gone
	}
	if req.URL.Path == "/hangs" {
		select {
		case <-time.After(30 * time.Second):
		case <-r.hang:
		case <-req.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_, rest, _ := strings.Cut(string(body), `"sent":`)
	digits := strings.TrimLeft(rest, " ")
	digits = digits[:max(strings.IndexFunc(digits, func(c rune) bool { return c < '0' || c > '9' }), 0)]
	if at, err := strconv.ParseInt(digits, 10, 64); err == nil {
		r.mu.Lock()
		r.took = append(r.took, time.Duration(time.Now().UnixNano()-at))
		r.mu.Unlock()
	}
}
