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

// machineGroup is what a durable transition costs.
func machineGroup() group {
	return group{
		name:  "machine",
		title: "What a durable transition costs",
		intro: `Orders of about 130 bytes on standard input each start an execution of a machine with ten
states; the process ends when every execution has. A transition is a state entered. CPU is
user plus system time of the whole process, start-up, reading and starting included;
transitions/s per core are what one second of CPU is enough for.`,
		notes: `States without tasks, and tasks whose functions have no effects, are stepped one after the
other and committed together; what a function with an effect elsewhere answered is
committed before the next such task runs.`,
		run: machineSections,
	}
}

// machineCase is a machine with ten states.
type machineCase struct {
	name       string
	states     string
	executions int
	aim        string
}

const transitions = 10

func machineCases() []machineCase {
	chain := func(state func(i int) string) string {
		var all []string
		for i := range transitions - 1 {
			all = append(all, fmt.Sprintf(`"S%d": {%s}`, i, state(i)))
		}
		return strings.Join(append(all, fmt.Sprintf(`"S%d": {"Type": "Succeed"}`, transitions-1)), ",\n")
	}
	next := func(i int) string { return fmt.Sprintf(`"Next": "S%d"`, i+1) }
	choice := func(i int) string {
		return fmt.Sprintf(`"Type": "Choice", "Choices": [{"Variable": "$.country_code", "StringEquals": "FR", "Next": "S%d"}], "Default": "S%d"`, i+1, i+1)
	}
	pass := func(i int) string {
		return `"Type": "Pass", "Result": {"ok": true}, "ResultPath": "$.status", ` + next(i)
	}
	task := func(name string) func(i int) string {
		return func(i int) string { return fmt.Sprintf(`"Type": "Task", "Resource": %q, `, name) + next(i) }
	}
	return []machineCase{
		{"machine of passes and choices", chain(func(i int) string {
			if i%2 == 0 {
				return choice(i)
			}
			return pass(i)
		}), 20_000, ">= 10,000"},
		{"machine of scripts", chain(task("script")), 10_000, ">= 10,000"},
		{"machine of tasks with effects, each committed", chain(task("effect")), 5000, ">= 10,000"},
	}
}

func machineSections(b *bench) ([]section, error) {
	s := section{head: []string{"case", "us CPU/transition", "transitions/s per core", "transitions/s", "executions/s", "peak MB", "aim, per core"}}
	for _, c := range machineCases() {
		if !b.wanted(c.name) {
			continue
		}
		c.executions = b.scaled(c.executions)
		o, err := b.execute(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		n := c.executions * transitions
		b.say("%s: %.2f us CPU a transition", c.name, o.perEvent(n))
		s.rows = append(s.rows, []string{
			c.name, fmt.Sprintf("%.2f", o.perEvent(n)), fmt.Sprintf("%.0f", 1e6/o.perEvent(n)), fmt.Sprintf("%.0f", float64(n)/o.wall.Seconds()),
			fmt.Sprintf("%.0f", float64(c.executions)/o.wall.Seconds()), strconv.FormatInt(o.rss/1024, 10), cmp.Or(c.aim, "-"),
		})
	}
	designs, err := b.designs()
	return []section{s, designs}, err
}

// designs compares a pipeline that waits for its executions with one that does not.
func (b *bench) designs() (section, error) {
	s := section{
		title: "Blocking and not blocking at 1 % failing orders",
		text: `An execution has one JavaScript task. One order in a hundred fails, is tried three times, one
and then two seconds apart, and is caught. Four batches of 100 orders are in flight, as from
four shards. Blocking (` + "`wait = true`" + `), a batch is acknowledged when its executions have ended;
not blocking, when they are durably started. The time ends when every execution has ended,
three seconds after the last order was started at least.`,
		head: []string{"case", "orders", "orders/s", "us CPU/order", "times blocking", "aim"},
	}
	blocking := 0.0
	for _, d := range []struct {
		name   string
		wait   bool
		orders int
		aim    string
	}{
		{"machine, blocking", true, 2000, ""},
		{"machine, not blocking", false, 100_000, ">= 10 times"},
	} {
		if !b.wanted(d.name) {
			continue
		}
		d.orders = b.scaled(d.orders)
		input := filepath.Join(b.dir, "input")
		if err := failing(input, d.orders); err != nil {
			return s, err
		}
		o, err := b.runs(input, strings.Replace(machineConfig, `name = "orders"`, fmt.Sprintf(designFields, d.wait), 1), designMachine)
		if err != nil {
			return s, fmt.Errorf("%s: %w", d.name, err)
		}
		rate, times := float64(d.orders)/o.wall.Seconds(), "-"
		if d.wait {
			blocking = rate
		} else if blocking > 0 {
			times = fmt.Sprintf("%.0f", rate/blocking)
		}
		b.say("%s: %.0f orders/s", d.name, rate)
		s.rows = append(s.rows, []string{d.name, strconv.Itoa(d.orders), fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.1f", o.perEvent(d.orders)), times, cmp.Or(d.aim, "-")})
	}
	return s, nil
}

func (b *bench) execute(c machineCase) (cost, error) {
	input := filepath.Join(b.dir, "input")
	if err := orders(input, c.executions); err != nil {
		return cost{}, err
	}
	return b.runs(input, machineConfig, `{"StartAt": "S0", "States": {`+c.states+`}}`)
}

// runs is what a config with a machine costs until every execution has ended.
func (b *bench) runs(input, config, machine string) (cost, error) {
	var all []cost
	for range b.rounds {
		work, err := b.fresh(map[string]string{"bench.hcl": config, "machine.json": machine})
		if err != nil {
			return cost{}, err
		}
		w, err := child(b.command("", b.weir, "run", "--no-progress", "bench.hcl"), work, input)
		if err != nil {
			return cost{}, err
		}
		if err := b.ended(work); err != nil {
			return cost{}, err
		}
		all = append(all, w)
	}
	return median(all, cpuOf), nil
}

// ended checks that every execution has succeeded: nothing is left in the queues, nor dead.
func (b *bench) ended(work string) error {
	c := b.command("", b.weir, "queue", "ls", "--config", "bench.hcl")
	c.Dir = work
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	rows := strings.Split(strings.TrimSpace(string(out)), "\n")[1:]
	for _, row := range rows {
		if f := strings.Fields(row); len(f) < 6 || f[1] != "0" || f[5] != "0" {
			return fmt.Errorf("executions are left: %s", row)
		}
	}
	if len(rows) == 0 {
		return errors.New("there is no queue of a machine")
	}
	return nil
}

// failing writes orders of which every hundredth fails.
func failing(path string, events int) error {
	if err := orders(path, events); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	n := 0
	for line := range bytes.Lines(text) {
		if n++; n%100 == 1 {
			line = bytes.Replace(line, []byte(`"GB"`), []byte(`"PANIC"`), 1)
		}
		out.Write(line)
	}
	return os.WriteFile(path, out.Bytes(), 0o600)
}

const designMachine = `{"StartAt": "Check", "States": {"Check": {"Type": "Task", "Resource": "check", "End": true,
  "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 2}],
  "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]}, "Caught": {"Type": "Pass", "End": true}}}`

const designFields = `name = "orders"
    wait = %t
    batching {
      max_batch_messages     = 100
      max_concurrent_batches = 4
    }`

// In the function "effect" the target counts as an effect elsewhere, and costs nothing.
const machineConfig = `store {
  use "embedded" {
    path = "store"
  }
}
function "script" {
  script = "function main(order) { order.total = order.total + 1; return order }"
}
function "check" {
  script = "function main(order) { if (order.country_code === \"PANIC\") throw new Error(\"PANIC\"); return order }"
}
function "effect" {
  target {
    use "silent" {}
  }
}
machine "orders" {
  definition      = "machine.json"
  stop_when_empty = true
}
target {
  use "machine" {
    name = "orders"
  }
}
`
