package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/connector"
)

// Machine is a state machine: the target of pipelines, each message of which starts an
// execution.
type Machine struct {
	// Name of the machine, which the target "machine" uses. Letters, digits, "_", "-" and
	// "."; at most 64 characters. Its executions to start are the queue "machine/NAME", which
	// also keeps those that failed as dead messages, with their input and the reason. Those that
	// wait, and tasks, are in "machine/NAME/steps": with the last error, where one was retried or
	// caught. weir_state_failures_total counts these by state and error.
	Name string `hcl:"name,label"`
	// Path of a file with the definition in the States Language (JSON, JSONPath); a relative
	// one means from the directory of the config file. The Resource of a Task
	// names a function block: as NAME, as "arn:aws:lambda:REGION:ACCOUNT:function:NAME", or
	// with "arn:aws:states:::lambda:invoke" and Parameters.FunctionName. Executions go on
	// with the definition they were started with, and with its max_events and
	// max_payload_bytes.
	Definition string `hcl:"definition"`
	// Most tasks that run at once; a state that waits takes none. At least 1.
	Workers int `hcl:"workers,optional"`
	// Most executions that are stepped at once, those included whose tasks wait for a
	// worker. At least 1.
	InFlight int `hcl:"in_flight,optional"`
	// Most bytes of the input or output of a state, a task or an execution; 262144 by
	// default, as on AWS, and at most 4194304.
	MaxPayloadBytes int `hcl:"max_payload_bytes,optional"`
	// Most history events of an execution before it fails; 0 for no limit, which is the
	// default. AWS has 25000.
	MaxEvents int `hcl:"max_events,optional"`
	// Seconds for which the record of an execution is kept after its end; 0, the default, to
	// keep none.
	KeepEndedSeconds int `hcl:"keep_ended_seconds,optional"`
	// Seconds until a job of the machine is given to another worker when the process that
	// has it hangs or dies. At least 3.
	LeaseSeconds int `hcl:"lease_seconds,optional"`
	// Longest time, in milliseconds, for tasks that run to end after a stop signal. A task
	// that is cut runs again after the next start. At least 1.
	DrainTimeoutMillis int `hcl:"drain_timeout_ms,optional"`
	// End the machine when every pipeline has ended and no execution is left, those that
	// wait included; off by default. Executions go on at the next start otherwise.
	StopWhenEmpty bool `hcl:"stop_when_empty,optional"`

	doc    *document
	header hcl.Range
	body   *hclsyntax.Body
}

// SetDefaults sets what a machine block need not say.
func (m *Machine) SetDefaults() {
	m.Workers, m.InFlight, m.MaxPayloadBytes, m.LeaseSeconds, m.DrainTimeoutMillis = 32, 1024, 256<<10, 60, 30000
}

// Lease is LeaseSeconds as a duration.
func (m *Machine) Lease() time.Duration { return time.Duration(m.LeaseSeconds) * time.Second }

// KeepEnded is KeepEndedSeconds as a duration.
func (m *Machine) KeepEnded() time.Duration { return time.Duration(m.KeepEndedSeconds) * time.Second }

// DrainTimeout is DrainTimeoutMillis as a duration.
func (m *Machine) DrainTimeout() time.Duration { return millis(m.DrainTimeoutMillis) }

// Dir is the directory of the file m is in.
func (m *Machine) Dir() string { return filepath.Dir(m.header.Filename) }

// Diagnose makes a diagnostic at one of m's attributes, or at m when field is empty or not
// written.
func (m *Machine) Diagnose(field, what, fix string) Diagnostic {
	r, _ := locate(m.body, m.header, field)
	return m.doc.errorAt(r, what, fix)
}

// Function does the work of Task states: in JavaScript, by putting the input into a target,
// or by an AWS Lambda handler.
type Function struct {
	// Name of the function, which the Resource of a Task names. Letters, digits, "_", "-" and
	// "."; at most 64 characters.
	Name string `hcl:"name,label"`
	// A script in JavaScript whose function main is called with the input of a task and
	// returns the output. What it throws fails the task: an Error with its name, or else
	// that of its class, and its message, as Lambda's Node.js runtime does.
	Script string `hcl:"script,optional"`
	// Path of a file that holds the script. A relative path means from the directory of the
	// config file.
	ScriptPath string `hcl:"script_path,optional"`
	// What the script finds as process.env.
	Env map[string]string `hcl:"env,optional"`
	// Longest time, in seconds, that the script may run for one task; 15 by default.
	TimeoutSec int `hcl:"timeout_sec,optional"`
	// By how many MiB the heap may grow while the script runs for one task; 128 by default.
	MemoryLimitMB int `hcl:"memory_limit_mb,optional"`
	// Puts the input of a task, or with a script what main returned, into a target; any
	// target will do. The output is what was put. A target "queue" is part of the execution's
	// step: it happens exactly once. Other targets are written at least once.
	Target *Target `hcl:"target,block"`
	// Runs an AWS Lambda handler as child processes.
	Lambda *Lambda `hcl:"lambda,block"`

	doc    *document
	header hcl.Range
	body   *hclsyntax.Body
}

// SetDefaults sets what a function block need not say.
func (f *Function) SetDefaults() { f.TimeoutSec, f.MemoryLimitMB = 15, 128 }

// Timeout is TimeoutSec as a duration.
func (f *Function) Timeout() time.Duration { return time.Duration(f.TimeoutSec) * time.Second }

// Dir is the directory of the file f is in.
func (f *Function) Dir() string { return filepath.Dir(f.header.Filename) }

// Diagnose makes a diagnostic at one of f's attributes, or at f when field is empty or not
// written.
func (f *Function) Diagnose(field, what, fix string) Diagnostic {
	r, _ := locate(f.body, f.header, field)
	hidden := f.doc.hiddenValues(f.body)
	return f.doc.errorAt(r, scrub(what, nil, hidden), fix)
}

// Lambda is an AWS Lambda handler: whatever speaks the Lambda Runtime API, as binaries built
// with an official runtime library do.
type Lambda struct {
	// The program and its arguments. A name with a slash is a path from the directory of the
	// config file; another name is looked for in PATH.
	Command []string `hcl:"command"`
	// The environment of the processes, beside what Lambda defines and PATH. Nothing else of
	// the environment of Weir is passed on.
	Env map[string]string `hcl:"env,optional"`
	// Most processes at once, each with one invocation at a time. At least 1; 1 by default.
	Concurrency int `hcl:"concurrency,optional"`
	// Longest time, in milliseconds, that an invocation may take; 3000 by default, as on AWS.
	// A process that takes longer is ended.
	TimeoutMillis int `hcl:"timeout_ms,optional"`
	// Longest time, in milliseconds, until a process that was started asks for an invocation;
	// 10000 by default, as on AWS.
	InitTimeoutMillis int `hcl:"init_timeout_ms,optional"`
}

// SetDefaults sets what a lambda block need not say.
func (l *Lambda) SetDefaults() { l.Concurrency, l.TimeoutMillis, l.InitTimeoutMillis = 1, 3000, 10000 }

// Timeout is TimeoutMillis as a duration.
func (l *Lambda) Timeout() time.Duration { return millis(l.TimeoutMillis) }

// InitTimeout is InitTimeoutMillis as a duration.
func (l *Lambda) InitTimeout() time.Duration { return millis(l.InitTimeoutMillis) }

func (m *Machine) validate(ps *problems) {
	if m.Definition == "" {
		ps.add("definition", "definition is empty", `name the file: definition = "orders.asl.json"`)
	}
	ps.least("workers", 1, m.Workers, "leave it out for 32")
	ps.most("workers", 10000, m.Workers)
	ps.least("in_flight", 1, m.InFlight, "leave it out for 1024")
	ps.most("in_flight", 100000, m.InFlight)
	ps.least("max_payload_bytes", 1, m.MaxPayloadBytes, "leave it out for 262144, which is 256 KiB")
	ps.most("max_payload_bytes", 4<<20, m.MaxPayloadBytes)
	ps.least("max_events", 0, m.MaxEvents, "write 0 for no limit")
	ps.least("keep_ended_seconds", 0, m.KeepEndedSeconds, "write 0 to keep none")
	ps.most("keep_ended_seconds", maxSeconds, m.KeepEndedSeconds)
	ps.least("lease_seconds", 3, m.LeaseSeconds, "leave it out for 60")
	ps.most("lease_seconds", 86400, m.LeaseSeconds)
	ps.least("drain_timeout_ms", 1, m.DrainTimeoutMillis, "leave it out for 30 seconds")
	ps.most("drain_timeout_ms", maxMillis, m.DrainTimeoutMillis)
}

func (f *Function) validate(ps *problems) {
	scripted := f.Script != "" || f.ScriptPath != ""
	const ways = `write script_path = "...", a block target { ... }, a script and a target, or a block lambda { ... }`
	switch {
	case !scripted && f.Target == nil && f.Lambda == nil:
		ps.add("", "the function does nothing", ways)
	case f.Lambda != nil && (scripted || f.Target != nil):
		ps.add("lambda", "a function with a lambda block has no script and no target", ways)
	case f.Script != "" && f.ScriptPath != "":
		ps.add("script_path", "the function has both script and script_path", "keep one of the two")
	}
	if f.Env != nil && !scripted {
		ps.add("env", "env is for a script, and the function has none", "take it out; the lambda block has an env of its own")
	}
	ps.least("timeout_sec", 1, f.TimeoutSec, "leave it out for 15")
	ps.most("timeout_sec", 86400, f.TimeoutSec)
	ps.least("memory_limit_mb", 1, f.MemoryLimitMB, "leave it out for 128")
	if l := f.Lambda; l != nil {
		if len(l.Command) == 0 || l.Command[0] == "" {
			ps.add("lambda.command", "command names no program", `write command = ["./bootstrap"]`)
		}
		ps.least("lambda.concurrency", 1, l.Concurrency, "leave it out for 1")
		ps.most("lambda.concurrency", 1000, l.Concurrency)
		ps.least("lambda.timeout_ms", 1, l.TimeoutMillis, "leave it out for 3000")
		ps.most("lambda.timeout_ms", maxMillis, l.TimeoutMillis)
		ps.least("lambda.init_timeout_ms", 1, l.InitTimeoutMillis, "leave it out for 10000")
		ps.most("lambda.init_timeout_ms", maxMillis, l.InitTimeoutMillis)
	}
}

// machines completes the machine and function blocks, and finds what is wrong with them.
func (d *document) machines(root *hclsyntax.Body, p *Process) Diagnostics {
	var ds Diagnostics
	machines, functions, queues := BlocksOf(root, "machine"), BlocksOf(root, "function"), BlocksOf(root, "queue")
	for i, q := range p.Queues {
		q.doc, q.header = d, HeaderOf(queues[i])
	}
	ds = append(ds, d.blockNames(machines, "machine")...)
	ds = append(ds, d.blockNames(functions, "function")...)
	for i, m := range p.Machines {
		m.doc, m.header, m.body = d, HeaderOf(machines[i]), machines[i].Body
		var ps problems
		m.validate(&ps)
		ds = append(ds, d.found(m.body, m.header, ps)...)
	}
	for i, f := range p.Functions {
		f.doc, f.header, f.body = d, HeaderOf(functions[i]), functions[i].Body
		if f.Target != nil {
			f.Target.Use.bind(d, KindTarget, "function."+f.Name, "", 0, f.header)
		}
		var ps problems
		f.validate(&ps)
		ds = append(ds, d.found(f.body, f.header, ps)...)
	}
	return ds
}

func (d *document) found(b *hclsyntax.Body, header hcl.Range, ps []connector.Problem) Diagnostics {
	var ds Diagnostics
	hidden := d.hiddenValues(b)
	for _, p := range ps {
		ds = append(ds, d.problem(b, header, p, hidden))
	}
	return ds
}

// blockNames refuses blocks whose name is none, and a second one of a name.
func (d *document) blockNames(blocks []*hclsyntax.Block, what string) Diagnostics {
	var ds Diagnostics
	seen := map[string]hcl.Range{}
	for _, b := range blocks {
		name, r := b.Labels[0], b.LabelRanges[0]
		other, twice := seen[name]
		switch {
		case !pipelineName.MatchString(name):
			ds = append(ds, d.errorAt(r, fmt.Sprintf("this is not a name for a %s", what), `use letters, digits, "_", "-" and ".", starting with a letter or digit; at most 64 characters`))
		case twice:
			ds = append(ds, d.errorAt(r, fmt.Sprintf("there is another %s %q, at %s", what, name, position(other)), "give one of the two another name"))
		}
		seen[name] = r
	}
	return ds
}

// functionUses checks the targets of functions.
func (d *document) functionUses(root *hclsyntax.Body) Diagnostics {
	var ds Diagnostics
	for _, b := range BlocksOf(root, "function") {
		if len(b.Labels) != 1 {
			continue
		}
		for _, target := range BlocksOf(b.Body, "target") {
			for _, use := range slices.Clip(BlocksOf(target.Body, "use")) {
				if len(use.Labels) == 1 {
					ds = append(ds, d.use(use, KindTarget, "function."+b.Labels[0], "", 0)...)
				}
			}
		}
	}
	return ds
}
