package stdout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/target/stdout"
)

func dataOnly(w io.Writer) *stdout.Target {
	c := *stdout.Entry.Default().(*stdout.Config)
	c.DataOnlyOutput = true
	return stdout.New(w, c)
}

// locked is a buffer for many goroutines.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Examples(t, conntest.One(stdout.Entry), "../../..")
	conntest.Target(t, conntest.TargetCase{
		Setup: func(*testing.T) (func() connector.Target, func() [][]byte) {
			var out locked
			return func() connector.Target { return dataOnly(&out) }, func() [][]byte {
				out.mu.Lock()
				defer out.mu.Unlock()
				var lines [][]byte
				for l := range bytes.Lines(out.Bytes()) {
					lines = append(lines, bytes.TrimSuffix(l, []byte("\n")))
				}
				return lines
			}
		},
		Broken:   func(*testing.T) connector.Target { return dataOnly(&limited{err: syscall.EPIPE}) },
		Want:     fault.Fatal,
		Features: conntest.TargetFeatures{Empty: true, Ordered: true},
	})
}

func TestDefaultLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 10, 35, 0, 123_000_000, time.UTC)
	a := &event.Message{Data: []byte("payload"), Key: "key", Times: event.Times{Created: at, Read: at.Add(time.Second), Transformed: at.Add(1001 * time.Millisecond)}}
	b := &event.Message{Data: []byte{}, Key: "k2", Times: event.Times{Created: at, Read: at}}
	var out bytes.Buffer
	if err := stdout.New(&out, *stdout.Entry.Default().(*stdout.Config)).Write(t.Context(), event.Batch{a, b}); err != nil {
		t.Fatal(err)
	}
	want := "PartitionKey:key,TimeCreated:2026-11-20 10:35:00.123 +0000 UTC,TimePulled:2026-11-20 10:35:01.123 +0000 UTC,TimeTransformed:2026-11-20 10:35:01.124 +0000 UTC,Data:payload\n" +
		"PartitionKey:k2,TimeCreated:2026-11-20 10:35:00.123 +0000 UTC,TimePulled:2026-11-20 10:35:00.123 +0000 UTC,TimeTransformed:0001-01-01 00:00:00 +0000 UTC,Data:\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	// The times are what fmt prints.
	if !strings.Contains(want, fmt.Sprintf("TimePulled:%v,", a.Times.Read)) || !strings.Contains(want, fmt.Sprintf("TimeTransformed:%v,", time.Time{})) {
		t.Error("times are not what fmt prints")
	}
}

func TestKeyIsMadeUpOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := event.New([]byte("x"))
	target := stdout.New(&out, *stdout.Entry.Default().(*stdout.Config))
	for range 2 {
		if err := target.Write(t.Context(), event.Batch{m}); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, _ := strings.Cut(out.String(), "\n"); a+"\n" != b || m.Key == "" {
		t.Errorf("a message that is written again has another key:\n%s", out.String())
	}
}

// limited takes room bytes and then fails.
type limited struct {
	room int
	err  error
	out  bytes.Buffer
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room)
	l.room -= n
	l.out.Write(p[:n])
	if n < len(p) {
		return n, l.err
	}
	return n, nil
}

// Whatever the byte at which the output fails: the messages before it are written, the
// others are named, and after they were written again each line is whole.
func TestOutputThatFailsWithinALine(t *testing.T) {
	t.Parallel()
	full := "first\nsecond\n\nfourth\n"
	for room := range len(full) + 1 {
		l := &limited{room: room, err: syscall.ENOSPC}
		target := dataOnly(l)
		left := event.Batch{event.New([]byte("first")), event.New([]byte("second")), event.New([]byte("")), event.New([]byte("fourth"))}
		err := target.Write(t.Context(), left)
		whole := strings.Count(full[:room], "\n")
		if room == len(full) {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var p *connector.Partial
		if whole > 0 {
			if !errors.As(err, &p) || len(p.Failed) != 4-whole || p.Failed[whole] == nil {
				t.Fatalf("room for %d: %v", room, err)
			}
		} else if errors.As(err, &p) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("room for %d: %v", room, err)
		}
		if fault.Of(err) != fault.Transient {
			t.Errorf("a full disk is %s", fault.Of(err))
		}
		l.room = 1 << 20
		if err := target.Write(t.Context(), left[whole:]); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(l.out.String(), "\n"), "\n")
		torn := full[strings.LastIndexByte(full[:room], '\n')+1 : room]
		var kept []string
		for i, line := range lines {
			if i == whole && torn != "" {
				if line != torn {
					t.Errorf("room for %d: the torn line is %q, want %q", room, line, torn)
				}
				continue
			}
			kept = append(kept, line)
		}
		if got := strings.Join(kept, "\n") + "\n"; got != full {
			t.Errorf("room for %d: printed %q", room, l.out.String())
		}
	}
}

func TestOutputThatIsGone(t *testing.T) {
	t.Parallel()
	for _, gone := range []error{syscall.EPIPE, syscall.EBADF, os.ErrClosed} {
		err := dataOnly(&limited{err: &os.PathError{Op: "write", Path: "/dev/stdout", Err: gone}}).Write(t.Context(), event.Batch{event.New([]byte("x"))})
		if fault.Of(err) != fault.Fatal || !strings.HasPrefix(err.Error(), "write to standard output: ") {
			t.Errorf("%v is %s", err, fault.Of(err))
		}
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	if raceEnabled {
		return // the race detector empties pools at random
	}
	ps := make(event.Batch, 100)
	for i := range ps {
		ps[i] = event.New(make([]byte, 512))
		ps[i].Key = "key"
	}
	target, ctx := stdout.New(io.Discard, *stdout.Entry.Default().(*stdout.Config)), t.Context()
	if n := testing.AllocsPerRun(100, func() { _ = target.Write(ctx, ps) }); n != 0 {
		t.Errorf("%.1f allocations for 100 messages", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, only := range []bool{true, false} {
		b.Run(fmt.Sprintf("data_only=%t", only), func(b *testing.B) {
			c := *stdout.Entry.Default().(*stdout.Config)
			c.DataOnlyOutput = only
			batch := make(event.Batch, 500)
			for i := range batch {
				batch[i] = event.New(make([]byte, 512))
				batch[i].Key = "key"
			}
			target := stdout.New(io.Discard, c)
			b.ReportAllocs()
			b.SetBytes(500 * 512)
			for b.Loop() {
				_ = target.Write(b.Context(), batch)
			}
		})
	}
}
