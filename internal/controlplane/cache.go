package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cached is what the file of the cache holds.
type cached struct {
	Version int                        `json:"version"`
	Of      string                     `json:"of"` // which plane, namespace and token; not which they are
	At      time.Time                  `json:"at"`
	Texts   map[string]json.RawMessage `json:"workspaces"`
}

const cacheVersion = 1

// identity tells planes, namespaces and tokens apart.
func (p *Poller) identity() string {
	h := sha256.New()
	for _, text := range []string{p.o.URL, p.o.Namespace, p.o.Token} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(text), text) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keep writes what is in force for a start without the plane. It goes on without when that cannot be done.
func (p *Poller) keep(d *documents) {
	if p.o.Cache == "" {
		return
	}
	c := cached{Version: cacheVersion, Of: p.identity(), At: time.Now().UTC(), Texts: make(map[string]json.RawMessage, len(d.parts))}
	for id, one := range d.parts {
		c.Texts[id] = one.text
	}
	text := ""
	if err := p.write(&c); err != nil {
		text = err.Error()
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	if text != "" && text != p.cache {
		p.o.Log.Warn("the configuration cannot be kept for a start without the control plane", "workspace", p.o.Name, "error", text)
	}
	p.cache = text
}

func (p *Poller) write(c *cached) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the cache %s: %w", p.o.Cache, err)
	}
	dir := filepath.Dir(p.o.Cache)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the cache: %w", err)
	}
	f, err := os.CreateTemp(dir, filepath.Base(p.o.Cache)+".*") // readable by its owner only
	if err != nil {
		return fmt.Errorf("write the cache: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), p.o.Cache)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the cache: %w", err), os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder of the cache: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the folder of the cache: %w", err)
	}
	return nil
}

var errNoCache = errors.New("no cache is configured: set cache in the control_plane block")

// fromCache has what was kept count.
func (p *Poller) fromCache(now time.Time) (time.Time, error) {
	if p.o.Cache == "" {
		return time.Time{}, errNoCache
	}
	data, err := os.ReadFile(p.o.Cache)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the cache: %w", err)
	}
	var c cached
	switch err := json.Unmarshal(data, &c); {
	case err != nil:
		return time.Time{}, fmt.Errorf("read the cache %s: %w", p.o.Cache, err)
	case c.Version != cacheVersion:
		return time.Time{}, fmt.Errorf("the cache %s has version %d, and not %d", p.o.Cache, c.Version, cacheVersion)
	case c.Of != p.identity():
		return time.Time{}, fmt.Errorf("the cache %s is of another control plane, namespace or token", p.o.Cache)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := &documents{parts: make(map[string]*part, len(c.Texts))}
	for id, text := range c.Texts {
		one, err := p.part(id, text, now)
		if err != nil {
			return time.Time{}, fmt.Errorf("read the cache %s: %w", p.o.Cache, err)
		}
		next.parts[id] = one
		if one.updated.After(next.updated) {
			next.updated = one.updated
		}
	}
	if len(next.parts) == 0 {
		return time.Time{}, fmt.Errorf("the cache %s holds no workspace", p.o.Cache)
	}
	p.known = *next
	w := next.state(now)
	w.Tell(p.o.Log, nil)
	p.state.Set(w)
	return c.At, nil
}
