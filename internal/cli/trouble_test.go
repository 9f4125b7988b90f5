//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// hanging is a server that takes requests and never answers, until the test ends.
func hanging(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		requests.Add(1)
		<-release
	}))
	t.Cleanup(func() { close(release); s.Close() })
	return s.URL, requests
}

const toHTTP = `
target {
  use "http" {
    url                       = %q
    request_timeout_in_millis = 600000
    batching {
      max_batch_messages = 10
    }
  }
}
drain_timeout_ms = %d
`

// TestTargetThatHangs: a signal ends the process within its drain timeout, with exit code 1
// and how many messages are not settled.
func TestTargetThatHangs(t *testing.T) {
	t.Parallel()
	url, requests := hanging(t)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(toHTTP, url, 8000)), "run", "p.hcl"))
	if _, err := io.WriteString(p.in, strings.Join(crowd(120), "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writes that hang", func() bool { return requests.Load() >= 5 })
	began := time.Now()
	p.stops(1)
	if took := time.Since(began); took < time.Second { // and it ends at all: a request may take ten minutes
		t.Errorf("it took %s to give up", took)
	}
	m := p.until(p.err, `weir: pipeline "default": (\d+) messages were read but not settled`)
	if m[1] != "120" {
		t.Errorf("%s of 120 messages are said to be open", m[1])
	}
	p.until(p.err, `drain deadline passed`)
}

// TestSecondInterrupt ends the process at once, whatever it waits for.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	url, requests := hanging(t)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(toHTTP, url, 3_600_000)), "run", "p.hcl"))
	if _, err := io.WriteString(p.in, "{}\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write that hangs", func() bool { return requests.Load() == 1 })
	p.signal(syscall.SIGINT)
	p.until(p.err, `stopping: reading has ended`)
	p.signal(syscall.SIGTERM) // what a service manager sends counts for nothing more
	p.signal(syscall.SIGINT)
	p.exits(1)
	p.until(p.err, `second signal: ending at once`)
}

// TestRepeatedTermination: SIGTERM may come any number of times, and cuts no drain.
func TestRepeatedTermination(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-answer
	}))
	t.Cleanup(s.Close)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(toHTTP, s.URL, 3_600_000)), "run", "p.hcl"))
	if _, err := io.WriteString(p.in, "{}\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	p.signal(syscall.SIGTERM)
	p.until(p.err, `stopping: reading has ended`)
	for range 5 {
		p.signal(syscall.SIGTERM)
	}
	close(answer)
	p.exits(0)
}

// TestSignalWhileIdle ends the process cleanly: everything that was read is settled.
func TestSignalWhileIdle(t *testing.T) {
	t.Parallel()
	p := launch(t, weir(t, files(t, "p.hcl", toFiles), "run", "p.hcl"))
	if _, err := io.WriteString(p.in, "one\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { return read(t, filepath.Join(p.dir, "out")) == "one\n" })
	p.stops(0)
}

// TestBrokenPipe: when nobody reads standard output any more, the process ends at once, says
// so and exits with 1.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := weir(t, files(t, "p.hcl", "target {\n  use \"stdout\" {}\n}\n"), "run", "p.hcl")
	c.Stdout = w
	p := launch(t, c)
	_ = w.Close()
	if _, err := io.WriteString(p.in, "one\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1000)); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	_ = r.Close()
	_, _ = io.WriteString(p.in, "two\nthree\n")
	_ = p.in.Close()
	p.exits(1)
	p.until(p.err, `weir: pipeline "default": write to the target: write to standard output: write /dev/stdout: broken pipe`)
}

// TestFailureTargetThatFails: what cannot be dead-lettered is not given up: exit code 1, and
// the reason.
func TestFailureTargetThatFails(t *testing.T) {
	t.Parallel()
	p := run(t, files(t, "p.hcl", `
transform {
  use "base64Decode" {}
}
target {
  use "silent" {}
}
failure_target {
  use "http" {
    url = "http://127.0.0.1:1/"
  }
}
retry {
  transient {
    delay_ms     = 5
    max_attempts = 2
  }
}
`), "*\n", "run", "p.hcl")
	p.exits(1)
	p.until(p.err, `weir: pipeline "default": write to the failure target: gave up after 2 attempts`)
}

// TestInvalidAfterMax: where the config says so, what a target does not take goes to the
// failure target, and everything is settled.
func TestInvalidAfterMax(t *testing.T) {
	t.Parallel()
	p := run(t, files(t, "p.hcl", `
target {
  use "http" {
    url = "http://127.0.0.1:1/"
  }
}
retry {
  transient {
    delay_ms          = 5
    max_attempts      = 2
    invalid_after_max = true
  }
}
failure_target {
  use "file" {
    path = "failed"
  }
}
`), "{\"n\":1}\n{\"n\":2}\n", "run", "p.hcl")
	p.exits(0)
	rs := rows(t, read(t, filepath.Join(p.dir, "failed")))
	if len(rs) != 2 || rs[0].Data.Payload != `{"n":1}` || rs[1].Data.Payload != `{"n":2}` || !strings.Contains(rs[0].Data.Failure.Errors[0], "connection refused") {
		t.Errorf("failed: %+v", rs)
	}
}

// TestDrainSaysHowMany: the numbers of a drain that was cut add up with what was written.
func TestDrainSaysHowMany(t *testing.T) {
	t.Parallel()
	var taken atomic.Int64
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if taken.Load() >= 50 {
			<-release
		}
		taken.Add(int64(strings.Count(string(body), "n")))
	}))
	t.Cleanup(func() { close(release); s.Close() })
	config := strings.Replace(fmt.Sprintf(toHTTP, s.URL, 8000), "max_batch_messages = 10", "max_batch_messages = 10\n max_concurrent_batches = 1", 1)
	p := launch(t, weir(t, files(t, "p.hcl", config), "run", "p.hcl"))
	_, _ = io.WriteString(p.in, strings.Join(crowd(200), "\n")+"\n")
	eventually(t, "five writes", func() bool { return taken.Load() == 50 })
	p.stops(1)
	m := regexp.MustCompile(`(\d+) messages were read but not settled`).FindStringSubmatch(p.err.String())
	if m == nil {
		t.Fatal(p.err.String())
	}
	if open, _ := strconv.Atoi(m[1]); open != 150 {
		t.Errorf("%d messages are said to be open, 150 are", open)
	}
}
