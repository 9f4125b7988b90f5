package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/queue"
)

// Client operates on the store of a running process, through its admin server.
type Client struct {
	base     string
	http     *httpclient.Client
	token    string
	name     string // Host of requests; empty for the address
	identity string
}

var _ Operator = (*Client)(nil)

// ErrNoServer says that nothing answers at an admin address as Weir does.
var ErrNoServer = errors.New("no admin server of Weir answers")

// Where is where an admin server is, as the admin block says it.
type Where struct {
	Address   string
	HostNames []string
	Path      string
	Token     string
}

// Dial finds the admin server of a running process that has a store open, by the admin block of
// its config; a server that listens on every address of the machine is reached by the loopback
// one.
func Dial(ctx context.Context, at Where) (*Client, error) {
	c, err := newClient(at)
	if err != nil {
		return nil, err
	}
	short, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	var s storeAnswer
	err = c.get(short, "/v1/store", nil, &s)
	if err == nil && s.Identity == "" {
		err = errors.New("something else answers")
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%w at %s: %w", ErrNoServer, c.base, err)
	}
	c.identity = s.Identity
	return c, nil
}

func newClient(at Where) (*Client, error) {
	address := at.Address
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: %w", address, err)
	}
	if port == "0" {
		return nil, fmt.Errorf("admin address %q: %w: port 0 takes a free one, which nobody can know", address, ErrNoServer)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	c := &Client{base: "http://" + net.JoinHostPort(host, port) + at.Path, http: httpclient.New(httpclient.Options{DialTimeout: 2 * time.Second, Direct: true})}
	c.token = at.Token
	if len(at.HostNames) > 0 { // where it shares its address, the name tells who is meant
		c.name = at.HostNames[0]
	}
	return c, nil
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.Close() }

// Address is where the server is.
func (c *Client) Address() string { return strings.TrimPrefix(c.base, "http://") }

// Identity implements Operator.
func (c *Client) Identity() string { return c.identity }

func pathOf(name, what string) string { return "/v1/queues/" + url.PathEscape(name) + "/" + what }

// remoteError is what the server answered.
type remoteError struct {
	message string
	code    int
	jobs    int
}

func (e *remoteError) Error() string { return e.message }

func (e *remoteError) Is(target error) bool {
	return target == ErrNoQueue && e.code == http.StatusNotFound || target == ErrUnsupported && e.code == http.StatusNotImplemented
}

// do sends a request; the answer has a body to close and the status 200.
func (c *Client) do(ctx context.Context, method, path string, v url.Values, contentType string, body io.Reader) (*http.Response, error) {
	to := c.base + path
	if len(v) > 0 {
		to += "?" + v.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	r.Host = c.name
	a, err := c.http.Do(r, nil)
	if err != nil {
		if of := (*url.Error)(nil); errors.As(err, &of) {
			err = of.Err // the method and URL say nothing to who asked
		}
		return nil, fmt.Errorf("ask the running process: %w", err)
	}
	if a.StatusCode == http.StatusOK {
		return a, nil
	}
	defer a.Body.Close()
	var e api.Problem
	text, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil || e.Error == "" {
		return nil, fmt.Errorf("%s answers %s", c.base, a.Status)
	}
	return nil, &remoteError{e.Error, a.StatusCode, e.Jobs}
}

func (c *Client) get(ctx context.Context, path string, v url.Values, into any) error {
	a, err := c.do(ctx, http.MethodGet, path, v, "", nil)
	if err != nil {
		return err
	}
	return decode(a, into)
}

func decode(a *http.Response, into any) error {
	defer a.Body.Close()
	if err := json.NewDecoder(a.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the running process: %w", err)
	}
	return nil
}

// Queues implements Operator.
func (c *Client) Queues(ctx context.Context, by queue.Axis) (o Overview, err error) {
	err = c.get(ctx, "/v1/queues", Selection{By: by}.values(), &o)
	return o, err
}

// Jobs implements Operator.
func (c *Client) Jobs(ctx context.Context, name string, s Selection, after string, limit int) (p Page, err error) {
	v := s.values()
	v.Set("limit", strconv.Itoa(min(max(limit, 1), MaxPage)))
	if after != "" {
		v.Set("after", after)
	}
	err = c.get(ctx, pathOf(name, "jobs"), v, &p)
	return p, err
}

// Count implements Operator.
func (c *Client) Count(ctx context.Context, name string, s Selection) (int, error) {
	var n jobCount
	err := c.get(ctx, pathOf(name, "count"), s.values(), &n)
	return n.Jobs, err
}

// Retry implements Operator.
func (c *Client) Retry(ctx context.Context, name string, s Selection) (int, error) {
	return c.decide(ctx, name, "retry", s)
}

// Drop implements Operator.
func (c *Client) Drop(ctx context.Context, name string, s Selection) (int, error) {
	return c.decide(ctx, name, "drop", s)
}

func (c *Client) decide(ctx context.Context, name, what string, s Selection) (int, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return 0, fmt.Errorf("write the selection: %w", err)
	}
	return c.post(ctx, pathOf(name, what), "application/json", bytes.NewReader(body))
}

func (c *Client) post(ctx context.Context, path, contentType string, body io.Reader) (int, error) {
	a, err := c.do(ctx, http.MethodPost, path, nil, contentType, body)
	if refused, ok := errors.AsType[*remoteError](err); ok {
		return refused.jobs, err
	}
	if err != nil {
		return 0, err
	}
	var n jobCount
	err = decode(a, &n)
	return n.Jobs, err
}

// Pause implements Operator.
func (c *Client) Pause(ctx context.Context, name string, r Rest) error {
	_, err := c.rest(ctx, pathOf(name, "pause"), r)
	return err
}

// Resume implements Operator.
func (c *Client) Resume(ctx context.Context, name string, r Rest) (bool, error) {
	return c.rest(ctx, pathOf(name, "resume"), r)
}

func (c *Client) rest(ctx context.Context, path string, r Rest) (bool, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("write the pause: %w", err)
	}
	a, err := c.do(ctx, http.MethodPost, path, nil, "application/json", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	var was resumed
	err = decode(a, &was)
	return was.Was, err
}

// Command implements Operator.
func (c *Client) Command(ctx context.Context, name string, command Command, progress func(int)) (Outcome, error) {
	body, err := json.Marshal(command)
	if err != nil {
		return Outcome{}, fmt.Errorf("write the order: %w", err)
	}
	figures, err := c.long(ctx, pathOf(name, "order"), bytes.NewReader(body), func(done, _ int64) {
		if progress != nil {
			progress(int(done))
		}
	})
	return Outcome{Jobs: int(figures["jobs"]), Left: figures["left"] > 0}, err
}

// Export implements Operator.
func (c *Client) Export(ctx context.Context, name string, s Selection, w io.Writer, progress func(int)) (int, error) {
	a, err := c.do(ctx, http.MethodGet, pathOf(name, "export"), s.values(), "", nil)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	n := 0
	buf := make([]byte, 64<<10)
	for {
		k, err := a.Body.Read(buf)
		if k > 0 {
			if _, werr := w.Write(buf[:k]); werr != nil {
				return n, fmt.Errorf("write the export: %w", werr)
			}
			n += bytes.Count(buf[:k], []byte("\n"))
			if progress != nil {
				progress(n)
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("the running process broke the export off after %d messages: %w", n, err)
		}
	}
}

// Import implements Operator.
func (c *Client) Import(ctx context.Context, name string, r io.Reader, progress func(int)) (int, error) {
	return c.post(ctx, pathOf(name, "import"), "application/x-ndjson", &lineCounter{r: r, progress: progress})
}

// lineCounter tells how many lines were read.
type lineCounter struct {
	r        io.Reader
	n        int
	progress func(int)
}

func (l *lineCounter) Read(b []byte) (int, error) {
	k, err := l.r.Read(b)
	l.n += bytes.Count(b[:k], []byte("\n"))
	if l.progress != nil {
		l.progress(l.n)
	}
	return k, err
}

// Usage implements Operator.
func (c *Client) Usage(ctx context.Context) (map[string]int64, error) {
	var s storeAnswer
	err := c.get(ctx, "/v1/store", nil, &s)
	return s.Usage, err
}

// Verify implements Operator.
func (c *Client) Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error) {
	return c.long(ctx, "/v1/store/check", http.NoBody, progress)
}

// Compact implements Operator.
func (c *Client) Compact(ctx context.Context) error {
	_, err := c.long(ctx, "/v1/store/compact", http.NoBody, nil)
	return err
}

// Backup implements Operator.
func (c *Client) Backup(ctx context.Context, dir string, progress func(done, total int64)) error {
	body, err := json.Marshal(backupBody{dir})
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	_, err = c.long(ctx, "/v1/store/backup", bytes.NewReader(body), progress)
	return err
}

// long follows an operation to its end.
func (c *Client) long(ctx context.Context, path string, body io.Reader, progress func(done, total int64)) (map[string]int64, error) {
	a, err := c.do(ctx, http.MethodPost, path, nil, "application/json", body)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	d := json.NewDecoder(a.Body)
	for {
		var l longAnswer
		if err := d.Decode(&l); err != nil {
			return nil, fmt.Errorf("the running process did not say how it ended: %w", err)
		}
		switch {
		case l.Error != "":
			return nil, &remoteError{message: l.Error, code: l.Status}
		case l.Ended:
			return l.Figures, nil
		case progress != nil:
			progress(l.Done, l.Total)
		}
	}
}
