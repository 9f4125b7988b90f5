package blobtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
)

// childEnv tells a process that it is the one to be killed, and what it works on.
const childEnv = "WEIR_BLOBTEST_CHILD"

// What a child does in one life, if it is left to.
const (
	workers  = 3
	rounds   = 60
	ownNames = 4
	races    = 8
)

// Child does the work of a process that is killed, if this is one; TestMain calls it before
// anything else, and is done when it was: a process that returns has not been killed, and
// one with an error must end with another code than 0. The bucket that open opens calls step
// between any two of its steps, where it has some.
func Child(open func(path string, step func()) (blob.Bucket, error)) (was bool, err error) {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return false, nil
	}
	var path, id string
	var run, steps int
	if _, err := fmt.Sscanf(spec, "%s %d %d %q", &id, &run, &steps, &path); err != nil {
		return true, fmt.Errorf("read %s: %w", childEnv, err)
	}
	var left atomic.Int64
	left.Store(int64(steps))
	b, err := open(path, func() {
		if left.Add(-1) == 0 {
			killSelf()
		}
	})
	if err == nil {
		err = b.Sweep(context.Background(), time.Now().Add(-time.Hour))
	}
	if err != nil {
		return true, err
	}
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() { errs[w] = newToiler(b, id, w, run).toil() })
	}
	wg.Wait()
	return true, errors.Join(errs...)
}

// killSelf is kill -9: nothing runs after it, no deferred call and no other goroutine.
func killSelf() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(fmt.Sprintf("still alive: %v", err))
	}
	select {}
}

// toiler is one goroutine of a child. It says what it begins and what came of it.
type toiler struct {
	b     blob.Bucket
	id    string
	run   int
	rng   *rand.Rand
	names string // of its own objects
	count int
}

func newToiler(b blob.Bucket, id string, worker, run int) *toiler {
	seed := uint64(id[0])<<8 | uint64(worker)
	return &toiler{b: b, id: fmt.Sprint(id, worker), run: run, rng: rand.New(rand.NewPCG(seed, uint64(run))), names: fmt.Sprintf("own/%s/%d/", id, worker)}
}

func (o *toiler) toil() error {
	for i := range rounds {
		name := o.names + strconv.Itoa(o.rng.IntN(ownNames))
		var err error
		switch o.rng.IntN(6) {
		case 0:
			err = o.do(name, "-", func([]byte) error { return o.b.Delete(context.Background(), name) })
		case 1:
			err = o.do(name, o.value(), func(data []byte) error { return o.replace(name, data) })
		case 2:
			err = o.do(fmt.Sprintf("race/%d/%d", o.run, i%races), o.value(), func(data []byte) error {
				return o.create(fmt.Sprintf("race/%d/%d", o.run, i%races), data)
			})
		default:
			err = o.do(name, o.value(), func(data []byte) error { return o.create(name, data) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// value is a value that no other object has.
func (o *toiler) value() string {
	o.count++
	size := o.rng.IntN(100)
	if o.rng.IntN(4) == 0 {
		size = o.rng.IntN(300_000)
	}
	return fmt.Sprintf("%s-%d-%d-%d", o.id, o.run, o.count, size)
}

// content is what the object with the value holds: its value can be read from it, and whether
// it is whole.
func content(value string) []byte {
	size, err := strconv.Atoi(value[strings.LastIndexByte(value, '-')+1:])
	if err != nil {
		panic("a value ends with its size: " + value)
	}
	var b strings.Builder
	b.WriteString(value + "\n")
	for b.Len() < size {
		b.WriteString(value)
	}
	return []byte(b.String() + "end")
}

func (o *toiler) do(name, value string, call func([]byte) error) error {
	var data []byte
	if value != "-" {
		data = content(value)
	}
	say("begin", name, value)
	switch err := call(data); {
	case err == nil:
		say("done", name, value)
	case errors.Is(err, blob.ErrExists):
		say("taken", name, value)
	case errors.Is(err, blob.ErrNotFound):
		say("none", name, value)
	default:
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// say writes a line at once, so that it is out when the process is killed behind it.
func say(words ...string) {
	if _, err := os.Stdout.WriteString(strings.Join(words, " ") + "\n"); err != nil {
		panic(err)
	}
}

func (o *toiler) create(name string, data []byte) error {
	if o.rng.IntN(2) == 0 {
		_, err := o.b.Create(context.Background(), name, data)
		return err
	}
	w, err := o.b.Writer(context.Background(), name)
	if err != nil {
		return err
	}
	half := len(data) / 2
	_, err = w.Write(data[:half])
	if err == nil {
		_, err = w.Write(data[half:])
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Commit(context.Background())
}

func (o *toiler) replace(name string, data []byte) error {
	_, v, err := o.b.Get(context.Background(), name)
	if err == nil {
		_, err = o.b.Replace(context.Background(), name, v, data)
	}
	return err
}

// killings is what the parent knows of the objects.
type killings struct {
	t testing.TB

	mu       sync.Mutex
	possible map[string]map[string]bool // the values that an object may have; "-" for none
	before   map[string]map[string]bool // the same, before the call that is under way
	winners  map[string]string          // of races
}

// Kill runs processes on one place, two at a time, and kills them in the middle of what they
// do, at steps of theirs and from outside. Each time what they were told is compared with
// what is there: an object that was created is, whole; one name has one creator; nothing else
// is there. WEIR_CHAOS_RUNS is how often. tidy, if set, is called when all are dead and what
// they left was swept, and finds what should not be there.
func Kill(t *testing.T, path string, open func() blob.Bucket, tidy func()) {
	t.Helper()
	runs := 4
	if v := os.Getenv("WEIR_CHAOS_RUNS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("WEIR_CHAOS_RUNS is %q, not how often to kill", v)
		}
		runs = n
	}
	k := &killings{t: t, possible: map[string]map[string]bool{}, before: map[string]map[string]bool{}, winners: map[string]string{}}
	killed := 0
	for run := range runs {
		var wg sync.WaitGroup
		var deaths atomic.Int64
		for _, id := range []string{"a", "b"} {
			rng := rand.New(rand.NewPCG(uint64(run), uint64(id[0])))
			lines := 1 << 30
			steps := 1 + rng.IntN(400)
			if run%4 == 3 { // from outside
				lines, steps = 1+rng.IntN(100), 0
			}
			wg.Go(func() {
				if k.live(fmt.Sprintf("%s %d %d %q", id, run, steps, path), lines) {
					deaths.Add(1)
				}
			})
		}
		wg.Wait()
		killed += int(deaths.Load())
		b := open()
		if err := b.Sweep(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		k.compare(b)
		if tidy != nil {
			tidy()
		}
		if t.Failed() {
			t.Fatalf("run %d of %d", run, runs)
		}
	}
	t.Logf("%d processes were killed in %d runs; %d names", killed, runs, len(k.possible))
	if killed < runs {
		t.Errorf("only %d of %d processes were killed: the test shows little", killed, 2*runs)
	}
}

// live runs a child until it has said so many lines, or ends, and reports whether it was
// killed.
func (k *killings) live(spec string, lines int) bool {
	self, err := os.Executable()
	if err != nil {
		k.t.Error(err)
		return false
	}
	c := exec.CommandContext(k.t.Context(), self)
	c.Env = append(os.Environ(), childEnv+"="+spec)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		k.t.Error(err)
		return false
	}
	said := bufio.NewReader(out)
	for {
		line, err := said.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			k.t.Error(err)
			break
		}
		k.hear(strings.Fields(line))
		if lines--; lines == 0 {
			if err := c.Process.Kill(); err != nil {
				k.t.Error(err)
			}
		}
	}
	_ = c.Wait() // how it ended is asked below
	switch c.ProcessState.ExitCode() {
	case 0:
		return false
	case -1:
		return true
	}
	k.t.Errorf("a child failed: %s", stderr.String())
	return false
}

// hear notes a line of a child.
func (k *killings) hear(words []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	verb, name, value := words[0], words[1], words[2]
	have := k.possible[name]
	if have == nil {
		have = map[string]bool{"-": true}
		k.possible[name] = have
	}
	if strings.HasPrefix(name, "race/") {
		k.hearRace(verb, name, value, have)
		return
	}
	switch verb {
	case "begin":
		before := map[string]bool{}
		for v := range have {
			before[v] = true
		}
		k.before[name] = before
		have[value] = true
	case "done":
		k.possible[name] = map[string]bool{value: true}
	case "taken", "none":
		k.possible[name] = k.before[name]
		if verb == "taken" {
			delete(k.possible[name], "-")
		}
		if len(k.possible[name]) == 0 || verb == "none" && !k.possible[name]["-"] {
			k.t.Errorf("%s is %s for its only writer, it may be %v", name, verb, k.before[name])
		}
	}
}

// hearRace notes a line about an object that many create, and nobody deletes.
func (k *killings) hearRace(verb, name, value string, have map[string]bool) {
	switch verb {
	case "begin":
		have[value] = true
	case "done":
		if k.winners[name] != "" {
			k.t.Errorf("%s was created as %s and as %s", name, k.winners[name], value)
		}
		k.winners[name] = value
		delete(have, "-")
	case "taken":
		delete(have, value)
		delete(have, "-")
	}
}

// compare looks for every object.
func (k *killings) compare(b blob.Bucket) {
	k.t.Helper()
	found := map[string]string{}
	for info, err := range blob.All(k.t.Context(), b, blob.Query{Limit: 10}) {
		if err != nil {
			k.t.Fatal(err)
		}
		data, _, err := b.Get(k.t.Context(), info.Name)
		if err != nil {
			k.t.Fatal(err)
		}
		value, _, _ := strings.Cut(string(data), "\n")
		if strings.Count(value, "-") != 3 || !bytes.Equal(data, content(value)) {
			k.t.Errorf("%s is not whole: %d bytes, %.60q", info.Name, len(data), data)
		}
		if info.Size != int64(len(data)) {
			k.t.Errorf("%s has %d bytes, listed with %d", info.Name, len(data), info.Size)
		}
		found[info.Name] = value
		if k.possible[info.Name] == nil {
			k.t.Errorf("%s is there, and nobody began to write it", info.Name)
		}
	}
	for name, possible := range k.possible {
		value := found[name]
		if value == "" {
			value = "-"
		}
		if w := k.winners[name]; !possible[value] || w != "" && w != value {
			k.t.Errorf("%s is %q, may be %v, created by %q", name, value, possible, w)
		}
		k.possible[name] = map[string]bool{value: true}
	}
}
