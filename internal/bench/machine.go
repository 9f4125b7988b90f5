package main

import (
	"cmp"
	"errors"
	"fmt"
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
	return []section{s}, nil
}

func (b *bench) execute(c machineCase) (cost, error) {
	input := filepath.Join(b.dir, "input")
	if err := orders(input, c.executions); err != nil {
		return cost{}, err
	}
	var all []cost
	for range b.rounds {
		work, err := b.fresh(map[string]string{"bench.hcl": machineConfig, "machine.json": `{"StartAt": "S0", "States": {` + c.states + `}}`})
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

// In the function "effect" the target counts as an effect elsewhere, and costs nothing.
const machineConfig = `store {
  use "embedded" {
    path = "store"
  }
}
function "script" {
  script = "function main(order) { order.total = order.total + 1; return order }"
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
