package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// invocation is one call of the handler.
type invocation struct {
	id      string
	payload []byte
	done    chan result
}

type result struct {
	output []byte
	err    *Error
}

// process is one running handler and the server it asks.
type process struct {
	f       *Function
	cmd     *exec.Cmd
	server  *http.Server
	next    chan *invocation
	exited  chan struct{} // closed when it has ended
	exit    error         // why; read after exited
	serving sync.WaitGroup

	mu      sync.Mutex
	first   bool
	current *invocation
	init    *Error // what it said of its own start
}

// start starts a process. It does not wait until it asks for work.
func (f *Function) start() (*process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop {
		return nil, failure(ErrorExited, "the function is closed")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, failure(ErrorUnknown, "cannot listen for the Runtime API: %v", err)
	}
	p := &process{f: f, cmd: f.command(), next: make(chan *invocation), exited: make(chan struct{}), first: true}
	log := f.o.Log.With("function", f.o.Name)
	out, errs := &lineLog{log: log, stream: "stdout"}, &lineLog{log: log, stream: "stderr"}
	p.cmd.Stdout, p.cmd.Stderr = out, errs
	p.cmd.Env = f.environment(l.Addr().String())
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = attributes()
	p.server = &http.Server{Handler: only(l.Addr().String(), p.routes()), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	started := make(chan error)
	go func() {
		// Linux ends the process when the thread that started it ends: this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		if err == nil { // what connects is told from others by the process, which is known now
			p.serving.Go(func() { _ = p.server.Serve(private{l, p.cmd.Process.Pid, log}) })
			guard.watch(p.cmd.Process.Pid, l.Addr().String(), log)
		}
		started <- err
		if err != nil {
			return
		}
		p.exit = p.cmd.Wait()
		killAll(p.cmd.Process)
		endLeft(l.Addr().String())
		guard.forget(p.cmd.Process.Pid)
		out.flush()
		errs.flush()
		_ = p.server.Close()
		p.serving.Wait()
		f.mu.Lock()
		delete(f.all, p)
		f.mu.Unlock()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		_ = l.Close()
		return nil, failure(ErrorExited, "cannot start the function: %v", err)
	}
	f.all[p] = struct{}{}
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// offer waits until the process asks for i. When it does not, the process is ended.
func (p *process) offer(ctx context.Context, i *invocation) (taken bool, err error) {
	limit := time.NewTimer(p.f.o.Init)
	defer limit.Stop()
	select {
	case p.next <- i:
		return true, nil
	case <-p.exited:
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.init != nil:
			return false, p.init
		case p.first:
			return false, failure(ErrorExited, "RequestId: %s Error: Runtime exited before it asked for an invocation: %s", i.id, reason(p.exit))
		}
		return false, nil // after an earlier invocation: another process takes this one
	case <-limit.C:
		p.kill()
		return false, failure(ErrorTimedOut, "RequestId: %s Error: the function did not ask for an invocation within %s", i.id, p.f.o.Init)
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// await waits for what becomes of an invocation that the process took.
func (p *process) await(ctx context.Context, i *invocation) ([]byte, error) {
	limit := time.NewTimer(p.f.o.Timeout)
	defer limit.Stop()
	done := func(r result) ([]byte, error) {
		if r.err != nil {
			return nil, r.err
		}
		return r.output, nil
	}
	select {
	case r := <-i.done:
		return done(r)
	case <-p.exited:
		select {
		case r := <-i.done: // it answered, and ended
			return done(r)
		default:
		}
		return nil, failure(ErrorExited, "RequestId: %s Error: Runtime exited: %s", i.id, reason(p.exit))
	case <-limit.C:
		p.kill()
		return nil, failure(ErrorTimedOut, "RequestId: %s Error: Task timed out after %.2f seconds", i.id, p.f.o.Timeout.Seconds())
	case <-ctx.Done():
		p.kill()
		return nil, context.Cause(ctx)
	}
}

func reason(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// kill ends the process at once.
func (p *process) kill() {
	killAll(p.cmd.Process)
	<-p.exited
}

// end asks the process to end, and kills it when it does not.
func (p *process) end() {
	_ = terminate(p.cmd.Process)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		p.kill()
	}
}

// only serves what asks by the address, as a process does, and no page of a browser.
func only(address string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != address || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			http.Error(w, "this address serves its own process only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// private is the listener for a process: connections of others are closed.
type private struct {
	net.Listener
	pid int
	log *slog.Logger
}

// Accept implements net.Listener.
func (l private) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || ours(c, l.pid) {
			return c, err
		}
		l.log.Warn("a process that is not the function's has connected to its Runtime API, and was turned away", "from", c.RemoteAddr().String())
		_ = c.Close()
	}
}

const prefix = "/2018-06-01/runtime/"

// routes is the Runtime API for this process.
func (p *process) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+prefix+"invocation/next", p.serveNext)
	mux.HandleFunc("POST "+prefix+"invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { p.serveResult(w, r, false) })
	mux.HandleFunc("POST "+prefix+"invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { p.serveResult(w, r, true) })
	mux.HandleFunc("POST "+prefix+"init/error", p.serveInitError)
	return mux
}

func (p *process) serveNext(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.first = false
	p.mu.Unlock()
	select {
	case i := <-p.next:
		expires := time.Now().Add(p.f.o.Timeout)
		p.mu.Lock()
		p.current = i
		p.mu.Unlock()
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", i.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(expires.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", p.f.arn())
		h.Set("Lambda-Runtime-Trace-Id", traceID(i.id, expires))
		_, _ = w.Write(i.payload) // when this fails the process has gone, and its end says so
	case <-r.Context().Done():
	}
}

// traceID is an X-Ray trace header that is not sampled.
func traceID(id string, now time.Time) string {
	hex := strings.ReplaceAll(id, "-", "")
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", now.Unix(), hex[:24], hex[16:])
}

func (p *process) serveResult(w http.ResponseWriter, r *http.Request, failed bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxPayload))
	p.mu.Lock()
	i := p.current
	if i != nil && i.id == r.PathValue("id") {
		p.current = nil
	} else {
		i = nil
	}
	p.mu.Unlock()
	if i == nil {
		answer(w, http.StatusBadRequest, `{"errorType":"InvalidRequestID","errorMessage":"the process has no such invocation"}`)
		return
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		i.done <- result{err: failure(ErrorTooLarge, "Response payload size exceeded maximum allowed payload size (%d bytes).", MaxPayload)}
		answer(w, http.StatusRequestEntityTooLarge, `{"errorType":"RequestEntityTooLarge","errorMessage":"the response is too large"}`)
		return
	case err != nil:
		i.done <- result{err: failure(ErrorUnknown, "the response broke off: %v", err)}
		return
	case failed || r.Trailer.Get(errorTypeHeader) != "":
		i.done <- result{err: errorOf(r.Header.Get(errorTypeHeader), body)}
	default:
		i.done <- result{output: body}
	}
	answer(w, http.StatusAccepted, `{"status":"OK"}`)
}

func (p *process) serveInitError(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, MaxPayload)) // what there is of it
	p.mu.Lock()
	p.init = errorOf(r.Header.Get(errorTypeHeader), body)
	p.mu.Unlock()
	answer(w, http.StatusAccepted, `{"status":"OK"}`)
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // nobody to tell
}

const errorTypeHeader = "Lambda-Runtime-Function-Error-Type"

// errorOf is the error that a runtime reported.
func errorOf(header string, body []byte) *Error {
	var said struct {
		Type string `json:"errorType"`
	}
	if json.Unmarshal(body, &said) != nil {
		return failure(ErrorUnknown, "the function reported an error that is not JSON: %.1000s", body)
	}
	for _, t := range []string{said.Type, header} {
		if t != "" {
			return &Error{t, body}
		}
	}
	return &Error{ErrorUnknown, body}
}

// lineLog logs what is written to it line by line.
type lineLog struct {
	log    *slog.Logger
	stream string
	rest   []byte
}

const maxLogLine = 64 << 10

func (l *lineLog) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		l.rest, b = append(l.rest, line...), rest
		if ended || len(l.rest) >= maxLogLine {
			l.flush()
		}
	}
	return n, nil
}

// spoken is the context of what a function says: all of it is its user's to read.
var spoken = meter.Unlimited(context.Background())

func (l *lineLog) flush() {
	if line := strings.TrimRight(string(l.rest), "\r"); line != "" {
		l.log.InfoContext(spoken, line, "stream", l.stream)
	}
	l.rest = l.rest[:0]
}
