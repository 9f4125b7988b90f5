package suppression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/secret"
)

// Plane is a control plane, or a gateway, that gives the changes of its suppressed users in pages:
//
//	GET {url}/dataplane/workspaces/{workspace}/regulations/suppressions?pageSize=5000[&pageToken=T]
//	GET {url}/dataplane/namespaces/{namespace}/regulations/suppressions?...
//
// with Basic authorization, the token as the user name. The answer is
//
//	{"items":[item, ...],"token":"T"}
//
// whose token is where the next page begins, also after a restart; there are more pages now where one
// is full.
type Plane struct {
	URL                  string
	Workspace, Namespace string // one of them
}

// Access is how a plane is asked. Who opens a set last says it, and a set that is closed knows none.
type Access struct {
	Token         string
	Poll, Timeout time.Duration // how often it is asked; how long it may take to answer
	PageSize      int
}

// address is where the pages are.
func (p *Plane) address() string {
	of := "/dataplane/workspaces/" + url.PathEscape(p.Workspace)
	if p.Namespace != "" {
		of = "/dataplane/namespaces/" + url.PathEscape(p.Namespace)
	}
	return strings.TrimRight(p.URL, "/") + of + "/regulations/suppressions"
}

// page is where a page begins.
func (p *Plane) page(token string, size int) string {
	at := p.address() + "?pageSize=" + strconv.Itoa(size)
	if token != "" {
		at += "&pageToken=" + url.QueryEscape(token)
	}
	return at
}

// page is one answer.
type page struct {
	Items []Item `json:"items"`
	Token string `json:"token"`
}

// The first byte of the token as it is kept.
const (
	partly = 'p' // there were more pages
	wholly = 'w'
)

// The longest answer of a control plane that is read, how often a page is asked for before its failure
// is told, and the longest time between two of these.
const (
	maxAnswer  = 64 << 20
	tries      = 4
	longestTry = 10 * time.Second
)

// poll asks for changes until ctx ends.
func (s *Set) poll(ctx context.Context) {
	client := httpclient.New(httpclient.Options{})
	defer client.Close()
	for {
		a := s.access.Load()
		full, err := s.fetch(ctx, client, a)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			var hidden secret.Values
			hidden.AddBasic(a.Token, "")
			s.tell(hidden.Hide(err.Error()))
		} else if s.over(); full {
			continue
		}
		if !sleep(ctx, a.Poll) {
			return
		}
	}
}

// fetch asks for one page, and applies it; full says that there are more. It is tried a few times.
func (s *Set) fetch(ctx context.Context, client *httpclient.Client, a *Access) (full bool, err error) {
	wait := min(a.Poll, time.Second)
	for n := 1; ; n++ {
		var p *page
		p, err = s.ask(ctx, client, a)
		if err == nil {
			return s.take(p, a.PageSize)
		}
		if n == tries || fault.Of(err) == fault.Setup {
			return false, err
		}
		wait = min(2*wait, longestTry)
		if !sleep(ctx, wait-rand.N(wait/5+1)) {
			return false, err
		}
	}
}

func (s *Set) token() (string, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	v, err := get(s.db, []byte("t"))
	if err != nil || len(v) == 0 {
		return "", err
	}
	return string(v[1:]), nil
}

func (s *Set) ask(ctx context.Context, client *httpclient.Client, a *Access) (*page, error) {
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.o.Plane.page(token, a.PageSize), http.NoBody)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("ask for the suppressed users: %w", err))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req, httpclient.Basic{User: a.Token})
	if err != nil {
		return nil, fault.New(fault.Transient, fmt.Errorf("ask for the suppressed users: %w", err))
	}
	defer func() { _ = resp.Body.Close() }()
	if code := resp.StatusCode; code < 200 || code > 299 {
		httpclient.Drain(resp)
		kind, what := fault.Transient, fmt.Sprintf("%s answers %d %s to who asks for the suppressed users", s.o.Plane.URL, code, http.StatusText(code))
		if code == http.StatusUnauthorized || code == http.StatusForbidden {
			kind, what = fault.Setup, what+": look whether token is that of the workspace or namespace"
		}
		return nil, fault.New(kind, errors.New(what))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fault.New(fault.Transient, fmt.Errorf("read the suppressed users that %s gives: %w", s.o.Plane.URL, err))
	case len(body) > maxAnswer:
		return nil, fault.New(fault.Setup, fmt.Errorf("a page of suppressed users has more than %d bytes: lower page_size", maxAnswer))
	}
	p := &page{}
	if err := json.Unmarshal(body, p); err != nil {
		return nil, fault.New(fault.Transient, fmt.Errorf("read the suppressed users that %s gives: %w", s.o.Plane.URL, err))
	}
	if p.Token == "" {
		return nil, fault.New(fault.Transient, fmt.Errorf("%s gives suppressed users without a token, so that it cannot be asked for those that follow", s.o.Plane.URL))
	}
	return p, nil
}

// take applies a page with its token.
func (s *Set) take(p *page, size int) (full bool, err error) {
	full = len(p.Items) >= size
	mark := byte(wholly)
	if full && !s.whole.Load() {
		mark = partly
	}
	err = s.change(func(c *change) error {
		for i := range p.Items {
			one := &p.Items[i]
			if one.User == "" {
				continue // nobody
			}
			if one.Workspace == "" {
				one.Workspace = s.o.Plane.Workspace
			}
			if err := c.apply(one, 0); err != nil {
				return err
			}
		}
		return c.b.Set([]byte("t"), append([]byte{mark}, p.Token...), nil)
	})
	if err == nil && !full {
		s.whole.Store(true)
		s.synced.Store(time.Now().UnixNano())
	}
	return full, err
}

// tell says what the trouble is, once.
func (s *Set) tell(text string) {
	s.telling.Lock()
	defer s.telling.Unlock()
	if text != s.trouble {
		s.trouble = text
		s.o.Log.Error("the suppressed users are not up to date; those that are known stay", "path", s.o.Path, "error", text)
	}
}

func (s *Set) over() {
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.trouble != "" {
		s.trouble = ""
		s.o.Log.Info("the suppressed users are up to date again", "path", s.o.Path)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
