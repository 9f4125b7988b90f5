//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Users of the soak. A producer has some of them to itself and posts one batch after the other,
// so that what it gets acknowledged is in the order of its users.
const (
	soakProducers = 16
	soakUsers     = 12 // of a producer
	soakBatch     = 12 // events in a request
	soakMachine   = 10 // one event in so many goes to the machine too
)

// The phases of the soak: what is acknowledged in the second may be lost, since the standby does
// not get it.
const (
	phaseKept int32 = iota
	phaseLag
	phaseAfter
)

// deed is what became of one event of a user.
type deed struct {
	acked   bool
	lag     bool // its request was under way in the lag
	webhook bool
	machine bool
	lake    uint8
	posted  time.Duration // since the beginning of the soak
	kept    time.Duration
}

// soakUser is all the events of a user: number n is at n.
type soakUser struct {
	deeds []deed
	first int // the highest number that the webhook has got
	at    time.Duration
}

// soakLedger is what was posted, acknowledged, and found.
type soakLedger struct {
	began time.Time
	phase atomic.Int32

	mu        sync.Mutex
	users     []soakUser
	accepted  [3]int // by phase
	delivered int    // by the webhook, each once
	repeated  int    // deliveries of what was there
	disorder  []string
	answers   map[int]int // requests by status; 0 is none
	slowest   time.Duration
	strange   []string
}

func newSoakLedger() *soakLedger {
	l := &soakLedger{began: time.Now(), users: make([]soakUser, soakProducers*soakUsers), answers: map[int]int{}}
	for i := range l.users {
		l.users[i].first = -1
	}
	return l
}

// named is the event of an id, "user-number". It is called with mu.
func (l *soakLedger) named(id string) (u *soakUser, n int) {
	user, number, _ := strings.Cut(id, "-")
	who, err1 := strconv.Atoi(user)
	n, err2 := strconv.Atoi(number)
	if err1 != nil || err2 != nil || who < 0 || who >= len(l.users) || n < 0 || n >= len(l.users[who].deeds) {
		if len(l.strange) < most {
			l.strange = append(l.strange, id)
		}
		return nil, 0
	}
	return &l.users[who], n
}

// turnTo begins a phase: what is under way belongs to the lag.
func (l *soakLedger) turnTo(phase int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase.Store(phase)
}

// total is how many events are acknowledged.
func (l *soakLedger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted[0] + l.accepted[1] + l.accepted[2]
}

func (l *soakLedger) arrived() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delivered
}

// compose is a batch of new events, in turn of the users of a producer.
func (l *soakLedger) compose(producer, turn int) (ids []string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var b bytes.Buffer
	b.WriteString(`{"batch":[`)
	for i := range soakBatch {
		who := producer*soakUsers + (turn*soakBatch+i)%soakUsers
		u := &l.users[who]
		n := len(u.deeds)
		u.deeds = append(u.deeds, deed{posted: now.Sub(l.began)})
		id, kind := fmt.Sprintf("%d-%d", who, n), `"track","event":"Product Viewed"`
		if n%soakMachine == 0 {
			kind = `"identify"`
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":%s,"messageId":%q,"userId":"user-%d","originalTimestamp":%q,"properties":{"price":%d.5,"page":"/products/%d","referrer":"https://www.example.com/catalogue"}}`,
			kind, id, who, began.Add(time.Duration(n)*time.Second).Format(time.RFC3339), n, n%100)
		ids = append(ids, id)
	}
	b.WriteString("]}")
	return ids, b.Bytes()
}

// acknowledge notes a request that was answered with 2xx.
func (l *soakLedger) acknowledge(ids []string, before int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	phase := l.phase.Load()
	if before != phase {
		phase = phaseLag
	}
	l.accepted[phase] += len(ids)
	for _, id := range ids {
		if u, n := l.named(id); u != nil {
			d := &u.deeds[n]
			d.acked, d.lag, d.kept = true, phase == phaseLag, time.Since(l.began)
		}
	}
}

// answered counts an attempt.
func (l *soakLedger) answered(status int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[status]++
	if status == http.StatusServiceUnavailable {
		l.slowest = max(l.slowest, took)
	}
}

// webhook notes a delivery. The first deliveries of a user's events come in the order in which
// they were acknowledged; what comes again, comes when it will.
func (l *soakLedger) webhook(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, n := l.named(id)
	if u == nil {
		return
	}
	d := &u.deeds[n]
	if d.webhook {
		l.repeated++
		return
	}
	d.webhook = true
	l.delivered++
	if n < u.first && len(l.disorder) < most {
		l.disorder = append(l.disorder, fmt.Sprintf("%s, acknowledged after %s, came after %s, and number %d of its user, acknowledged after %s, after %s",
			id, d.kept, time.Since(l.began), u.first, u.deeds[u.first].kept, u.at))
	}
	if n > u.first {
		u.first, u.at = n, time.Since(l.began)
	}
}

func (l *soakLedger) machine(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, n := l.named(id); u != nil {
		u.deeds[n].machine = true
	}
}

func (l *soakLedger) landed(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, n := l.named(id); u != nil && u.deeds[n].lake < 255 {
		u.deeds[n].lake++
	}
}

// ServeHTTP is the webhook's and the machine's other side.
func (l *soakLedger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e struct {
		ID string `json:"messageId"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest) // the client has gone
		return
	}
	_ = json.Unmarshal(body, &e) // an event without an id is a strange one
	if r.URL.Path == "/machine" {
		l.machine(e.ID)
	} else {
		l.webhook(e.ID)
	}
}

// startSoakProducers post until they are told to stop, together as many events a second as rate.
func startSoakProducers(t *testing.T, l *soakLedger, url string, rate int) *clients {
	t.Helper()
	c := &clients{quit: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	every := time.Duration(float64(time.Second) * soakProducers * soakBatch / float64(rate))
	for p := range soakProducers {
		c.wg.Go(func() {
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			pause(ctx, every*time.Duration(p)/soakProducers)
			next := time.Now()
			for turn := 0; !c.stopped() && ctx.Err() == nil; turn++ {
				ids, body := l.compose(p, turn)
				for ctx.Err() == nil && !l.post(ctx, client, url, ids, body) {
					pause(ctx, 100*time.Millisecond)
				}
				// What an outage has held up is not caught up with.
				if next = next.Add(every); time.Until(next) < -time.Second {
					next = time.Now()
				}
				pause(ctx, time.Until(next))
			}
		})
	}
	return c
}

// post reports whether a request was answered with 2xx.
func (l *soakLedger) post(ctx context.Context, client *http.Client, url string, ids []string, body []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		panic(err) // of a URL that is a constant but for its port
	}
	req.SetBasicAuth("site", "")
	before, begin := l.phase.Load(), time.Now()
	resp, err := client.Do(req)
	if err != nil {
		l.answered(0, time.Since(begin))
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
	_ = resp.Body.Close()
	l.answered(resp.StatusCode, time.Since(begin))
	if resp.StatusCode/100 != 2 {
		return false
	}
	l.acknowledge(ids, before)
	return true
}
