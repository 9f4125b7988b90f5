package report

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
)

const (
	// sentryQueue is how many events wait to be sent.
	sentryQueue = 100
	// sentryBurst events, and then one each sentryPace, is how many are taken: a failure
	// that repeats for every message must not cost more than the messages do.
	sentryBurst = 60
	sentryPace  = time.Second
	// sentryTimeout bounds one send.
	sentryTimeout = 5 * time.Second
	// sentryLimit bounds how long Sentry can keep us quiet.
	sentryLimit = 24 * time.Hour
	// sentryPause is how long nothing is sent when Sentry asks for less and not for how long.
	sentryPause = time.Minute
	// maxText bounds the length of each text in an event, in bytes.
	maxText = 8192
	// maxFrames bounds the length of a stack.
	maxFrames = 64
)

var errFull = errors.New("the queue is full")

// sentry sends log records of level error and above to Sentry, in the envelope protocol:
// three lines of JSON in a POST, of which the last is the event.
type sentry struct {
	client   *httpclient.Client
	endpoint string
	auth     httpclient.Header
	tags     map[string]string
	release  string
	host     string
	debug    *slog.Logger // nil: quiet
	dropped  *meter.Reports
	trouble  trouble
	queue    chan sentryEvent

	pace struct {
		sync.Mutex
		left   int
		filled time.Time
	}
	quiet time.Time // nothing is sent before; belongs to run
}

// sentryEvent is an event as Sentry's API has it.
type sentryEvent struct {
	ID         string            `json:"event_id"`
	Timestamp  time.Time         `json:"timestamp"`
	Platform   string            `json:"platform"`
	Level      string            `json:"level"`
	Release    string            `json:"release"`
	ServerName string            `json:"server_name,omitempty"`
	Message    sentryMessage     `json:"logentry"`
	Exception  *sentryValues     `json:"exception,omitempty"`
	Threads    *sentryValues     `json:"threads,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Extra      map[string]string `json:"extra,omitempty"`
}

type sentryMessage struct {
	Formatted string `json:"formatted"`
}

type sentryValues struct {
	Values []sentryValue `json:"values"`
}

// sentryValue is an exception (type and value) or a thread (id and current).
type sentryValue struct {
	ID         int              `json:"id,omitempty"`
	Current    bool             `json:"current,omitempty"`
	Type       string           `json:"type,omitempty"`
	Value      string           `json:"value,omitempty"`
	Stacktrace sentryStacktrace `json:"stacktrace"`
}

type sentryStacktrace struct {
	Frames []sentryFrame `json:"frames"` // the outermost call first
}

type sentryFrame struct {
	Function string `json:"function"`
	Module   string `json:"module,omitempty"`
	Filename string `json:"filename,omitempty"`
	Line     int    `json:"lineno,omitempty"`
	InApp    bool   `json:"in_app"`
}

func newSentry(o Options, dropped *meter.Reports) *sentry {
	c := o.Settings.Sentry
	s := &sentry{
		client: httpclient.New(httpclient.Options{Transport: o.Transport}), tags: c.Tags, release: o.AppName + "@" + o.Version, host: o.Host,
		dropped: dropped, queue: make(chan sentryEvent, sentryQueue),
	}
	s.endpoint, s.auth = sentryAddress(c.DSN, o.AppName+"/"+o.Version)
	s.trouble = trouble{log: o.Log, what: "errors are not sent to Sentry", at: secret.URL(s.endpoint)}
	if c.Debug {
		s.debug = o.Log
	}
	return s
}

// sentryAddress is where the envelopes of a DSN are sent, and the header that lets them in.
// A DSN is scheme://key[:secret]@host[/path]/project.
func sentryAddress(dsn, clientName string) (endpoint string, auth httpclient.Header) {
	u, err := url.Parse(dsn)
	if err != nil || u.User == nil {
		return "", httpclient.Header{} // package config refuses it
	}
	path, project := "", strings.Trim(u.Path, "/")
	if i := strings.LastIndexByte(project, '/'); i >= 0 {
		path, project = "/"+project[:i], project[i+1:]
	}
	value := "Sentry sentry_version=7, sentry_client=" + clientName + ", sentry_key=" + u.User.Username()
	if password, has := u.User.Password(); has {
		value += ", sentry_secret=" + password
	}
	return u.Scheme + "://" + u.Host + path + "/api/" + project + "/envelope/", httpclient.Header{Name: "X-Sentry-Auth", Value: value}
}

// sentryHandler is a log handler that passes everything to inner, and errors to the Sentry of r as
// well, while there is one.
type sentryHandler struct {
	r     *Reporter
	inner slog.Handler
	attrs []slog.Attr // with the group they are in as part of the key
	group string
}

func (h *sentryHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.inner.Enabled(ctx, l) || l >= slog.LevelError && h.r.hasSentry()
}

func (r *Reporter) hasSentry() bool {
	r.over.RLock()
	defer r.over.RUnlock()
	return r.sentry != nil
}

func (h *sentryHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.inner = h.inner.WithAttrs(attrs)
	c.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		c.attrs = flatten(c.attrs, h.group, a)
	}
	return &c
}

func (h *sentryHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.inner = h.inner.WithGroup(name)
	if name != "" {
		c.group += name + "."
	}
	return &c
}

func (h *sentryHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		h.raise(r)
	}
	if !h.inner.Enabled(ctx, r.Level) {
		return nil
	}
	return h.inner.Handle(ctx, r)
}

// raise has a record sent to Sentry.
func (h *sentryHandler) raise(r slog.Record) {
	h.r.over.RLock()
	defer h.r.over.RUnlock()
	switch s := h.r.sentry; {
	case s == nil:
	case s.admit(r.Time):
		s.offer(h.event(s, r))
	default:
		s.dropped.Sentry.Add(1)
	}
}

// failed sends an event about the error the process ends with.
func (s *sentry) failed(err error) {
	h := &sentryHandler{inner: slog.DiscardHandler}
	r := slog.NewRecord(time.Now(), slog.LevelError, "the process ends with an error", 0)
	r.AddAttrs(slog.Any(meter.KeyError, err))
	e := h.event(s, r)
	e.Level = "fatal"
	s.offer(e)
}

// flatten appends a with its groups in its key.
func flatten(list []slog.Attr, group string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() != slog.KindGroup {
		if a.Key == "" {
			return list
		}
		return append(list, slog.Attr{Key: group + a.Key, Value: a.Value})
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, member := range a.Value.Group() {
		list = flatten(list, group, member)
	}
	return list
}

// sentryTags are the attributes one may want to search events by.
var sentryTags = []string{meter.KeyPipeline, meter.KeyComponent, meter.KeyKind, meter.KeyName}

// event is the event of a record that is being logged by the caller.
func (h *sentryHandler) event(s *sentry, r slog.Record) sentryEvent {
	e := sentryEvent{
		ID: eventID(), Timestamp: r.Time.UTC(), Platform: "go", Level: "error",
		Release: s.release, ServerName: s.host, Message: sentryMessage{safeText(r.Message)},
		Tags: maps.Clone(s.tags), Extra: map[string]string{},
	}
	if e.Tags == nil {
		e.Tags = map[string]string{}
	}
	attrs := slices.Clip(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.group, a)
		return true
	})
	cause := ""
	for _, a := range attrs {
		value := secret.Mark
		if !secret.Name(a.Key) {
			value = safeText(a.Value.String())
		}
		switch key := a.Key[strings.LastIndexByte(a.Key, '.')+1:]; {
		case key == meter.KeyError:
			cause = value
		case key == meter.KeyAnswer: // stays in the log
		case slices.Contains(sentryTags, key):
			e.Tags[key] = shorten(value, 200)
		default:
			e.Extra[a.Key] = value
		}
	}
	stack := stackOfCaller()
	if cause == "" {
		e.Threads = &sentryValues{[]sentryValue{{ID: 1, Current: true, Stacktrace: stack}}}
	} else {
		// Sentry groups by type and stack: the message is a fixed text, the error is not.
		e.Exception = &sentryValues{[]sentryValue{{Type: e.Message.Formatted, Value: cause, Stacktrace: stack}}}
	}
	return e
}

func safeText(s string) string { return shorten(secret.Text(s), maxText) }

func eventID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return hex.EncodeToString(id[:])
}

// stackOfCaller is the stack of whoever logs, without the logging itself.
func stackOfCaller() sentryStacktrace {
	var pcs [maxFrames]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var out []sentryFrame
	logging := true
	for {
		f, more := frames.Next()
		if f.Function != "" {
			frame := frameOf(f)
			logging = logging && (frame.Module == "log/slog" || strings.HasPrefix(frame.Function, "(*sentryHandler)."))
			if !logging {
				out = append(out, frame)
			}
		}
		if !more {
			break
		}
	}
	slices.Reverse(out)
	return sentryStacktrace{out}
}

// frameOf is f with the path of its package in place of where its source was at the build.
func frameOf(f runtime.Frame) sentryFrame {
	slash := strings.LastIndexByte(f.Function, '/') + 1
	module, function := f.Function, ""
	if dot := strings.IndexByte(f.Function[slash:], '.'); dot >= 0 {
		module, function = f.Function[:slash+dot], f.Function[slash+dot+1:]
	}
	file := f.File[strings.LastIndexAny(f.File, `/\`)+1:]
	return sentryFrame{Function: function, Module: module, Filename: module + "/" + file, Line: f.Line,
		InApp: module == "main" || strings.HasPrefix(module, modulePath)}
}

const modulePath = "github.com/weirdata/weir/"

// admit reports whether one more event may be taken at the instant now.
func (s *sentry) admit(now time.Time) bool {
	p := &s.pace
	p.Lock()
	defer p.Unlock()
	if p.filled.IsZero() {
		p.left, p.filled = sentryBurst, now
	}
	if n := int(now.Sub(p.filled) / sentryPace); n > 0 {
		p.left = min(p.left+n, sentryBurst)
		p.filled = p.filled.Add(time.Duration(n) * sentryPace)
	}
	if p.left == 0 {
		return false
	}
	p.left--
	return true
}

func (s *sentry) offer(e sentryEvent) {
	select {
	case s.queue <- e:
	default:
		s.dropped.Sentry.Add(1)
	}
}

// run sends events until ended is closed and the queue is empty.
func (s *sentry) run(sending context.Context, ended <-chan struct{}) {
	for {
		select {
		case e := <-s.queue:
			s.send(sending, e)
		case <-ended:
			for {
				select {
				case e := <-s.queue:
					s.send(sending, e)
				default:
					return
				}
			}
		}
	}
}

// send sends one event. There is no second try: the log has the error in any case.
func (s *sentry) send(ctx context.Context, e sentryEvent) {
	if time.Now().Before(s.quiet) || ctx.Err() != nil {
		s.dropped.Sentry.Add(1)
		return
	}
	if err := s.post(ctx, e); err != nil {
		s.dropped.Sentry.Add(1)
		s.trouble.met(err)
		return
	}
	s.trouble.over()
	if s.debug != nil {
		s.debug.Info("sent an event to Sentry", "event", e.ID)
	}
}

func (s *sentry) post(ctx context.Context, e sentryEvent) error {
	body, err := envelope(e, time.Now())
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, sentryTimeout)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/x-sentry-envelope")
	res, err := s.client.Do(req, s.auth)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	httpclient.Drain(res)
	if wait := limited(res); wait > 0 {
		s.quiet = time.Now().Add(wait)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the answer is %s, not 2xx", res.Status)
	}
	return nil
}

// envelope is an event on the wire.
func envelope(e sentryEvent, now time.Time) ([]byte, error) {
	event, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"event_id\":%q,\"sent_at\":%q}\n{\"type\":\"event\",\"length\":%d}\n", e.ID, now.UTC().Format(time.RFC3339), len(event))
	b.Write(event)
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// limited is how long Sentry asks to send no more errors. The header has entries such as
// 60:error;default:organization, of which the second part lists categories, none for all.
func limited(res *http.Response) (wait time.Duration) {
	for limit := range strings.SplitSeq(res.Header.Get("X-Sentry-Rate-Limits"), ",") {
		seconds, rest, _ := strings.Cut(strings.TrimSpace(limit), ":")
		categories, _, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(seconds)
		if err == nil && n > 0 && (categories == "" || slices.Contains(strings.Split(categories, ";"), "error")) {
			wait = max(wait, min(time.Duration(min(n, 24*3600))*time.Second, sentryLimit))
		}
	}
	if wait > 0 || res.StatusCode != http.StatusTooManyRequests {
		return wait
	}
	return cmp.Or(httpclient.RetryAfter(res.Header, time.Now(), sentryLimit), sentryPause)
}
