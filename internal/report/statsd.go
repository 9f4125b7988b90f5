package report

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
)

// maxPacket is the size of a datagram that no network on the way takes apart.
const maxPacket = 1400

// redialAfter is how long one look-up of the server's address is used.
const redialAfter = 60 * time.Second

// statsd sends metrics by UDP, one a line, with tags in the Datadog style:
//
//	<prefix>.target_success:12|c|#host:a,process_id:1,env:prod
//
// A counter that did not grow is left out; latencies are in milliseconds, 0 when nothing
// was measured.
type statsd struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	address string
	prefix  string
	tags    string
	e2e     bool
	memory  bool
	dropped *meter.Reports
	trouble trouble

	conn   net.Conn
	dialed time.Time
}

func newStatsd(o Options, dropped *meter.Reports) *statsd {
	c := o.Settings.Statsd
	s := &statsd{dial: o.Dial, e2e: o.Settings.EndToEnd, memory: o.Settings.Memory, address: c.Address, dropped: dropped,
		trouble: trouble{log: o.Log, what: "metrics are not sent to statsd", at: c.Address}}
	if c.Prefix != "" {
		s.prefix = clean(c.Prefix) + "."
	}
	host := o.Host
	if c.Host != "" {
		host = c.Host
	}
	s.tags = "|#" + tag("host", host) + "," + tag("process_id", strconv.Itoa(o.PID))
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		s.tags += "," + tag(k, c.Tags[k])
	}
	return s
}

func tag(name, value string) string {
	return strings.ReplaceAll(clean(name), ":", "_") + ":" + clean(value)
}

// clean replaces what would end a metric or a tag.
var cleaner = strings.NewReplacer("|", "_", ",", "_", "#", "_", "\n", "_", "\r", "_")

func clean(s string) string { return cleaner.Replace(s) }

// timings are the latencies that are sent, by the name between min_ or max_ and _latency.
var timings = []struct {
	name string
	of   meter.Latency
}{
	{"processing", meter.Processing}, {"message", meter.Age}, {"transform", meter.Transforming},
	{"filter", meter.Filtering}, {"request", meter.Requesting}, {"e2e", meter.EndToEnd},
}

// lines are the metrics of p.
func (s *statsd) lines(p *part) []string {
	tags := s.tags
	if named(p.name) {
		tags += "," + tag("pipeline", p.name)
	}
	var lines []string
	line := func(name, value, kind string) {
		lines = append(lines, s.prefix+name+":"+value+"|"+kind+tags)
	}
	counter := func(name string, n int64) {
		if n != 0 {
			line(name, strconv.FormatInt(n, 10), "c")
		}
	}
	c := p.counts
	counter("target_success", c.sent)
	counter("target_failed", c.failed)
	counter("target_request_count", c.writes)
	counter("message_filtered", c.filtered)
	counter("failure_target_success", c.failureSent)
	counter("failure_target_failed", c.failureFailed)
	for _, t := range timings {
		if t.of == meter.EndToEnd && !s.e2e {
			continue
		}
		span := p.window.Spans[t.of]
		line("min_"+t.name+"_latency", inMillis(span.Min), "ms")
		line("max_"+t.name+"_latency", inMillis(span.Max), "ms")
	}
	if s.memory {
		line("kinsumer_records_in_memory", strconv.FormatInt(p.messages, 10), "g")
		line("kinsumer_records_in_memory_bytes", strconv.FormatInt(p.bytes, 10), "g")
	}
	return lines
}

// inMillis is d in milliseconds, to the microsecond.
func inMillis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64)
}

// packets joins lines to datagrams. A line that is too long for one travels alone.
func packets(lines []string) []string {
	var out []string
	var b strings.Builder
	for _, l := range lines {
		if b.Len() > 0 && b.Len()+1+len(l) > maxPacket {
			out = append(out, b.String())
			b.Reset()
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l)
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// send sends the metrics of one window. A datagram that cannot be sent is dropped.
func (s *statsd) send(ctx context.Context, parts []*part) {
	var lines []string
	for _, p := range parts {
		lines = append(lines, s.lines(p)...)
	}
	all := packets(lines)
	if err := s.connect(ctx); err != nil {
		s.dropped.Statsd.Add(int64(len(all)))
		s.trouble.met(err)
		return
	}
	var failed error
	for _, p := range all {
		if _, err := s.conn.Write([]byte(p)); err != nil {
			s.dropped.Statsd.Add(1)
			failed = err
		}
	}
	if failed != nil {
		s.close() // the address may have changed: look it up again
		s.trouble.met(fmt.Errorf("send a datagram: %w", failed))
		return
	}
	s.trouble.over()
}

// connect looks the server's address up again when the last time was a while ago.
func (s *statsd) connect(ctx context.Context) error {
	if s.conn != nil && time.Since(s.dialed) < redialAfter {
		return nil
	}
	s.close()
	conn, err := s.dial(ctx, "udp", s.address)
	if err != nil {
		return fmt.Errorf("find the server: %w", err)
	}
	s.conn, s.dialed = conn, time.Now()
	return nil
}

func (s *statsd) close() {
	if s.conn != nil {
		_ = s.conn.Close() // nothing is buffered in a UDP socket of ours
		s.conn = nil
	}
}

// trouble logs that a receiver cannot be reached: when that begins, once an hour while it
// lasts, and when it is over. Each belongs to one goroutine.
type trouble struct {
	log      *slog.Logger
	what, at string

	since, told time.Time
	count       int
}

const tellAgain = time.Hour

func (t *trouble) met(err error) {
	now := time.Now()
	if t.count++; t.count == 1 {
		t.since = now
	}
	if t.count == 1 || now.Sub(t.told) >= tellAgain {
		t.told = now
		t.log.Warn(t.what, meter.KeyAddress, t.at, meter.KeyError, secret.Text(err.Error()))
	}
}

func (t *trouble) over() {
	if t.count == 0 {
		return
	}
	t.log.Info("over: "+t.what, meter.KeyAddress, t.at, "failures", t.count, "lasted", time.Since(t.since).Round(time.Second))
	t.count = 0
}
