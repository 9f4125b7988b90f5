package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cost is what a process used for something.
type cost struct {
	cpu, wall time.Duration
	rss       int64 // KiB at the most
	own       int64 // of rss, without pages of files, at the most
}

func (c cost) perEvent(events int) float64 {
	return float64(c.cpu.Nanoseconds()) / 1e3 / float64(events)
}

// median is the element whose key is in the middle.
func median[T any, K cmp.Ordered](all []T, key func(T) K) T {
	all = slices.SortedFunc(slices.Values(all), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return all[len(all)/2]
}

func cpuOf(c cost) time.Duration { return c.cpu }

// command is program, which is this one in the given role if role is not empty.
func (b *bench) command(role, program string, args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
	if role != "" {
		c.Env = append(os.Environ(), roleVariable+"="+role)
	}
	return c
}

// child runs a program in a directory, on the input, to its end, and returns what it cost.
func child(c *exec.Cmd, dir, input string) (used cost, err error) {
	in, err := os.Open(input)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, null.Close()) }()
	var stderr strings.Builder
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, in, null, &stderr
	begin := time.Now()
	if err := c.Start(); err != nil {
		return cost{}, fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	peak := watchPeak(c.Process.Pid)
	err = c.Wait()
	most, own := peak()
	if err != nil {
		return cost{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(c.Path), strings.Join(c.Args[1:], " "), err, stderr.String())
	}
	return cost{c.ProcessState.UserTime() + c.ProcessState.SystemTime(), time.Since(begin), most, own}, nil
}

// peakLook is how often the peak of a child is asked for: what it takes at the very end may
// be missed.
const peakLook = 10 * time.Millisecond

// watchPeak follows the most memory of a process, until the function it returns is called,
// which tells it in kB, and how much of it was the process's own at the most: no page of a file,
// such as the program. The accounting of an ended child is no use for it: it begins with the
// peak of the process that started it.
func watchPeak(pid int) func() (most, own int64) {
	stop, told := make(chan struct{}), make(chan [2]int64, 1)
	go func() {
		tick := time.NewTicker(peakLook)
		defer tick.Stop()
		var peak [2]int64
		for {
			if most, own, err := peakOf(pid); err == nil {
				peak = [2]int64{max(peak[0], most), max(peak[1], own)}
			}
			select {
			case <-stop:
				told <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() (most, own int64) { close(stop); peak := <-told; return peak[0], peak[1] }
}

// peakOf is the most memory that a process has had so far, in kB, and what is its own at this
// moment; 0 when it has ended.
func peakOf(pid int) (most, own int64, err error) {
	name := fmt.Sprintf("/proc/%d/status", pid)
	status, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		field, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmHWM": &most, "RssAnon": &own}[field]
		if into == nil {
			continue
		}
		if _, err := fmt.Sscan(value, into); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return most, own, nil
}

// server is a child process that goes on until it is stopped.
type server struct {
	cmd    *exec.Cmd
	stdout output
	stderr output
	ended  chan error
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

func serve(c *exec.Cmd, dir string) (*server, error) {
	s := &server{cmd: c, ended: make(chan error, 1)}
	c.Dir, c.Stdout, c.Stderr = dir, &s.stdout, &s.stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- c.Wait() }()
	return s, nil
}

// patience is how long a server may take to start or to stop.
const patience = time.Minute

// listening waits until the address takes connections.
func (s *server) listening(address string) error {
	tick, end := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("%s ended: %w: %s", filepath.Base(s.cmd.Path), err, s.stderr.String())
		case <-end:
			return fmt.Errorf("%s does not listen on %s after %s: %s", filepath.Base(s.cmd.Path), address, patience, s.stderr.String())
		case <-tick.C:
		}
	}
}

// stop ends the process as a supervisor does, and reports an exit code that is not 0.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil {
			return fmt.Errorf("%s: %w: %s", filepath.Base(s.cmd.Path), err, s.stderr.String())
		}
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s did not stop within %s", filepath.Base(s.cmd.Path), patience), s.cmd.Process.Kill())
	}
}

// answer waits for the process to end by itself and reads the JSON it printed.
func (s *server) answer(limit time.Duration, into any) error {
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil {
			return fmt.Errorf("%s: %w: %s", s.cmd.Args, err, s.stderr.String())
		}
		return json.Unmarshal([]byte(s.stdout.String()), into)
	case <-time.After(limit):
		return errors.Join(fmt.Errorf("%s is not done after %s", s.cmd.Args, limit), s.cmd.Process.Kill())
	}
}

// ticks are what /proc counts CPU time in, in a second; Linux shows this to programs
// whatever its own clock.
const ticks = 100

// used is what the process has used since it started.
func (s *server) used() (cost, error) {
	pid := strconv.Itoa(s.cmd.Process.Pid)
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return cost{}, fmt.Errorf("servers are measured on Linux only: %w", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return cost{}, fmt.Errorf("/proc/%s/stat has %d fields", pid, len(fields))
	}
	sum := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return cost{}, fmt.Errorf("/proc/%s/stat: %w", pid, err)
		}
		sum += n
	}
	c := cost{cpu: time.Duration(sum) * time.Second / ticks}
	if c.rss, c.own, err = peakOf(s.cmd.Process.Pid); err != nil {
		return cost{}, err
	}
	return c, nil
}

// freeAddress is a loopback address that nothing listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
