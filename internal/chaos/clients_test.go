//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// event is one event as a client posts it.
type event struct {
	id    string
	body  []byte // one line
	sinks []sink
}

// feed is a kind of client.
type feed struct {
	name  string
	url   func(*quickstart) string
	user  string // write key; none when empty
	most  int    // events in a request
	pause time.Duration
	make  func(id string, n int) event // event n of a client
	wrap  func([]event) []byte
}

// began is about when the events happened: not so close to an hour's end that the time of the
// test decides about partitions.
var began = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)

func pick[T any](from ...T) T { return from[rand.IntN(len(from))] }

func line(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps of strings and numbers
	}
	return data
}

// sdkEvent is an event of the source "website": track events go to the webhook too.
func sdkEvent(id string, _ int) event {
	kind := pick("track", "track", "track", "page", "identify")
	e := map[string]any{"type": kind, "messageId": id, "userId": fmt.Sprint("user-", rand.IntN(50)), "properties": map[string]any{"twin": id}}
	to := []sink{archive}
	if kind == "track" {
		e["event"] = "Product Viewed"
		to = append(to, webhook)
	}
	return event{id, line(e), to}
}

// appEvent is an event of the source "app", which is connected to the archive alone.
func appEvent(id string, _ int) event {
	return event{id, line(map[string]any{"type": "track", "messageId": id, "userId": "app", "event": "Opened", "properties": map[string]any{"twin": id}}), []sink{archive}}
}

func order(id string, n int) event {
	country, to := "GB", valid
	switch n % 20 {
	case 2:
		country, to = "PANIC", orphan
	case 5, 11:
		country, to = "FR", failing
	}
	return event{id, line(map[string]any{"id": id, "country_code": country, "twin": id}), []sink{to}}
}

func lesson(id string, _ int) event {
	at := began.Add(time.Duration(rand.IntN(7200)) * time.Second).Unix() // in one of three hours
	return event{id, line(map[string]any{"event_uuid": id, "event_name": pick("lesson:started", "lesson:finished", "payment:completed"), "created_at": at, "twin": id}), []sink{lake}}
}

// streamLine is text that is no JSON; its id is its first word.
func streamLine(id string, _ int) event {
	return event{id, fmt.Appendf(nil, `%s 203.0.113.%d - - "GET /cart HTTP/1.1" 200 "é" twin=%s`, id, rand.IntN(256), id), []sink{replica}}
}

func batch(es []event) []byte {
	bodies := make([][]byte, len(es))
	for i, e := range es {
		bodies[i] = e.body
	}
	return append(append([]byte(`{"batch":[`), bytes.Join(bodies, []byte(","))...), "]}"...)
}

func linesOf(es []event) []byte {
	var b bytes.Buffer
	for _, e := range es {
		b.Write(append(e.body, '\n'))
	}
	return b.Bytes()
}

var feeds = []feed{
	{name: "website", url: func(q *quickstart) string { return q.at("GATEWAY_PORT", "/v1/batch") }, user: "website", most: 20, pause: 20 * time.Millisecond, make: sdkEvent, wrap: batch},
	{name: "app", url: func(q *quickstart) string { return q.at("GATEWAY_PORT", "/v1/batch") }, user: "app", most: 5, pause: 20 * time.Millisecond, make: appEvent, wrap: batch},
	{name: "orders", url: func(q *quickstart) string { return q.at("ORDERS_PORT", "/") }, most: 4, pause: 40 * time.Millisecond, make: order, wrap: linesOf},
	{name: "lessons", url: func(q *quickstart) string { return q.at("LESSONS_PORT", "/") }, most: 40, pause: 20 * time.Millisecond, make: lesson, wrap: linesOf},
	{name: "stream", url: func(q *quickstart) string { return q.at("STREAM_PORT", "/") }, most: 40, pause: 20 * time.Millisecond, make: streamLine, wrap: linesOf},
}

// clients post events until they are told to stop; then each posts its last request until it
// is answered.
type clients struct {
	quit chan struct{}
	wg   sync.WaitGroup
}

func startClients(t *testing.T, q *quickstart, l *ledger) *clients {
	t.Helper()
	c := &clients{quit: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	for _, f := range feeds {
		for n := range 2 {
			c.wg.Go(func() {
				client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				c.work(ctx, client, f, fmt.Sprintf("%s-%d", f.name, n), q, l)
			})
		}
	}
	return c
}

// stop returns when every client has its last answer.
func (c *clients) stop() {
	close(c.quit)
	c.wg.Wait()
}

func (c *clients) stopped() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

func (c *clients) work(ctx context.Context, client *http.Client, f feed, name string, q *quickstart, l *ledger) {
	for n := 0; !c.stopped() && ctx.Err() == nil; {
		es := make([]event, 1+rand.IntN(f.most))
		for i := range es {
			es[i] = f.make(fmt.Sprintf("%s-%06d", name, n), n)
			n++
		}
		body := f.wrap(es)
		for posts := 1; ctx.Err() == nil; posts++ {
			if post(ctx, client, f, f.url(q), body) {
				l.note(es, posts)
				break
			}
			// A few clients never post again; their events may or may not be there.
			if rand.IntN(10) == 0 && !c.stopped() {
				break
			}
			pause(ctx, 20*time.Millisecond)
		}
		pause(ctx, rand.N(f.pause))
	}
}

// post reports whether the request was answered with 2xx.
func post(ctx context.Context, client *http.Client, f feed, url string, body []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		panic(err) // of a URL that is a constant but for its port
	}
	if f.user != "" {
		req.SetBasicAuth(f.user, "")
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
	return resp.StatusCode/100 == 2
}

// pause lets time pass, less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
