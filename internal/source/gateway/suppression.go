package gatewaysource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/suppression"
)

// Suppression says of which users nothing may be kept.
type Suppression struct {
	// Path of the folder that holds the users, for each gateway with other ones a folder of its own.
	// A relative path means from the directory of the config file.
	Path string `hcl:"path"`
	// File with one user on each line: a userId, which counts in every workspace, or a JSON object with
	// workspaceId, userId and, for single sources, sourceIds. A change counts within five seconds; put a new
	// file in the place of the old one by renaming it.
	File string `hcl:"file,optional"`
	// The control plane, or another gateway, that is polled for users.
	ControlPlane *SuppressionPlane `hcl:"control_plane,block"`
	// Token with which users are put, taken back and listed at this gateway, below /dataplane/workspaces:
	// the user name of Basic authorization. None by default, when nothing is served.
	Token string `hcl:"token,optional"`
	// Longest time, in seconds, that the very first start waits until all users are there; 60 by default.
	// Later ones begin with those that are known.
	StartWaitSeconds int `hcl:"start_wait_seconds,optional"`
}

// SetDefaults sets what the block need not say.
func (s *Suppression) SetDefaults() { s.StartWaitSeconds = 60 }

// SuppressionPlane is the control plane that says whose events are left out.
type SuppressionPlane struct {
	// URL of the control plane: SUPPRESS_USER_BACKEND_URL of RudderStack.
	URL string `hcl:"url"`
	// Token of the workspace, or secret of the namespace: the user name of Basic authorization.
	Token string `hcl:"token"`
	// The id of the workspace whose users are asked for.
	Workspace string `hcl:"workspace,optional"`
	// The namespace whose users are asked for, in the place of a workspace.
	Namespace string `hcl:"namespace,optional"`
	// How often, in milliseconds, it is asked for changes; 300000, which is five minutes, by default.
	PollIntervalMillis int `hcl:"poll_interval_ms,optional"`
	// Longest time, in milliseconds, for a request with its answer; 30000 by default.
	RequestTimeoutMillis int `hcl:"request_timeout_ms,optional"`
	// Most users in an answer; 5000 by default, at most 10000.
	PageSize int `hcl:"page_size,optional"`
}

// SetDefaults sets what the block need not say.
func (p *SuppressionPlane) SetDefaults() {
	p.PollIntervalMillis, p.RequestTimeoutMillis, p.PageSize = 300000, 30000, 5000
}

func (s *Suppression) validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if s.Path == "" {
		refuse("path", "path is empty", `write path = "suppressed"`)
	}
	if s.StartWaitSeconds < 1 {
		refuse("start_wait_seconds", fmt.Sprintf("start_wait_seconds must be at least 1, not %d", s.StartWaitSeconds), "leave it out for 60")
	}
	p := s.ControlPlane
	if p == nil {
		if s.File == "" && s.Token == "" {
			refuse("token", "nothing says which users are suppressed", "write one of file, a control_plane block, or token, with which users are put")
		}
		if s.File != "" && s.Token != "" {
			refuse("token", "token serves users that requests put, and file has others", "keep one of the two")
		}
		return ps
	}
	if s.File != "" || s.Token != "" {
		refuse("control_plane", "the suppressed users come from several places", "keep one of file, token and control_plane")
	}
	if u, err := url.Parse(p.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		refuse("control_plane.url", "url is not the URL of a control plane", "write the whole URL, with http:// or https:// and a host, and the token in token")
	}
	if p.Token == "" {
		refuse("control_plane.token", "token is empty", "write token = env.WORKSPACE_TOKEN, and set that")
	}
	if (p.Workspace == "") == (p.Namespace == "") {
		refuse("control_plane.workspace", "either a workspace or a namespace must be named", "write workspace = with the id of the workspace")
	}
	for _, n := range []struct {
		field        string
		value, least int
	}{{"poll_interval_ms", p.PollIntervalMillis, 100}, {"request_timeout_ms", p.RequestTimeoutMillis, 1}, {"page_size", p.PageSize, 1}} {
		if n.value < n.least {
			refuse("control_plane."+n.field, fmt.Sprintf("%s must be at least %d, not %d", n.field, n.least, n.value), "leave it out to use the default")
		}
	}
	if p.PageSize > 10000 {
		refuse("control_plane.page_size", fmt.Sprintf("page_size must be at most 10000, not %d", p.PageSize), "leave it out to use 5000")
	}
	return ps
}

// suppressed is the users of a block. What a reload replaces goes on with the same set.
func (s *Suppression) suppressed(d connector.Deps) *suppression.Set {
	o := suppression.Options{Path: d.Path(s.Path), Log: d.Log}
	key := "suppression\x00" + o.Path
	if s.File != "" {
		o.File = d.Path(s.File)
		key += "\x00" + o.File
	}
	if p := s.ControlPlane; p != nil {
		o.Plane = &suppression.Plane{URL: p.URL, Workspace: p.Workspace, Namespace: p.Namespace}
		key += fmt.Sprintf("\x00%q %q %q", p.URL, p.Workspace, p.Namespace)
	}
	made := func() any { return suppression.New(o) }
	if d.Kept == nil {
		return made().(*suppression.Set)
	}
	return d.Kept(key, made).(*suppression.Set)
}

// access is how the control plane is asked, where there is one.
func (s *Suppression) access() suppression.Access {
	p := s.ControlPlane
	if p == nil {
		return suppression.Access{}
	}
	return suppression.Access{Token: p.Token, PageSize: p.PageSize,
		Poll: time.Duration(p.PollIntervalMillis) * time.Millisecond, Timeout: time.Duration(p.RequestTimeoutMillis) * time.Millisecond}
}

// Open implements connector.Source. Nobody is let in before it is known who is suppressed.
func (s *Source) Open(ctx context.Context) error {
	if s.store != nil {
		s.limit.share(s.store(), s.log)
	}
	if s.users == nil {
		return s.Tenant.Open(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration(s.c.Suppression.StartWaitSeconds)*time.Second)
	defer cancel()
	s.opening.Lock()
	defer s.opening.Unlock()
	if !s.opened {
		if err := s.users.Open(bounded, s.c.Suppression.access()); err != nil {
			return err
		}
		s.opened = true
	}
	if err := s.Tenant.Open(ctx); err != nil {
		return errors.Join(err, s.release())
	}
	return nil
}

// Close implements connector.Source.
func (s *Source) Close(ctx context.Context) error {
	err := s.Tenant.Close(ctx)
	if s.users == nil {
		return err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	return errors.Join(err, s.release())
}

// release lets go of the suppressed users. opening is held.
func (s *Source) release() error {
	if !s.opened {
		return nil
	}
	s.opened = false
	return s.users.Close()
}

// Measure implements meter.Measured.
func (s *Source) Measure(emit meter.Emit) {
	s.Tenant.Measure(emit)
	if s.users == nil {
		return
	}
	emit(meter.SourceLeftOut, float64(s.leftOut.Load()), "suppressed")
	emit(meter.SuppressedUsers, float64(s.users.Count()))
	if at := s.users.Synced(); !at.IsZero() {
		emit(meter.SuppressionSynced, float64(at.UnixMilli())/1000)
	}
}

// users serves the suppressed users; false when a request is not about them.
func (s *session) userList(w http.ResponseWriter, r *http.Request) bool {
	if s.list == nil || !strings.HasPrefix(r.URL.Path, suppression.Paths) {
		return false
	}
	s.pass(w, r, s.list)
	return true
}
