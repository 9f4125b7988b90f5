package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
)

// inspected is what can be looked at before it is opened, and whose place in the config a
// finding has.
type inspected struct {
	connector.Inspector
	diagnose func(error) config.Diagnostics
	tried    func() bool // it is opened all the same, and what comes of that is told; nil: it is not
}

// Inspect is what would keep b from starting, as far as that can be seen on this machine
// without the network and without changing anything.
func (b *Built) Inspect() config.Diagnostics {
	found, later := b.inspect()
	return append(found, later...)
}

// InspectStart is what keeps b from starting. What keeps a target from being opened, or a pipeline
// that is started again until it works, is a warning: it is tried, so that it takes nothing else
// down, a disk may be mounted yet, and who is told of failures is told of this one.
func (b *Built) InspectStart() config.Diagnostics {
	found, later := b.inspect()
	for i := range later {
		later[i].Severity = config.Warning
	}
	return append(found, later...)
}

// inspect is what is wrong, and what is wrong with what is tried all the same.
func (b *Built) inspect() (found, later config.Diagnostics) {
	for _, i := range b.inspected {
		err := i.Inspect()
		switch {
		case err == nil:
		case i.tried != nil && i.tried():
			later = append(later, i.diagnose(err)...)
		default:
			found = append(found, i.diagnose(err)...)
		}
	}
	return found, later
}

// located is a connector at a place of this machine.
type located struct {
	use   *config.Use
	place string
}

// locate refuses a second connector of a pipeline at a place of this machine: what was written
// there could not be told apart, or would be read again for ever.
func (a *assembly) locate(u *config.Use, made any) {
	l, ok := made.(connector.Located)
	if !ok || a.config == nil {
		return
	}
	place := l.Location()
	for _, other := range a.located {
		if other.place != place {
			continue
		}
		why := "what is written there cannot be told apart"
		if other.use.Kind == config.KindSource {
			why = "it would read again what it has written"
		}
		a.found = append(a.found, u.Diagnose(connector.Blame("path", "name another one",
			fmt.Errorf("it is the %s of the %s as well: %s", place, other.use.Block, why)))...)
	}
	a.located = append(a.located, located{u, place})
}

// once leaves out the warnings that say again what one before them says: what is wrong with a
// workspace file, each connector that reads it notices.
func once(ds config.Diagnostics) config.Diagnostics {
	said := map[string]bool{}
	kept := ds[:0]
	for _, d := range ds {
		if d.Severity == config.Warning && said[d.What] {
			continue
		}
		said[d.What] = d.Severity == config.Warning
		kept = append(kept, d)
	}
	return kept
}

// noticing is log, whose warnings are kept until told is called, which returns them: what New
// warns of belongs to the config. Afterwards it is log.
func noticing(log *slog.Logger) (noticed *slog.Logger, told func() []string) {
	n := &notices{}
	n.making = true
	return slog.New(&noticeHandler{log.Handler(), n, nil}), func() []string {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.making = false
		return n.texts
	}
}

type notices struct {
	mu     sync.RWMutex
	making bool
	texts  []string
}

type noticeHandler struct {
	slog.Handler
	to    *notices
	attrs []slog.Attr
}

func (h *noticeHandler) Enabled(ctx context.Context, l slog.Level) bool {
	h.to.mu.RLock()
	defer h.to.mu.RUnlock()
	return h.to.making && l >= slog.LevelWarn || h.Handler.Enabled(ctx, l)
}

func (h *noticeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && h.notice(r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// notice keeps a warning of New; false says that New has returned.
func (h *noticeHandler) notice(r slog.Record) bool {
	h.to.mu.Lock()
	defer h.to.mu.Unlock()
	if !h.to.making {
		return false
	}
	var more []string
	add := func(a slog.Attr) bool {
		more = append(more, fmt.Sprintf("%s: %v", a.Key, a.Value))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	text := r.Message
	if len(more) > 0 {
		text += " (" + strings.Join(more, ", ") + ")"
	}
	h.to.texts = append(h.to.texts, text)
	return true
}

func (h *noticeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &noticeHandler{h.Handler.WithAttrs(attrs), h.to, append(slices.Clip(h.attrs), attrs...)}
}

func (h *noticeHandler) WithGroup(name string) slog.Handler {
	return &noticeHandler{h.Handler.WithGroup(name), h.to, h.attrs}
}
