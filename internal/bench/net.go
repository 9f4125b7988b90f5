package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// One event as a server SDK sends it. The number, the user and the time of sending are
// overwritten in place, in as many digits.
const (
	numberMark = "000000000000"
	userMark   = "0000"
	sentMark   = "1000000000000000000"
	eventText  = `{"type":"track","messageId":"0b9d8c1c-5a3f-4a53-b5a1-` + numberMark + `","anonymousId":"c3d2e1f0-0000-4000-8000-c00000000001","userId":"user-` + userMark + `","event":"Order Completed",` +
		`"originalTimestamp":"2026-11-20T10:00:00.123Z","sentAt":"2026-11-20T10:00:05.456Z","channel":"server","properties":{"price":12.5,"currency":"EUR","items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}],"sent":` + sentMark + `},` +
		`"context":{"library":{"name":"analytics-go","version":"4.2.3"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)","ip":"10.1.2.3"},"integrations":{"All":true}}`
)

// users is how many users the events are of.
const users = 5000

// loaded is what the load reports: latencies are from the request to its answer.
type loaded struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// load sends requests over many connections, each of which waits for its answers; the rate is
// that of all of them together, in requests a second, and 0 sets none.
func load(args []string) error {
	var n [5]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	address, connections, requests, events, first, rate := args[0], n[0], n[1], n[2], n[3], n[4]
	var wg sync.WaitGroup
	took, errs := make([][]time.Duration, connections), make([]error, connections)
	begin := time.Now()
	for i := range connections {
		c := client{address: address, from: first + i*events, step: connections * events, n: share(requests, connections, i), events: events}
		if rate > 0 {
			c.every = time.Second * time.Duration(connections) / time.Duration(rate)
			c.delay = time.Second * time.Duration(i) / time.Duration(rate)
		}
		wg.Go(func() { took[i], errs[i] = c.run() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	all := slices.Concat(took...)
	p50, p99 := percentiles(all)
	return json.NewEncoder(os.Stdout).Encode(loaded{len(all), time.Since(begin).Seconds(), p50, p99})
}

// share is how many requests connection i sends, of which each sends every so manyth: the
// numbers of the events have no gap.
func share(requests, connections, i int) int { return (requests - i + connections - 1) / connections }

// percentiles are the 50th and the 99th, in milliseconds.
func percentiles(all []time.Duration) (p50, p99 float64) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	return ms(all[len(all)/2]), ms(all[len(all)*99/100])
}

// client is one connection.
type client struct {
	address      string
	from, step   int // number of the first event, and from request to request
	n, events    int
	every, delay time.Duration
}

func (c client) run() (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	path, body := "/v1/track", eventText
	if c.events > 1 {
		path, body = "/v1/batch", `{"batch":[`+strings.Repeat(eventText+",", c.events-1)+eventText+`]}`
	}
	// The credentials are the write key KEY1 and no password.
	request := []byte(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic S0VZMTo=\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body))
	base := len(request) - len(body)
	var at [3][]int
	for k, mark := range []string{numberMark, userMark, sentMark} {
		before := []string{"b5a1-", "user-", `"sent":`}[k]
		for i := 0; ; {
			j := strings.Index(body[i:], before+mark)
			if j < 0 {
				break
			}
			i += j + len(before)
			at[k] = append(at[k], base+i)
		}
	}
	in := bufio.NewReader(conn)
	took = make([]time.Duration, 0, c.n)
	next := time.Now().Add(c.delay)
	for r := range c.n {
		if c.every > 0 {
			<-time.After(time.Until(next))
			next = next.Add(c.every)
		}
		begin := time.Now()
		for i := range c.events {
			number := c.from + r*c.step + i
			digits(request[at[0][i]:][:len(numberMark)], number)
			digits(request[at[1][i]:][:len(userMark)], number%users)
			digits(request[at[2][i]:][:len(sentMark)], int(begin.UnixNano()))
		}
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := answered(in); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// digits writes n over b, with zeros before it.
func digits(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// answered reads one answer, which must be 200.
func answered(in *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer %q", line)
		}
		if len(line) == len("\r\n") {
			break
		}
		if v, ok := bytes.CutPrefix(bytes.ToLower(line), []byte("content-length:")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	_, err := in.Discard(length)
	return err
}

// received is what the sink reports: latencies are from the sending of an event by the load
// to its arrival.
type received struct {
	Events int     `json:"events"` // those that came twice counted twice
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
}

// sink answers 200 to each request and ends when it has every one of so many events,
// numbered from the first.
func sink(args []string) error {
	first, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	want, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var mu sync.Mutex
	seen := make(map[int]struct{}, want)
	var took []time.Duration
	done := make(chan error, 1)
	s := &http.Server{Addr: args[0], ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		now := time.Now()
		number, sent, ok := numbers(body)
		if err != nil || !ok {
			done <- fmt.Errorf("an event without its numbers came: %q, %w", body, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if number < first || number >= first+want {
			return // of the warming up, once more
		}
		seen[number] = struct{}{}
		took = append(took, now.Sub(time.Unix(0, int64(sent))))
		if len(seen) == want {
			done <- nil
		}
	})}
	go func() { done <- s.ListenAndServe() }()
	if err := <-done; err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	p50, p99 := percentiles(took)
	return json.NewEncoder(os.Stdout).Encode(received{len(took), p50, p99})
}

// numbers are those that the load wrote into an event.
func numbers(body []byte) (number, sent int, ok bool) {
	read := func(after string, n int) int {
		_, rest, found := bytes.Cut(body, []byte(after))
		if !found || len(rest) < n {
			return -1
		}
		v, err := strconv.Atoi(string(rest[:n]))
		if err != nil {
			return -1
		}
		return v
	}
	number, sent = read("b5a1-", len(numberMark)), read(`"sent":`, len(sentMark))
	return number, sent, number >= 0 && sent >= 0
}

// bare is the limit of the gateway: net/http reads the body, and answers when it is on the
// disk, together with those of others that wait.
func bare(args []string) (err error) {
	f, err := os.Create("bare.log")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	type entry struct {
		body []byte
		done chan error
	}
	entries := make(chan entry, 1024)
	go func() {
		var buf []byte
		for first := range entries {
			group := []entry{first}
			buf = append(buf[:0], first.body...)
			for len(entries) > 0 {
				e := <-entries
				group, buf = append(group, e), append(buf, e.body...)
			}
			_, err := f.Write(buf)
			if err == nil {
				err = syscall.Fdatasync(int(f.Fd()))
			}
			for _, e := range group {
				e.done <- err
			}
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	s := &http.Server{Addr: args[0], ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			done := make(chan error, 1)
			entries <- entry{body, done}
			err = <-done
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	})}
	go func() { <-stop; _ = s.Close() }()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
