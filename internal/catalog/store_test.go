package catalog

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
)

// bucket is the bucket as the process has it: as it is, or of a store that is reached by
// requests, which the fates befall.
func (h *hand) bucket(distant bool) blob.Bucket {
	if !distant {
		return h
	}
	return remote.New(requests{h}, remote.Options{
		Name: "lake", Part: 8, MostParts: 1000, Patience: remote.Patience{Tries: 3, First: time.Nanosecond, Most: time.Nanosecond},
	})
}

// requests is the memory as a store.
type requests struct{ h *hand }

// put writes an object under a condition.
func (r requests) put(key, mark string, seen blob.Version, data []byte) error {
	return r.h.do(key, func() error {
		have, there := r.h.m.objects[key]
		switch {
		case seen != "" && !there:
			return blob.ErrNotFound
		case seen == "" && there, seen != "" && blob.Version(have) != seen:
			return remote.ErrCondition
		}
		r.h.m.objects[key], r.h.m.marks[key] = append([]byte(nil), data...), mark
		return nil
	})
}

func (r requests) Put(_ context.Context, key, mark string, seen blob.Version, data []byte) (blob.Version, error) {
	return blob.Version(data), r.put(key, mark, seen, data)
}

func (r requests) Head(ctx context.Context, key string) (remote.Stat, error) {
	data, _, err := r.h.Get(ctx, key)
	if err != nil {
		return remote.Stat{}, err
	}
	r.h.m.mu.Lock()
	defer r.h.m.mu.Unlock()
	return remote.Stat{Size: int64(len(data)), Version: blob.Version(data), Mark: r.h.m.marks[key]}, nil
}

func (r requests) Get(ctx context.Context, key string, offset, _ int64, version blob.Version) (io.ReadCloser, remote.Stat, error) {
	stat, err := r.Head(ctx, key)
	if err != nil {
		return nil, stat, err
	}
	if version != "" && version != stat.Version {
		return nil, stat, remote.ErrCondition
	}
	return io.NopCloser(strings.NewReader(string(stat.Version)[min(offset, stat.Size):])), stat, nil
}

func (r requests) List(ctx context.Context, prefix, after, _ string, folders bool, limit int) (remote.Page, error) {
	infos, err := r.h.List(ctx, blob.Query{Prefix: prefix, After: after, Folders: folders, Limit: limit})
	page := remote.Page{Entries: infos}
	return page, err
}

func (r requests) Delete(ctx context.Context, keys []string) error { return r.h.Delete(ctx, keys...) }

// parts is an upload.
type parts struct {
	r         requests
	key, mark string
	data      map[int][]byte
	last      int
	ended     bool
}

func (r requests) Begin(_ context.Context, key, mark string) (remote.Upload, error) {
	u := &parts{r: r, key: key, mark: mark, data: map[int][]byte{}}
	return u, r.h.do(key, func() error { return nil })
}

func (u *parts) Part(_ context.Context, n int, data []byte, _ bool) error {
	return u.r.h.do(u.key, func() error {
		u.data[n], u.last = append([]byte(nil), data...), max(u.last, n)
		return nil
	})
}

func (u *parts) Complete(context.Context) error {
	var all []byte
	for n := 1; n <= u.last; n++ {
		all = append(all, u.data[n]...)
	}
	if u.ended {
		return remote.ErrNoUpload
	}
	err := u.r.put(u.key, u.mark, "", all)
	if u.ended = err == nil || errors.Is(err, errLost); errors.Is(err, errLost) {
		u.r.h.m.mu.Lock()
		u.ended = u.r.h.m.marks[u.key] == u.mark // an upload that was refused is still there
		u.r.h.m.mu.Unlock()
	}
	return err
}

func (u *parts) Abort(context.Context) error { u.ended = true; return nil }

func (r requests) Sweep(context.Context, string, time.Time) error { return nil }
func (r requests) Close() error                                   { return nil }
