// Package faultproxy stands between a client and an engine, in tests, and makes happen what no
// local engine does: throttling, partial failures, unknown outcomes, connections that are cut,
// frozen or slow.
//
// [AWS] speaks what services of AWS speak to their SDKs, JSON in a POST with the operation in
// X-Amz-Target (Kinesis, SQS, DynamoDB), one request at a time. What a request meets is the
// first of its rules ([AWS.On]) that answers; without one it is forwarded as it came. The
// operations on several entries may fail for some of them ([Some]): only the others are
// forwarded, and the answer has all of them in the order of the request.
//
// [TCP] passes bytes and knows nothing of them: for Kafka, AMQP and gRPC.
//
// # Invariants
//
//   - Nothing is accepted in secret: what the engine took of PutRecord, PutRecords,
//     SendMessage, SendMessageBatch and DeleteMessageBatch is listed in [AWS.Accepted], whether
//     or not the client was told.
//   - A fault is what a rule or a switch asked for, never chance.
//   - When the test ends, everything that is held is let go, and nothing runs on.
package faultproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Call is one request to a service.
type Call struct {
	// Operation is that of X-Amz-Target, without the service: "PutRecords".
	Operation string
	// N counts the calls of the operation, from 1.
	N int
	// Body is the request as it came.
	Body   []byte
	Header http.Header
}

// Text is a member of the body that is a string; empty where there is none.
func (c *Call) Text(member string) string {
	var members map[string]json.RawMessage
	var text string
	if json.Unmarshal(c.Body, &members) == nil {
		_ = json.Unmarshal(members[member], &text)
	}
	return text
}

// Rule decides what a call meets; nil leaves it to the next rule. Rules, and the functions given to
// Some, are asked one at a time: they need no lock for what they share, and must not wait.
type Rule func(c *Call) Action

// Action is what happens to a call. It is one of those that this package makes.
type Action interface {
	do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call)
}

// Times is a for the first n calls that it is asked about, and nothing afterwards.
func Times(n int, a Action) Rule {
	return func(*Call) Action {
		if n <= 0 {
			return nil
		}
		n--
		return a
	}
}

// Always is a for every call.
func Always(a Action) Rule { return func(*Call) Action { return a } }

// AWS is a proxy before a service of AWS.
type AWS struct {
	// URL is the endpoint for clients.
	URL string

	server   *httptest.Server
	client   *http.Client
	released chan struct{} // closed when the test ends

	asking sync.Mutex // held while rules and the functions given to Some decide

	mu       sync.Mutex
	engine   *url.URL
	rules    map[string][]Rule
	calls    map[string]int
	accepted []Entry
	streams  map[*stream]struct{}
	initial  bool
	checks   *Sizes
	buckets  *buckets
}

// NewAWS is a proxy before the engine at an endpoint.
func NewAWS(t testing.TB, engine string) *AWS {
	t.Helper()
	p := &AWS{released: make(chan struct{}), rules: map[string][]Rule{}, calls: map[string]int{}, streams: map[*stream]struct{}{}}
	p.To(t, engine)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	p.client = &http.Client{Transport: transport}
	p.server = httptest.NewServer(p)
	p.URL = p.server.URL
	t.Cleanup(func() {
		close(p.released)
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// To leads to another engine from now on, or to the same one at a new address.
func (p *AWS) To(t testing.TB, engine string) {
	t.Helper()
	u, err := url.Parse(engine)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine = u
}

// On adds a rule for an operation; "" stands for all of them. Rules are asked in the order in
// which they were added, those of the operation first.
func (p *AWS) On(operation string, rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules[operation] = append(p.rules[operation], rule)
}

// Heal takes all rules away. What is frozen stays so until it is cut or thawed.
func (p *AWS) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.rules)
}

// Calls is how many calls of an operation have come.
func (p *AWS) Calls(operation string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[operation]
}

// ServeHTTP implements http.Handler.
func (p *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if i := strings.LastIndexByte(operation, '.'); i >= 0 {
		operation = operation[i+1:]
	}
	c := &Call{Operation: operation, Body: body, Header: r.Header}
	p.action(c).do(p, w, r, c)
}

func (p *AWS) action(c *Call) Action {
	p.mu.Lock()
	p.calls[c.Operation]++
	c.N = p.calls[c.Operation]
	rules := append(append([]Rule(nil), p.rules[c.Operation]...), p.rules[""]...)
	sizes, limits := p.checks, p.buckets
	p.mu.Unlock()
	if a := p.ask(rules, c); a != nil {
		return a
	}
	if sizes != nil {
		if a := sizes.check(c); a != nil {
			return a
		}
	}
	if limits != nil {
		if a := limits.check(p, c); a != nil {
			return a
		}
	}
	return Pass
}

// ask is what the first rule says that says something.
func (p *AWS) ask(rules []Rule, c *Call) Action {
	p.asking.Lock()
	defer p.asking.Unlock()
	for _, rule := range rules {
		if a := rule(c); a != nil {
			return a
		}
	}
	return nil
}

// forward sends a body to the engine, with the request's headers.
func (p *AWS) forward(ctx context.Context, header http.Header, body []byte) (*http.Response, error) {
	p.mu.Lock()
	to := *p.engine
	p.mu.Unlock()
	if to.Path == "" {
		to.Path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("forward to the engine: %w", err)
	}
	req.Header = header.Clone()
	for _, name := range []string{"Connection", "Accept-Encoding", "Content-Length"} {
		req.Header.Del(name)
	}
	return p.client.Do(req)
}

// whole is the answer of the engine to a body, read to its end.
func (p *AWS) whole(ctx context.Context, header http.Header, body []byte) (*answer, error) {
	resp, err := p.forward(ctx, header, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of the engine: %w", err)
	}
	return &answer{resp.StatusCode, resp.Header, text}, nil
}

// answer is what a client is told.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		switch name {
		case "Content-Length", "Connection", "Transfer-Encoding", "X-Amz-Crc32":
			continue
		}
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// cut ends the client's connection without a word.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: resets the stream
	}
	_ = conn.Close()
}

// Pass forwards a call as it came.
var Pass Action = pass{}

type pass struct{}

func (pass) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	resp, err := p.forward(r.Context(), r.Header, c.Body)
	if err != nil {
		cut(w)
		return
	}
	defer resp.Body.Close()
	if c.Operation == "SubscribeToShard" && resp.StatusCode == http.StatusOK {
		p.stream(w, r, resp, c)
		return
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		cut(w)
		return
	}
	a := &answer{resp.StatusCode, resp.Header, text}
	p.note(c, c.Body, a)
	a.write(w)
}

// Error answers with an error of a service, and forwards nothing. Status 0 means 400.
func Error(status int, name, message string) Action {
	if status == 0 {
		status = http.StatusBadRequest
	}
	return refusal{status, name, message}
}

// Throttled is what Kinesis and DynamoDB say to who asks for too much.
var Throttled = Error(0, "ProvisionedThroughputExceededException", "Rate exceeded")

type refusal struct {
	status        int
	name, message string
}

func (e refusal) do(_ *AWS, w http.ResponseWriter, r *http.Request, _ *Call) {
	text, err := json.Marshal(map[string]string{"__type": e.name, "message": e.message})
	if err != nil {
		panic(err) // strings always encode
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("X-Amzn-Errortype", e.name)
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.") {
		who := "Sender"
		if e.status >= http.StatusInternalServerError {
			who = "Receiver"
		}
		w.Header().Set("X-Amzn-Query-Error", e.name+";"+who)
	}
	w.WriteHeader(e.status)
	_, _ = w.Write(text)
}

// Lost forwards a call and cuts the connection instead of answering: the outcome is unknown to
// the client.
var Lost Action = lost{}

type lost struct{}

func (lost) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	// The engine is to have it even when the client gives up.
	if a, err := p.whole(context.WithoutCancel(r.Context()), r.Header, c.Body); err == nil {
		p.note(c, c.Body, a)
	}
	cut(w)
}

// Cut ends the connection without forwarding anything.
var Cut Action = cutting{}

type cutting struct{}

func (cutting) do(_ *AWS, w http.ResponseWriter, _ *http.Request, _ *Call) { cut(w) }

// Frozen forwards nothing and never answers; the connection stays open until the client, or the
// test, ends.
var Frozen Action = frozen{}

type frozen struct{}

func (frozen) do(p *AWS, w http.ResponseWriter, r *http.Request, _ *Call) {
	select {
	case <-r.Context().Done():
	case <-p.released:
	}
	cut(w)
}

// FrozenAnswer forwards a call and never answers.
var FrozenAnswer Action = frozenAnswer{}

type frozenAnswer struct{}

func (frozenAnswer) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	if a, err := p.whole(context.WithoutCancel(r.Context()), r.Header, c.Body); err == nil {
		p.note(c, c.Body, a)
	}
	frozen{}.do(p, w, r, c)
}

// Late does a after a wait.
func Late(wait time.Duration, a Action) Action { return late{wait, a} }

// Held does a as soon as until is closed.
func Held(until <-chan struct{}, a Action) Action { return held{until, a} }

type late struct {
	wait time.Duration
	then Action
}

func (l late) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	t := time.NewTimer(l.wait)
	defer t.Stop()
	select {
	case <-t.C:
		l.then.do(p, w, r, c)
	case <-r.Context().Done():
		cut(w)
	case <-p.released:
		cut(w)
	}
}

type held struct {
	until <-chan struct{}
	then  Action
}

func (h held) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	select {
	case <-h.until:
		h.then.do(p, w, r, c)
	case <-r.Context().Done():
		cut(w)
	case <-p.released:
		cut(w)
	}
}
