package main

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	got := map[string][]float64{}
	out := `goos: linux
BenchmarkAppend-2            	       1	         0.62 ratio	    410022 events/s
BenchmarkMove/cached=true/waiting=0-2 	      20	  88000 events/s	 12 B/op
BenchmarkAppend-2            	       1	         0.58 ratio	    400000 events/s
PASS
`
	if err := metrics(out, got); err != nil {
		t.Fatal(err)
	}
	want := map[string][]float64{
		"BenchmarkAppend ratio": {0.62, 0.58}, "BenchmarkAppend events/s": {410022, 400000},
		"BenchmarkMove/cached=true/waiting=0 events/s": {88000}, "BenchmarkMove/cached=true/waiting=0 B/op": {12},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := metrics("BenchmarkAppend-2 1 many events/s\n", got); err == nil {
		t.Error("a figure that is no number was read")
	}
}

// TestNumbers has the load send to a server, and reads there what the load wrote.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, events := range []int{1, 3} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		bodies := make(chan string, 2)
		go func() {
			defer close(bodies)
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			in := bufio.NewReader(conn)
			for range cap(bodies) {
				text := ""
				for strings.Count(text, `"All":true}}`) < events {
					part, err := in.ReadString('}')
					if err != nil {
						t.Error(err)
						return
					}
					text += part
				}
				if events > 1 {
					if _, err := in.ReadString('}'); err != nil {
						t.Error(err)
						return
					}
				}
				bodies <- text
				if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
					t.Error(err)
					return
				}
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}()
		before := time.Now()
		took, err := client{address: l.Addr().String(), from: 40, step: 100, n: 2, events: events}.run()
		if err != nil || len(took) != 2 {
			t.Fatal(took, err)
		}
		request := 0
		for text := range bodies {
			for i, one := range strings.Split(text, `"type":"track"`)[1:] {
				number, sent, ok := numbers([]byte(one))
				if want := 40 + request*100 + i; !ok || number != want {
					t.Errorf("request %d of %d events: event %d has the number %d, want %d", request, events, i, number, want)
				}
				if at := time.Unix(0, int64(sent)); at.Before(before.Add(-time.Millisecond)) || at.After(time.Now()) {
					t.Errorf("the event says that it was sent at %s", at)
				}
			}
			request++
		}
		if request != 2 {
			t.Errorf("%d requests came, want 2", request)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNumbersOfAnotherEvent(t *testing.T) {
	t.Parallel()
	if _, _, ok := numbers([]byte(`{"type":"track","messageId":"b5a1-x","sent":1}`)); ok {
		t.Error("numbers were read where there are none")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	s := section{head: []string{"case", "us"}, rows: [][]string{{"one", "0.5"}, {"another", "12"}}}
	want := "| case    | us  |\n| ---     | --- |\n| one     | 0.5 |\n| another | 12  |\n"
	if d := cmp.Diff(want, s.table()); d != "" {
		t.Error(d)
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := orders(filepath.Join(dir, "orders"), 3); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		lines  func(int) int
		events int
		ok     bool
	}{{"orders", every, 3, true}, {"orders", every, 4, false}, {"orders", none, 3, false}, {"absent", none, 3, true}, {"absent", every, 3, false}} {
		if err := holds(c.name, c.lines)(dir, c.events); (err == nil) != c.ok {
			t.Errorf("%s after %d events: %v", c.name, c.events, err)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if got := median([]cost{{cpu: 9}, {cpu: 1}, {cpu: 4}}, cpuOf); got.cpu != 4 {
		t.Errorf("median %v", got.cpu)
	}
	if p50, p99 := percentiles([]time.Duration{3 * time.Millisecond, time.Millisecond, 2 * time.Millisecond}); p50 != 2 || p99 != 3 {
		t.Errorf("percentiles %v and %v", p50, p99)
	}
}

// TestShare adds up the numbers of the requests of all connections.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ requests, connections int }{{2000, 256}, {256, 256}, {3, 4}, {500, 4}, {1, 1}} {
		seen := make([]int, c.requests)
		for i := range c.connections {
			for r := range share(c.requests, c.connections, i) {
				seen[i+r*c.connections]++
			}
		}
		for number, n := range seen {
			if n != 1 {
				t.Errorf("%d requests over %d connections: number %d is sent %d times", c.requests, c.connections, number, n)
			}
		}
	}
}
