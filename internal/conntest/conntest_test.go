package conntest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// defectEnv names the defect that the connectors of this process have.
const defectEnv = "CONNTEST_DEFECT"

// TestSuitesCatch runs the suites in child processes, each on connectors with one defect,
// and demands that the suite fails, and says why. Without a defect they pass.
func TestSuitesCatch(t *testing.T) {
	t.Parallel()
	for defect, want := range map[string]string{
		"":                                         "",
		"target loses a message":                   "missing",
		"target changes a payload":                 "changed in place",
		"target reorders":                          "payload 0 is",
		"target hides a failure":                   "want a *connector.Partial",
		"target names the wrong":                   "error <nil>",
		"target is not invalid":                    "want invalid",
		"target ignores cancel":                    "has not returned",
		"target leaks":                             "goroutines are left",
		"target closes once":                       "Close: already closed",
		"target panics when empty":                 "Write panics",
		"target limits":                            "limits that can never work",
		"target broken kind":                       "the error is transient, want setup",
		"source loses a message":                   "payload 1 is",
		"source wraps the end":                     "io.EOF",
		"source reuses memory":                     "changed in place",
		"source ignores cancel":                    "has not returned",
		"source forgets":                           "read after a restart",
		"source acks too far":                      "missing",
		"source returns nil":                       "is nil",
		"source panics on ack":                     "panics",
		"source takes more than there is room for": "rule 8",
		"source moves positions":                   "rule 9",
		"source hides positions":                   "does not say where it was read",
		"target opens once":                        "rule 10: Open after Close",
		"target begins anew":                       "rule 10: written after 2 openings",
		"source seeks less":                        "rule 11: a range has",
		"source seeks more":                        "is not of it",
		"source seeks without room":                "rule 8",
		"source seeks other bytes":                 "in its range",
		"source seeks other keys":                  "has key",
		"source seeks other headers":               "has headers",
		"source seeks elsewhere":                   "rule 11: message",
		"source seeks and moves":                   "rule 11",
		"source seeks once":                        "rule 11",
		"source seeks what is gone":                "that is gone has",
		"source seeks nowhere":                     "never was has",
		"source seeks on":                          "after the end of a range",
		"source opens once":                        "rule 10: Open after Close",
		"source goes on":                           "rule 10: read after Close and Open",
		"source takes acks of before":              "rule 10: read after an ack from before Close",
		"transform panics":                         "Apply to \"\" panics",
		"transform writes in place":                "changed in place",
		"transform drops out":                      "does not begin with the one it was given",
		"transform loses a clone":                  "never be acknowledged",
		"transform makes anew":                     "nobody waits for it",
		"transform drops and passes":               "has a reason to be filtered",
		"transform lists twice":                    "listed twice",
		"examples leave at zero":                   "sets third to its zero value",
		"examples leave in block":                  "sets block.inner to its zero value",
		"examples leave out":                       "does not set third",
		"examples set unknown":                     "unknown option: fourth",
		"examples have a wrong type":               "one must be a whole number, not text",
		"examples are not listed":                  "one and other exclude each other",
		"examples are valid":                       "take target exclusive out of the list",
		"examples set too much":                    "sets one, which may be left out",
	} {
		t.Run(defect, func(t *testing.T) {
			t.Parallel()
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefective$", "-test.timeout=60s")
			c.Env = append(os.Environ(), defectEnv+"="+defect, "CONNTEST_RUN=1")
			out, err := c.CombinedOutput()
			if (err == nil) != (want == "") {
				t.Fatalf("the suites say %v\n%s", err, out)
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("the suites do not say %q:\n%s", want, out)
			}
		})
	}
}

// TestDefective is what the child processes run.
func TestDefective(t *testing.T) {
	if os.Getenv("CONNTEST_RUN") == "" {
		return
	}
	defect := os.Getenv(defectEnv)
	kind, _, _ := strings.Cut(defect, " ")
	if kind == "" || kind == "target" {
		conntest.Target(t, targetCase(defect))
	}
	if kind == "" || kind == "source" {
		conntest.Source(t, sourceCase(defect))
	}
	if kind == "" || kind == "transform" {
		conntest.Transform(t, conntest.TransformCase{
			New:    func(*testing.T) connector.Transform { return connector.Stateless(transform(defect)) },
			Inputs: [][]byte{[]byte("split me"), []byte("drop me"), []byte("refuse me")},
		})
	}
	if kind == "" || kind == "examples" {
		checkExamples(t, defect)
	}
}

// memoryTarget keeps payloads in memory, with a defect.
type memoryTarget struct {
	defect string
	broken bool
	stuck  bool
	store  *store
	closed int
}

type store struct {
	mu sync.Mutex
	ps [][]byte
}

func targetCase(defect string) conntest.TargetCase {
	return conntest.TargetCase{
		Setup: func(*testing.T) (func() connector.Target, func() [][]byte) {
			s := &store{}
			return func() connector.Target { return &memoryTarget{defect: defect, store: s} }, func() [][]byte {
				s.mu.Lock()
				defer s.mu.Unlock()
				return append([][]byte(nil), s.ps...)
			}
		},
		Refused: [][]byte{[]byte("refused")},
		Broken: func(*testing.T) connector.Target {
			return &memoryTarget{defect: defect, broken: true, store: &store{}}
		},
		Stuck: func(*testing.T) connector.Target {
			return &memoryTarget{defect: defect, stuck: true, store: &store{}}
		},
		Want:     fault.Setup,
		Features: conntest.TargetFeatures{Binary: true, Empty: true, Tombstone: true, Ordered: true},
	}
}

func (m *memoryTarget) Limits() connector.Limits {
	l := connector.Limits{MaxBatchMessages: 10, MaxBatchBytes: 1 << 20, MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 3, FlushPeriod: 1}
	if m.defect == "target limits" {
		l.MaxConcurrentBatches = 0
	}
	return l
}

func (m *memoryTarget) Open(context.Context) error {
	switch m.defect {
	case "target leaks":
		go func() { select {} }()
	case "target opens once":
		if m.closed > 0 {
			return errors.New("closed")
		}
	case "target begins anew":
		m.store.ps = nil
	}
	return nil
}

func (m *memoryTarget) Close(context.Context) error {
	m.closed++
	if m.defect == "target closes once" && m.closed > 1 {
		return errors.New("already closed")
	}
	return nil
}

func (m *memoryTarget) Write(ctx context.Context, b event.Batch) error {
	if m.stuck {
		if m.defect == "target ignores cancel" {
			select {}
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if m.broken {
		if m.defect == "target broken kind" {
			return errors.New("broken")
		}
		return fault.New(fault.Setup, errors.New("broken"))
	}
	if m.defect == "target panics when empty" {
		_ = b[0]
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	failed := map[int]error{}
	var ps [][]byte
	for i, x := range b {
		switch {
		case string(x.Data) == "refused":
			if m.defect == "target is not invalid" {
				failed[i] = errors.New("refused")
			} else {
				failed[i] = fault.New(fault.Invalid, errors.New("refused"))
			}
		case m.defect == "target loses a message" && i == 7:
		case m.defect == "target changes a payload" && len(x.Data) > 0:
			x.Data[0] = 'X'
			ps = append(ps, x.Data)
		default:
			ps = append(ps, append([]byte(nil), x.Data...))
		}
	}
	if m.defect == "target reorders" && len(ps) > 1 {
		ps[0], ps[1] = ps[1], ps[0]
	}
	m.store.ps = append(m.store.ps, ps...)
	switch {
	case len(failed) == 0 || m.defect == "target hides a failure":
		return nil
	case m.defect == "target names the wrong":
		return &connector.Partial{Failed: map[int]error{0: failed[2]}}
	}
	return &connector.Partial{Failed: failed}
}

// memorySource reads payloads from memory, with a defect.
type memorySource struct {
	defect string
	all    [][]byte
	kept   *kept
	at     int
	buf    []byte
	acked  map[int]int // first index of each read that is acknowledged, and its end
	mu     sync.Mutex
	opens  int
	seeks  int
	closed bool
}

// kept outlives a restart.
type kept struct {
	committed int
	lost      bool // there is nothing any more
}

func sourceCase(defect string) conntest.SourceCase {
	losing := func(_ *testing.T, payloads [][]byte) (func() connector.Source, func()) {
		k := &kept{}
		return func() connector.Source {
			return &memorySource{defect: defect, all: payloads, kept: k, at: k.committed, acked: map[int]int{}}
		}, func() { k.lost = true }
	}
	return conntest.SourceCase{
		Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
			restart, _ := losing(t, payloads)
			return restart
		},
		Losing:   losing,
		Features: conntest.SourceFeatures{Ends: defect != "source ignores cancel", Ordered: true, Acknowledges: true, Remembers: defect != "source ignores cancel", Binary: true, Empty: true, Positions: true, Seeks: true},
	}
}

func (m *memorySource) Open(context.Context) error {
	if m.defect == "source opens once" && m.closed {
		return errors.New("closed")
	}
	if m.defect != "source goes on" {
		m.at = m.kept.committed
	}
	m.opens, m.closed, m.acked = m.opens+1, false, map[int]int{}
	return nil
}

func (m *memorySource) Close(context.Context) error { m.closed = true; return nil }

func (m *memorySource) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if m.defect == "source ignores cancel" && m.at == len(m.all) {
		select {}
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if m.at == len(m.all) {
		if m.defect == "source wraps the end" {
			return nil, nil, fmt.Errorf("read: %w", io.EOF)
		}
		return nil, nil, io.EOF
	}
	most, bytes := room.Within(100, math.MaxInt)
	if m.defect == "source takes more than there is room for" {
		most, bytes = 100, math.MaxInt
	}
	first, end := m.at, m.at
	for end < len(m.all) && end-first < most && (end == first || len(m.all[end]) <= bytes) {
		bytes -= len(m.all[end])
		end++
	}
	m.at = end
	b := m.batch(first, end)
	if m.defect == "source hides positions" {
		b[0].Meta.Origin = nil
	}
	if m.defect == "source returns nil" {
		b[0] = nil
	}
	opens := m.opens
	return b, func(_ context.Context, o event.Outcomes) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if (m.closed || opens != m.opens) && m.defect != "source takes acks of before" {
			return errors.New("closed since")
		}
		if m.defect == "source forgets" || (o.Err() != nil && m.defect != "source acks too far") {
			return nil
		}
		if _, twice := m.acked[first]; twice && m.defect == "source panics on ack" {
			panic("acknowledged twice")
		}
		m.acked[first] = end
		if m.defect == "source acks too far" {
			m.kept.committed = max(m.kept.committed, end)
		}
		for m.acked[m.kept.committed] > 0 {
			m.kept.committed = m.acked[m.kept.committed]
		}
		return nil
	}, nil
}

// batch is the payloads from first to end as messages.
func (m *memorySource) batch(first, end int) (b event.Batch) {
	for i, p := range m.all[first:end] {
		switch {
		case m.defect == "source loses a message" && i == 1:
			continue
		case m.defect == "source reuses memory":
			m.buf = append(m.buf[:0], p...)
			p = m.buf
		}
		x := event.New(p)
		x.Key = fmt.Sprint("key of ", first+i)
		x.Meta.Headers = event.Headers{{Name: "at", Value: fmt.Append(nil, first+i)}}
		b = append(b, x)
	}
	event.Origins(b, "memory", "", func(i int) uint64 {
		at := uint64(first + i)
		if m.defect == "source moves positions" {
			at = ^at
		}
		return at
	})
	return b
}

// memoryReplay reads a range, with a defect.
type memoryReplay struct {
	*memorySource
	next, end int
}

var errGone = fault.New(fault.Invalid, errors.New("it is not there"))

func (m *memorySource) Seek(_ context.Context, r connector.Range) (connector.Replay, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, last := binary.BigEndian.Uint64(r.First.Bytes), binary.BigEndian.Uint64(r.Last.Bytes)
	p := &memoryReplay{m, int(first), int(last) + 1}
	switch m.defect {
	case "source seeks nowhere":
		r.Stream, r.Partition = "memory", ""
	case "source seeks less":
		p.end = max(p.end-1, p.next+1)
	case "source seeks more":
		p.end = min(p.end+1, len(m.all))
	case "source seeks and moves":
		m.at = p.end
	case "source seeks once":
		if m.seeks++; m.seeks > 3 {
			return nil, errors.New("no more")
		}
	}
	if r.Stream != "memory" || r.Partition != "" || last < first || m.kept.lost && m.defect != "source seeks what is gone" {
		return nil, errGone
	}
	return p, nil
}

func (p *memoryReplay) Read(_ context.Context, room connector.Room) (event.Batch, error) {
	if p.next == p.end {
		if p.defect == "source seeks on" {
			p.next--
		}
		return nil, io.EOF
	}
	most, bytes := room.Within(10, math.MaxInt)
	if p.defect == "source seeks without room" {
		most, bytes = 10, math.MaxInt
	}
	first := p.next
	for p.next < p.end && p.next-first < most && (p.next == first || len(p.all[p.next]) <= bytes) {
		bytes -= len(p.all[p.next])
		p.next++
	}
	b := p.batch(first, p.next)
	switch x := b[len(b)-1]; p.defect {
	case "source seeks other bytes":
		x.Replace([]byte("other"))
	case "source seeks other keys":
		x.Key = "other"
	case "source seeks other headers":
		x.Meta.Headers = nil
	case "source seeks elsewhere":
		x.Meta.Origin = &event.Origin{Stream: "memory", Position: event.PutNumber(nil, 1<<40)}
	}
	return b, nil
}

func (p *memoryReplay) Close() error { return nil }

// transform splits, drops and refuses, with a defect.
type transform string

func (d transform) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	switch d {
	case "transform drops and passes":
		m.Drop("no reason")
	case "transform panics":
		_ = m.Data[0]
	case "transform writes in place":
		if len(m.Data) > 0 {
			m.Data[0] = 'X'
		}
	case "transform drops out":
		return event.Batch{m}, nil
	case "transform loses a clone":
		m.Clone()
	case "transform makes anew":
		return append(out, event.New(m.Data)), nil
	case "transform lists twice":
		return append(out, m, m), nil
	}
	switch string(m.Data) {
	case "split me":
		return append(out, m.Split([]byte("a"), []byte("b"))...), nil
	case "drop me":
		return out, nil
	case "refuse me":
		m.Split([]byte("a"), []byte("b"))
		return out, errors.New("refused")
	}
	return append(out, m), nil
}
