package app

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/controlplane"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/workspace"
)

// Plane is a control plane of a config, and its place.
type Plane struct {
	*controlplane.Poller
	Of  *config.Workspace
	key string // what it does: one of the same key goes on over a reload
}

// workspaces makes the workspace configurations of a plan's blocks: one reader and one state of
// each, which all connectors share that name it.
func (b *Builder) workspaces(plan *config.Plan, built *Built) (map[string]workspace.Live, config.Diagnostics) {
	all := make(map[string]workspace.Live, len(plan.Process.Workspaces))
	var ds config.Diagnostics
	for _, wc := range plan.Process.Workspaces {
		log, warnings := noticing(b.Log.With("workspace", wc.Name))
		live, err := b.workspace(wc, built, log)
		for _, text := range warnings() {
			ds = append(ds, wc.Warn(text, ""))
		}
		if err != nil {
			ds = append(ds, wc.Diagnose("config", err.Error(), connector.Remedy(err, "correct it where it is written")))
			live = &workspace.State{} // so that the connectors find no more mistakes than there are
		}
		all[wc.Name] = live
	}
	return all, ds
}

func (b *Builder) workspace(wc *config.Workspace, built *Built, log *slog.Logger) (workspace.Live, error) {
	switch {
	case wc.Config != "":
		path, err := connector.File(wc.Dir(), "config", wc.Config)
		if err != nil {
			return nil, err
		}
		return workspace.Open(path, log)
	case wc.ControlPlane != nil:
		p := b.plane(wc, log)
		built.Planes = append(built.Planes, p)
		return p.State(), nil
	}
	text, err := wc.Document()
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	w, err := workspace.Parse("in the blocks of "+fmt.Sprintf("%q", wc.Name), text, time.Now())
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	w.Tell(log, nil)
	s := &workspace.State{}
	s.Set(w)
	return s, nil
}

// plane is the poller of a control_plane block: the one that does the same already, if there is one.
func (b *Builder) plane(wc *config.Workspace, log *slog.Logger) *Plane {
	c := wc.ControlPlane
	o := controlplane.Options{
		Name: wc.Name, URL: c.URL, Token: c.Token, Namespace: c.Namespace, Cache: connector.Path(wc.Dir(), c.Cache),
		Poll: c.Poll(), Timeout: c.Timeout(), StartWait: c.StartWait(), MaxBytes: int64(c.MaxBytes), Log: log,
	}
	key := strings.Join([]string{o.Name, o.URL, o.Token, o.Namespace, o.Cache, o.Poll.String(), o.Timeout.String(), strconv.FormatInt(o.MaxBytes, 10)}, "\x00")
	if going := b.planes[key]; going != nil {
		return &Plane{going, wc, key}
	}
	return &Plane{controlplane.New(o), wc, key}
}

// following is the control planes that are asked for changes.
type following struct {
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup
	ends map[string]context.CancelFunc // by key
}

func newFollowing(ctx context.Context) *following {
	f := &following{ends: map[string]context.CancelFunc{}}
	f.ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	return f
}

// end stops asking, and waits until nobody does.
func (f *following) end() {
	f.stop()
	f.done.Wait()
}

// measuredPlanes are planes as the metrics have them.
func measuredPlanes(planes []*Plane) []meter.Measured {
	all := make([]meter.Measured, len(planes))
	for i, p := range planes {
		all[i] = p.Poller
	}
	return all
}

// behind are the lines of control planes that do not answer, for those who ask how the process does.
func (a *App) behind() (lines []string) {
	g := a.generation()
	if g == nil {
		return nil
	}
	for _, p := range g.planes {
		if line := p.Trouble(); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// first has the planes of b give their first configuration, before anything is opened that stands on it.
func (b *Built) first(ctx context.Context) error {
	for _, p := range b.Planes {
		if err := p.Start(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.Of.Position(), err)
		}
	}
	return nil
}

// follow asks the planes of b from now on, and no others.
func (f *following) follow(b *Builder, planes []*Plane) {
	going := make(map[string]*controlplane.Poller, len(planes))
	for _, p := range planes {
		going[p.key] = p.Poller
		if f.ends[p.key] != nil {
			continue
		}
		ctx, end := context.WithCancel(f.ctx)
		f.ends[p.key] = end
		f.done.Go(func() { p.Run(ctx) })
	}
	for key, end := range f.ends {
		if going[key] == nil {
			end()
			delete(f.ends, key)
		}
	}
	b.planes = going
}
