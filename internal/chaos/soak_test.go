//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/parquet"
)

// logsAtMost bounds what all nodes log in a soak of any length.
const logsAtMost = 1 << 20

// soakNumber is a number of the environment.
func soakNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a whole number from 1", name, v)
	}
	return n
}

// TestSoak has three processes on one PostgreSQL with a standby: a gateway, a processor with a
// lake, and a router to a webhook, the last two with a machine. While producers post events, one
// process is killed and started again, one is cut off from the database and healed, all are
// restarted one after the other with a config that has changed, and the database fails over to
// the standby, which is behind. In the end:
//
//   - every event that was acknowledged before the standby fell behind, or after it was promoted,
//     is with the webhook and in the lake, and with the machine when it was for it; what is lost
//     of the others is within the bounds that an ERROR of the gateway names
//   - the first deliveries of each user's events came in their order, and the lake has none twice
//   - no process took more memory than its limit, nor more and more
//   - all processes together have logged less than logsAtMost, and given up nothing
//
// WEIR_SOAK_SECONDS is how long it takes where the machine keeps up with WEIR_SOAK_RATE events a
// second (1000 by default): what counts is how many events were acknowledged, so that it takes
// longer where it does not. Without it the test is skipped. WEIR_SOAK_DIR is an empty folder where
// its files stay, logs and lake among them.
func TestSoak(t *testing.T) {
	seconds := soakNumber(t, "WEIR_SOAK_SECONDS", 0)
	if seconds == 0 {
		t.Skip("WEIR_SOAK_SECONDS is not set: make soak sets it")
	}
	rate := soakNumber(t, "WEIR_SOAK_RATE", 1000)
	c := newCluster(t)
	for _, n := range c.nodes() {
		n.begin()
	}
	c.untilReady(c.nodes()...)
	sampling, stop := context.WithCancel(context.Background())
	sampled := make(chan struct{})
	go func() { defer close(sampled); c.sample(sampling) }()
	defer func() { stop(); <-sampled }()

	begun := time.Now()
	producers := startSoakProducers(t, c.ledger, c.gateway.at("GATEWAY_PORT", "/v1/batch"), rate)
	part := max(rate*seconds/6, 1000)
	rest := func(what string) {
		t.Helper()
		c.untilFlowing()
		from := c.ledger.total()
		c.until("after "+what, func() bool { return c.ledger.total() >= from+part })
		t.Logf("%4.0f s: %d events acknowledged, %d delivered; %s", time.Since(c.ledger.began).Seconds(), c.ledger.total(), c.ledger.arrived(), what)
	}
	nodes := c.nodes()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	rest("the beginning")
	c.kill(nodes[0])
	rest(nodes[0].name + " was killed")
	c.cutOff(nodes[1])
	rest(nodes[1].name + " was cut off")
	for _, n := range c.nodes() {
		n.change()
		c.untilReady(n)
		c.untilFlowing()
	}
	rest("all were restarted with a changed config")
	c.failover()
	rest("the database failed over")
	rest("the end")

	producers.stop()
	c.untilEmpty()
	stop()
	<-sampled
	for _, n := range c.nodes() {
		n.p.stop()
	}
	took := time.Since(begun)
	if err := c.readLake(); err != nil {
		t.Error(err)
	}
	t.Logf("%s, %d events a second acknowledged; answers by status %v, the slowest 503 after %s; %d deliveries to the webhook were repetitions\n%s",
		took.Round(time.Second), int(float64(c.ledger.total())/took.Seconds()), c.ledger.answers, c.ledger.slowest.Round(time.Millisecond), c.ledger.repeated, c.summary())
	c.checkEvents()
	c.checkMemory()
	c.checkLogs()
}

// kill ends a node in the middle of its work, and starts it again when the others have worked on.
func (c *cluster) kill(n *soakNode) {
	c.t.Helper()
	c.t.Logf("%s is killed after %s", n.name, time.Since(c.ledger.began))
	n.hang()
	if n != c.gateway { // without it nothing is taken
		from := c.ledger.total()
		c.until("events are taken without "+n.name, func() bool { return c.ledger.total() > from+200 })
	}
	n.begin()
	c.untilReady(n)
}

// cutOff takes a node's database away until it has noticed, and for longer than its lease.
func (c *cluster) cutOff(n *soakNode) {
	c.t.Helper()
	cut := time.Now()
	n.store.Freeze()
	n.store.Refuse()
	c.within(n.name+" says that it is not ready", func() bool { n.p.alive(); return !n.ready() })
	if n != c.gateway {
		from := c.ledger.total()
		c.until("events are taken without "+n.name, func() bool { return c.ledger.total() > from+200 })
	}
	pause(c.t.Context(), 5*time.Second-time.Since(cut)) // others have taken over by then, or will
	n.store.Cut()
	n.store.Thaw()
	n.store.Accept()
	c.untilReady(n)
}

// failover promotes a standby that does not have the last events.
func (c *cluster) failover() {
	c.t.Helper()
	c.ledger.turnTo(phaseLag)
	here := scan[string](c.t, c.primary.DSN(), "SELECT pg_current_wal_flush_lsn()::text")
	c.within("the standby has what was acknowledged so far", func() bool {
		return scan[bool](c.t, c.standby.DSN(), "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)", here)
	})
	for _, text := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		execute(c.t, c.standby.DSN(), text)
	}
	c.within("the standby receives nothing", func() bool {
		return scan[int](c.t, c.standby.DSN(), "SELECT count(*) FROM pg_stat_wal_receiver") == 0
	})
	from := c.ledger.total()
	c.until("more is acknowledged", func() bool { return c.ledger.total() > from+500 })
	c.primary.Crash()
	c.standby.Promote()
	for _, n := range c.nodes() {
		n.store.To(c.standby.Address())
	}
	c.untilReady(c.nodes()...)
	c.ledger.turnTo(phaseAfter)
}

func execute(t *testing.T, dsn, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), text)
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func scan[T any](t *testing.T, dsn, text string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(t.Context(), text, args...).Scan(&v)
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func (c *cluster) readLake() error {
	return filepath.WalkDir(filepath.Join(c.out, "lake"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		r, err := parquet.Open(path)
		if err != nil {
			return err
		}
		defer r.Close()
		for {
			row, err := r.Next(nil)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			_, rest, _ := strings.Cut(string(row), `"messageId":"`)
			id, _, _ := strings.Cut(rest, `"`)
			c.ledger.landed(id)
		}
	})
}

// bounds are those of what a node says to be lost.
type lossBounds struct {
	from, to time.Time
	jobs     int
}

func (c *cluster) losses(n *soakNode) (out []lossBounds) {
	c.t.Helper()
	for _, r := range n.records("ERROR") {
		if !strings.Contains(fmt.Sprint(r["msg"]), "has lost what was accepted") {
			continue
		}
		from, err1 := time.Parse(time.RFC3339Nano, fmt.Sprint(r["accepted_from"]))
		to, err2 := time.Parse(time.RFC3339Nano, fmt.Sprint(r["accepted_to"]))
		jobs, good := r["jobs_of_this_process"].(float64)
		if err := errors.Join(err1, err2); err != nil || !good {
			c.t.Errorf("%s names a loss without its bounds: %v", n.name, r)
		}
		out = append(out, lossBounds{from, to, int(jobs)})
	}
	return out
}

// checkEvents compares what was acknowledged with what arrived.
func (c *cluster) checkEvents() {
	l := c.ledger
	bounds := c.losses(c.gateway)
	within := func(d *deed) bool {
		return slices.ContainsFunc(bounds, func(b lossBounds) bool {
			return !l.began.Add(d.posted).After(b.to) && !l.began.Add(d.kept).Before(b.from)
		})
	}
	lost, lag, wrong, twice, acked := map[string]int{}, 0, 0, 0, 0
	for who := range l.users {
		for n := range l.users[who].deeds {
			d := &l.users[who].deeds[n]
			if d.lake > 1 {
				twice++
			}
			if !d.acked {
				continue
			}
			acked++
			var where []string
			if !d.webhook {
				where = append(where, "webhook")
			}
			if d.lake == 0 {
				where = append(where, "lake")
			}
			if n%soakMachine == 0 && !d.machine {
				where = append(where, "machine")
			}
			for _, w := range where {
				lost[w]++
			}
			switch {
			case len(where) == 0:
			case d.lag && within(d):
				lag++
			default:
				if wrong++; wrong <= most {
					c.t.Errorf("event %d-%d, acknowledged after %s (in the lag: %v), is not with %v", who, n, d.kept.Round(time.Millisecond), d.lag, where)
				}
			}
		}
	}
	c.t.Logf("%d events acknowledged, %d of them in the lag, of which %d are lost; losses by target %v; the gateway says %v", acked, l.accepted[phaseLag], lag, lost, bounds)
	if wrong > 0 {
		c.t.Errorf("%d acknowledged events are lost that no lag accounts for", wrong)
	}
	// What the database lost may have been delivered before that; that it lost something is what counts.
	if len(bounds) == 0 || l.accepted[phaseLag] == 0 || l.accepted[phaseKept] == 0 || l.accepted[phaseAfter] == 0 {
		c.t.Error("the database lost nothing with its lag: the test has shown nothing")
	}
	if twice > 0 {
		c.t.Errorf("the lake has %d events twice", twice)
	}
	for _, text := range append(l.disorder, l.strange...) {
		c.t.Errorf("webhook: %s", text)
	}
}

// warm is how much of a life is not looked at: caches and pools fill.
const warm = 60 * time.Second

// checkMemory checks that each node kept to its limit, and that its memory was flat: of a life of
// five minutes and more, the last third has at its middle no more than the first third at its
// middle and 24 MiB. Go's collector lets a heap double before it looks, and starts at 64 MiB of
// garbage, so that a single look differs by as much; a leak of 30 bytes an event is that after a
// quarter of an hour at 1,000 a second.
func (c *cluster) checkMemory() {
	for _, n := range c.nodes() {
		for i, l := range n.lives {
			if len(l.samples) == 0 {
				continue
			}
			peak := slices.Max(l.samples)
			text := fmt.Sprintf("%s, run %d: %d s, at most %d MiB", n.name, i+1, len(l.samples), peak>>20)
			if peak > soakMemory {
				c.t.Errorf("%s, which is over its limit of %d MiB", text, soakMemory>>20)
			}
			skip := int(warm / time.Second)
			if len(l.samples) >= 5*skip {
				s := l.samples[skip:]
				early, late := middle(s[:len(s)/3]), middle(s[len(s)-len(s)/3:])
				text += fmt.Sprintf("; %d MiB in the first third, %d in the last", early>>20, late>>20)
				if late > early+24<<20 {
					c.t.Errorf("%s: it grows", text)
				}
			}
			c.t.Log(text)
		}
	}
}

func middle(s []int64) int64 {
	s = slices.Sorted(slices.Values(s))
	return s[len(s)/2]
}

func (c *cluster) checkLogs() {
	var sum int64
	for _, n := range c.nodes() {
		info, err := n.log.Stat()
		if err != nil {
			c.t.Fatal(err)
		}
		sum += info.Size()
	}
	c.t.Logf("%d KiB of logs", sum>>10)
	if sum > logsAtMost {
		c.t.Errorf("the nodes have logged %d bytes, which is more than %d", sum, logsAtMost)
	}
	failed, err := filepath.Glob(filepath.Join(c.out, "failed", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range failed {
		if text, err := os.ReadFile(name); err != nil || len(text) > 0 {
			c.t.Errorf("%s: %v: %.1000s", filepath.Base(name), err, text)
		}
	}
}
