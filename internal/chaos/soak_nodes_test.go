//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
)

// soakMemory is memory_limit_bytes of each node.
const soakMemory = 256 << 20

// soakNode is one of the three processes, which comes and goes.
type soakNode struct {
	*quickstart // its config, ports and log
	name        string
	store       *faultproxy.TCP // between it and the database
	p           *process

	mu    sync.Mutex
	lives []life
}

// life is the memory of one run of a node: what is its own, once a second.
type life struct {
	pid     int
	samples []int64
}

// cluster is the nodes, the two servers, and where everything ends.
type cluster struct {
	t                 *testing.T
	out               string
	primary, standby  *enginetest.PostgresServer
	gateway           *soakNode
	processor, router *soakNode
	ledger            *soakLedger
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, out: os.Getenv("WEIR_SOAK_DIR"), ledger: newSoakLedger()}
	if c.out == "" {
		c.out = t.TempDir()
	}
	c.primary = enginetest.NewPostgresServer(t)
	c.standby = c.primary.Standby()
	sink := httptest.NewServer(c.ledger)
	t.Cleanup(sink.Close)
	folder := filepath.Join("testdata", "soak")
	workspace, err := os.ReadFile(filepath.Join(folder, "workspaceConfig.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.out, "workspaceConfig.json")
	if err := os.WriteFile(path, bytes.ReplaceAll(workspace, []byte("WEBHOOK_URL"), []byte(sink.URL+"/webhook")), 0o600); err != nil {
		t.Fatal(err)
	}
	node := func(name string, files ...string) *soakNode {
		proxy := faultproxy.NewTCP(t, c.primary.Address())
		n := &soakNode{name: name, store: proxy, quickstart: &quickstart{t: t, binary: program, out: c.out, ports: map[string]int{"ADMIN_PORT": addresstest.Port(t), "GATEWAY_PORT": addresstest.Port(t)}}}
		n.env = []string{"NODE=" + name, "STORE_DSN=" + strings.Replace(c.primary.DSN(), c.primary.Address(), proxy.Address, 1), "MACHINE_URL=" + sink.URL + "/machine"}
		for _, file := range append([]string{"common"}, files...) {
			n.config = append(n.config, filepath.Join(folder, file+".hcl"))
		}
		if n.log, err = os.Create(filepath.Join(c.out, name+".log")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.log.Close() })
		return n
	}
	c.gateway = node("gateway", "gateway")
	c.processor = node("processor", "processor", "machine")
	c.router = node("router", "router", "machine")
	return c
}

func (c *cluster) nodes() []*soakNode { return []*soakNode{c.gateway, c.processor, c.router} }

func (n *soakNode) begin() {
	n.t.Helper()
	n.p = n.start()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lives = append(n.lives, life{pid: n.p.cmd.Process.Pid})
}

// tail is the end of what the node has logged.
func (n *soakNode) tail() string {
	text, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err.Error()
	}
	return n.name + ":\n" + string(text[max(0, len(text)-3000):])
}

// change gives the node a further file of its config, and restarts it as an operator does.
func (n *soakNode) change() {
	n.t.Helper()
	n.config = append(n.config, filepath.Join("testdata", "soak", "changed.hcl"))
	n.p.stop()
	n.begin()
}

// sample looks at the memory of every node until ctx ends.
func (c *cluster) sample(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, time.Second) {
		for _, n := range c.nodes() {
			n.mu.Lock()
			if len(n.lives) > 0 {
				l := &n.lives[len(n.lives)-1]
				if bytes, there := ownMemory(l.pid); there {
					l.samples = append(l.samples, bytes)
				}
			}
			n.mu.Unlock()
		}
	}
}

// ownMemory is what a process has for itself, without files that are mapped; where there is no
// /proc, with them.
func ownMemory(pid int) (int64, bool) {
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		_, rest, found := strings.Cut(string(status), "RssAnon:")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			return 0, false
		}
		kb, err := strconv.ParseInt(fields[0], 10, 64)
		return kb << 10, err == nil
	}
	if _, err := os.Stat("/proc/self/status"); err == nil {
		return 0, false // it has ended
	}
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, false
	}
	kb, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kb << 10, err == nil
}

// until waits until something is so, for as long as anything is delivered, and patience more.
func (c *cluster) until(what string, is func() bool) {
	c.t.Helper()
	last, since := -1, time.Now()
	for !is() {
		if n := c.ledger.arrived() + c.ledger.total(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > patience {
			for _, n := range c.nodes() {
				c.t.Log(n.tail())
			}
			c.t.Fatalf("%s: not yet, and for %s nothing has moved", what, patience)
		}
		pause(c.t.Context(), 50*time.Millisecond)
	}
}

// untilReady waits until a node that was started or healed works.
func (c *cluster) untilReady(nodes ...*soakNode) {
	c.t.Helper()
	for _, n := range nodes {
		c.within(n.name+" is ready", func() bool { n.p.alive(); return n.ready() })
	}
}

// within waits for what is done whether or not anything is delivered.
func (c *cluster) within(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !is(); pause(c.t.Context(), 50*time.Millisecond) {
		if time.Now().After(deadline) {
			for _, n := range c.nodes() {
				c.t.Log(n.tail())
			}
			c.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// untilFlowing waits until events that are accepted from now on are delivered.
func (c *cluster) untilFlowing() {
	c.t.Helper()
	accepted, arrived := c.ledger.total(), c.ledger.arrived()
	c.until("events are taken and delivered", func() bool {
		return c.ledger.total() > accepted+200 && c.ledger.arrived() > arrived+200
	})
}

// untilEmpty waits until no queue holds an open message.
func (c *cluster) untilEmpty() {
	c.t.Helper()
	c.until("every queue is empty", func() bool {
		out, err := c.router.ask("queue", "ls", "--json")
		var list struct {
			Queues []struct {
				Name       string `json:"name"`
				Open, Dead int
			} `json:"queues"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err != nil || len(list.Queues) < 4 {
			c.t.Fatalf("list the queues: %v: %s", err, out)
		}
		left := 0
		for _, q := range list.Queues {
			left += q.Open
			if q.Dead > 0 {
				c.t.Errorf("queue %s has %d dead messages", q.Name, q.Dead)
			}
		}
		return left == 0
	})
}

// records are the lines of a node's log that are of a level; a line of JSON each.
func (n *soakNode) records(level string) (out []map[string]any) {
	text, err := os.ReadFile(n.log.Name())
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		r := map[string]any{}
		if json.Unmarshal(line, &r) == nil && r["level"] == level {
			out = append(out, r)
		}
	}
	return out
}

// summary counts what the nodes have said, by level and message.
func (c *cluster) summary() string {
	var b strings.Builder
	for _, n := range c.nodes() {
		for _, level := range []string{"ERROR", "WARN", "INFO"} {
			said := map[string]int{}
			for _, r := range n.records(level) {
				said[fmt.Sprint(r["msg"])]++
			}
			for _, text := range slices.Sorted(maps.Keys(said)) {
				fmt.Fprintf(&b, "%-9s %-5s %5d  %.160s\n", n.name, level, said[text], text)
			}
		}
	}
	return b.String()
}

// hang ends a node in the middle of whatever it does.
func (n *soakNode) hang() {
	n.t.Helper()
	n.p.alive()
	if err := n.p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	<-n.p.ended
}
