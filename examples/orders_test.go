package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ordersRun is an example of orders as a process.
type ordersRun struct {
	t      *testing.T
	config string
	binary string
	env    []string
	out    string
	cmd    *exec.Cmd
	said   *locked
}

// locked is a buffer that a process writes while the test reads it.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *locked) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newOrders(t *testing.T, env ...string) *ordersRun {
	t.Helper()
	binary, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	return &ordersRun{t: t, config: "orders", binary: binary, out: out, env: append(env, "OUT="+out), said: &locked{}}
}

func (o *ordersRun) start() {
	o.t.Helper()
	c := exec.Command(o.binary, "run", o.config)
	c.Env = append(os.Environ(), o.env...)
	c.Stdout, c.Stderr = o.said, o.said
	if err := c.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.cmd = c
	o.t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
}

func (o *ordersRun) kill() {
	o.t.Helper()
	if err := o.cmd.Process.Kill(); err != nil {
		o.t.Fatal(err)
	}
	if err := o.cmd.Wait(); err == nil {
		o.t.Fatalf("the run ended before it was killed: %s", o.said)
	}
}

func (o *ordersRun) stop() {
	o.t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		o.t.Fatal(err)
	}
	if err := o.cmd.Wait(); err != nil {
		o.t.Errorf("the run did not end cleanly: %v\n%s", err, o.said)
	}
}

// files is how many files a folder has.
func (o *ordersRun) files(folder string) int {
	found, err := filepath.Glob(filepath.Join(o.out, folder, "*.json"))
	if err != nil {
		o.t.Fatal(err)
	}
	return len(found)
}

// until waits until done, and fails the test when that takes too long.
func (o *ordersRun) until(what string, done func() bool) {
	o.t.Helper()
	tick, patience := time.NewTicker(5*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			o.t.Fatalf("%s: not within two minutes; valid %d, error %d, orphan %d\n%s", what, o.files("valid"), o.files("error"), o.files("orphan"), o.said)
		}
	}
}

type putOrder struct {
	ID          string `json:"id"`
	CountryCode string `json:"country_code"`
	Attempt     int    `json:"attempt"`
	Error       struct{ Error, Cause string }
}

func (o *ordersRun) order(folder, id string) putOrder {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.out, folder, id+".json"))
	if err != nil {
		o.t.Fatal(err)
	}
	var p putOrder
	if err := json.Unmarshal(data, &p); err != nil {
		o.t.Fatalf("%s/%s: %v", folder, id, err)
	}
	return p
}

// TestOrders runs the example as it is: GB, FR and PANIC end in valid, error and orphan.
func TestOrders(t *testing.T) {
	t.Parallel()
	o := newOrders(t)
	o.start()
	o.until("three orders", func() bool { return o.files("valid")+o.files("error")+o.files("orphan") == 3 })
	o.stop()
	if p := o.order("valid", "12345"); p.CountryCode != "GB" || p.Error.Error != "" {
		t.Errorf("the valid order is %+v", p)
	}
	if p := o.order("error", "12346"); p.CountryCode != "FR" || p.Error.Error != "ErrInvalidCountryCode" || !strings.Contains(p.Error.Cause, "no orders from FR") {
		t.Errorf("the order with an error is %+v", p)
	}
	if p := o.order("orphan", "12347"); p.CountryCode != "PANIC" || p.Attempt != 3 || p.Error.Error != "ErrTooManyAttempts" {
		t.Errorf("the orphan is %+v", p)
	}
}

// TestOrdersDrained: with the draining switch an order that came back is not tried again.
func TestOrdersDrained(t *testing.T) {
	t.Parallel()
	o := newOrders(t, "DRAIN=true")
	o.start()
	o.until("three orders", func() bool { return o.files("valid")+o.files("error")+o.files("orphan") == 3 })
	o.stop()
	if p := o.order("orphan", "12347"); p.Attempt != 1 || p.Error.Error != "ErrDraining" {
		t.Errorf("the orphan is %+v", p)
	}
}

// TestOrdersNoObject: no record is lost that is no order, or has an id that no file can have; and
// none goes round for ever.
func TestOrdersNoObject(t *testing.T) {
	t.Parallel()
	long := fmt.Sprintf("{\"id\":%q,\"country_code\":\"GB\"}", strings.Repeat("x", 300))
	orphans := []string{`"a string"`, `7`, `null`, `[{"id":1}]`, `{}`, `{"id":""}`, `{"id":{"a":1}}`, `{"id":null,"country_code":"GB"}`, long}
	lines := append([]string{`{"id":"good","country_code":"GB"}`, `{"id":5,"country_code":"GB"}`, `{"id":"a/b","country_code":"FR"}`,
		`{"id":"round","country_code":"PANIC","attempt":"x"}`, `this is no JSON`}, orphans...)
	orders := filepath.Join(t.TempDir(), "orders.jsonl")
	if err := os.WriteFile(orders, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOrders(t, "ORDERS="+orders, "MAX_ATTEMPTS=1")
	o.start()
	o.until("all records", func() bool {
		failed, err := os.ReadFile(filepath.Join(o.out, "failed.jsonl"))
		return err == nil && bytes.Contains(failed, []byte("this is no JSON")) &&
			o.files("valid") == 2 && o.files("error") == 1 && o.files("orphan") == len(orphans)+1
	})
	o.stop()
	kept := map[string]int{}
	found, err := filepath.Glob(filepath.Join(o.out, "orphan", "no-order-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Record json.RawMessage }
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		kept[string(p.Record)]++
	}
	for _, record := range orphans[:len(orphans)-1] {
		if kept[record] != 1 {
			t.Errorf("the record %s is kept %d times", record, kept[record])
		}
	}
	if len(kept) != len(orphans) {
		t.Errorf("%d records are kept, want %d: %v", len(kept), len(orphans), kept)
	}
}

// TestOrdersKilled kills the process again and again while it works on many orders: each
// ends where it belongs, and each orphan was tried exactly as often as it may be.
func TestOrdersKilled(t *testing.T) {
	t.Parallel()
	const n = 3000
	var in bytes.Buffer
	want := map[string][]string{}
	for i := range n {
		id, country, folder := fmt.Sprintf("o-%05d", i), "GB", "valid"
		switch i % 20 {
		case 7:
			country, folder = "FR", "error"
		case 13:
			country, folder = "PANIC", "orphan"
		}
		want[folder] = append(want[folder], id)
		fmt.Fprintf(&in, "{\"id\":%q,\"country_code\":%q}\n", id, country)
	}
	orders := filepath.Join(t.TempDir(), "orders.jsonl")
	if err := os.WriteFile(orders, in.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOrders(t, "ORDERS="+orders, "MAX_ATTEMPTS=2")
	for kill, least := range []int{1, n / 10, n / 3} {
		o.start()
		o.until("orders before a kill", func() bool { return o.files("valid") >= least })
		o.kill()
		if done := o.files("valid"); done == len(want["valid"]) && kill < 2 {
			t.Fatalf("all %d orders were done before kill %d: the test shows nothing", done, kill+1)
		}
	}
	o.start()
	o.until("all orders", func() bool {
		return o.files("valid") >= len(want["valid"]) && o.files("error") >= len(want["error"]) && o.files("orphan") >= len(want["orphan"])
	})
	o.stop()
	for folder, ids := range want {
		if got := o.files(folder); got != len(ids) {
			t.Errorf("%s has %d orders, want %d", folder, got, len(ids))
		}
		for _, id := range ids {
			p := o.order(folder, id)
			if p.ID != id || folder == "orphan" && p.Attempt != 2 {
				t.Errorf("%s/%s is %+v", folder, id, p)
			}
		}
	}
}
