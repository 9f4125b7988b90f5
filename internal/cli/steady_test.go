package cli

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reader reads only when it is told to.
type reader struct {
	read chan struct{} // closed: reads everything
	got  bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.read
	return r.got.Write(p)
}

// TestSteady: a reader that stands still holds up nobody, and is told later how much it missed.
func TestSteady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{read: make(chan struct{})}
		s := newSteady(r, plainDropped)
		line := strings.Repeat("x", 1023) + "\n"
		fmt.Fprint(s, line)
		synctest.Wait() // it is being written
		const lines = 2 * mostWaiting / 1024
		for range lines {
			fmt.Fprint(s, line)
		}
		begin := time.Now()
		s.flush()
		if took := time.Since(begin); took != lastWords {
			t.Errorf("the end waited %s for a reader that stands still, want %s", took, lastWords)
		}
		close(r.read)
		s.flush()
		kept := strings.Count(r.got.String(), line)
		dropped := fmt.Sprintf("%d log lines were dropped", lines+1-kept)
		if kept < mostWaiting/1024 || !strings.Contains(r.got.String(), dropped) {
			t.Errorf("%d of %d lines were kept; want the log to say %q:\n%s", kept, lines+1, dropped, r.got.String()[max(r.got.Len()-200, 0):])
		}
		fmt.Fprint(s, "after\n")
		s.flush()
		if !strings.HasSuffix(r.got.String(), "\nafter\n") {
			t.Error("what is logged later is missing")
		}
	})
}

// disk takes so many bytes, and then none, until there is room.
type disk struct {
	room int
	got  bytes.Buffer
}

func (d *disk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.got.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestSteadyOnAFullDisk: what cannot be written ends nothing; a line that was torn is ended, and
// how many are missing is told once there is room.
func TestSteadyOnAFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{room: 10}
		s := newSteady(d, plainDropped)
		for range 5 {
			if n, err := fmt.Fprint(s, "seven..\n"); n != 8 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			s.flush()
		}
		d.room = 1000
		fmt.Fprint(s, "after\n")
		s.flush()
		want := "seven..\nse\nafter\n" + plainDropped(4)
		if got := d.got.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
