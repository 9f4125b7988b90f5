package gatewaysource

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The benchmark's clients are another process, so that what this one uses is the server's.
const (
	loadAddress  = "WEIR_GATEWAY_LOAD_ADDRESS"
	loadRequests = "WEIR_GATEWAY_LOAD_REQUESTS"
	loadEvents   = "WEIR_GATEWAY_LOAD_EVENTS"
	loadHeaders  = "WEIR_GATEWAY_LOAD_HEADERS"
	loadClients  = 256
)

// load sends requests over many connections, each waiting for its answer.
func load() error {
	total, err := strconv.Atoi(os.Getenv(loadRequests))
	if err != nil {
		return err
	}
	events, err := strconv.Atoi(os.Getenv(loadEvents))
	if err != nil {
		return err
	}
	event := `{"type":"track","messageId":"0b9d8c1c-5a3f-4a53-b5a1-000000000001","anonymousId":"c3d2e1f0-0000-4000-8000-000000000001","userId":"user-1","event":"Order Completed",` +
		`"originalTimestamp":"2026-11-20T10:00:00.123Z","sentAt":"2026-11-20T10:00:05.456Z","channel":"server","properties":{"price":12.5,"currency":"EUR","items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}]},` +
		`"context":{"library":{"name":"analytics-go","version":"4.2.3"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)","ip":"10.1.2.3"},"integrations":{"All":true}}`
	path, body := "/v1/track", event
	if events > 1 {
		path, body = "/v1/batch", `{"batch":[`+strings.Repeat(event+",", events-1)+event+`]}`
	}
	request := []byte(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		path, base64.StdEncoding.EncodeToString([]byte("KEY1:")), os.Getenv(loadHeaders), len(body), body))
	first := request // of a connection
	if strings.Contains(os.Getenv(loadHeaders), "Origin") {
		first = []byte(preflight(path, ""))
	}
	var wg sync.WaitGroup
	errs := make(chan error, loadClients)
	for i := range loadClients {
		n := (total + i) / loadClients
		wg.Go(func() { errs <- client(first, request, n) })
	}
	wg.Wait()
	for range loadClients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func client(first, request []byte, n int) error {
	conn, err := net.Dial("tcp", os.Getenv(loadAddress))
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	ask := func(request, status []byte, body int) error {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		for begun := false; ; begun = true {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if !begun && !bytes.HasPrefix(line, status) {
				return fmt.Errorf("answer %q", line)
			}
			if len(line) == 2 {
				break
			}
		}
		_, err := in.Discard(body)
		return err
	}
	if n > 0 && first[0] == 'O' {
		if err := ask(first, []byte("HTTP/1.1 204"), 0); err != nil {
			return err
		}
	}
	for range n {
		if err := ask(request, []byte("HTTP/1.1 200"), len("ok")); err != nil {
			return err
		}
	}
	return nil
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkServe is what an event costs from the network to the batch and back, by CPU
// time of the server's process.
func BenchmarkServe(b *testing.B) {
	for _, events := range []int{1, 100} {
		b.Run(fmt.Sprintf("connections=%d/events=%d", loadClients, events), func(b *testing.B) { serveLoad(b, events, "") })
	}
}

// BenchmarkServeOrigin is BenchmarkServe for pages of another origin: each connection begins with
// a preflight request, and every request has what a browser sends. What it costs more than
// "plain", which has the same headers and no Origin, is what CORS costs.
func BenchmarkServeOrigin(b *testing.B) {
	const browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-GB,en;q=0.9\r\nReferer: https://shop.example/cart\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nConnection: keep-alive\r\n"
	b.Run("plain", func(b *testing.B) { serveLoad(b, 1, browser) })
	b.Run("origin", func(b *testing.B) { serveLoad(b, 1, browser+"Origin: https://shop.example\r\n") })
}

func serveLoad(b *testing.B, events int, headers string) {
	s := start(b, nil)
	s.run(b, nil)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.ReportAllocs()
	before := cpu(b)
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), loadAddress+"="+s.Addr().String(), loadRequests+"="+strconv.Itoa(b.N), loadEvents+"="+strconv.Itoa(events), loadHeaders+"="+headers)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &out
	if err := cmd.Run(); err != nil {
		b.Fatalf("%v: %s", err, out.Bytes())
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N*events), "cpu-ns/event")
}
