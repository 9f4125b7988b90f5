package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
)

// upload is a resumable upload.
type upload struct {
	s       *store
	session string // its address
	sent    int64  // bytes that the service has
	asked   bool   // the service has to be asked how far it is
	last    []byte // the last part, which completes the object
	done    bool
}

// statusResume is what the service answers while an upload goes on; statusAborted, when it has
// aborted one.
const (
	statusResume  = 308
	statusAborted = 499
)

// Begin implements remote.Store.
func (s *store) Begin(ctx context.Context, key, mark string) (remote.Upload, error) {
	described, err := s.described(key, mark)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/json; charset=UTF-8"}}
	resp, err := s.send(ctx, "begin an upload", http.MethodPost, s.uploading("resumable", "0"), header, described)
	if err != nil {
		return nil, err
	}
	if err := resp.Body.Close(); err != nil {
		return nil, failed("begin an upload", s.bucket, err)
	}
	session, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || session.Path == "" {
		return nil, failed("begin an upload", s.bucket, errors.New("the answer does not say where"))
	}
	base, err := url.Parse(s.base)
	if err != nil {
		return nil, failed("begin an upload", s.bucket, err)
	}
	session.Scheme, session.Host = base.Scheme, base.Host // an emulator may name itself as it is known elsewhere
	return &upload{s: s, session: session.String()}, nil
}

// Part implements remote.Upload. The last one is kept for Complete.
func (u *upload) Part(ctx context.Context, _ int, data []byte, last bool) error {
	if last {
		u.last = data
		return nil
	}
	return u.put(ctx, "upload a part", data, false)
}

// Complete implements remote.Upload.
func (u *upload) Complete(ctx context.Context) error {
	err := u.put(ctx, "complete an upload", u.last, true)
	if errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("complete an upload: %w", remote.ErrNoUpload)
	}
	return err
}

// put sends a part that begins at u.sent, less what the service turns out to have of it already.
func (u *upload) put(ctx context.Context, doing string, data []byte, last bool) error {
	from, end := u.sent, u.sent+int64(len(data))
	if u.asked {
		have, err := u.progress(ctx, doing)
		if err != nil || u.done {
			return err
		}
		if have < from || have > end {
			return failed(doing, u.s.bucket, fmt.Errorf("the service has %d bytes of the upload, and has confirmed %d", have, from))
		}
		from, data = have, data[have-from:]
	}
	total := "*"
	if last {
		total = strconv.FormatInt(end, 10)
	}
	span := fmt.Sprintf("bytes %d-%d/%s", from, end-1, total)
	if from == end {
		span = "bytes */" + total
		if !last { // the service has all of it
			u.sent, u.asked = end, false
			return nil
		}
	}
	u.asked = true // until there is an answer
	resp, err := u.s.send(ctx, doing, http.MethodPut, u.session, http.Header{"Content-Range": {span}}, data, statusResume)
	if err != nil {
		return err
	}
	have := confirmed(resp.Header)
	if err := resp.Body.Close(); err != nil {
		return failed(doing, u.s.bucket, err)
	}
	switch {
	case resp.StatusCode != statusResume:
		u.done = true
	case have != end || last:
		return failed(doing, u.s.bucket, fmt.Errorf("the service has %d bytes of %d", have, end)) // and is asked next time
	}
	u.sent, u.asked = end, false
	return nil
}

// progress asks how many bytes the service has; done says that the object is there.
func (u *upload) progress(ctx context.Context, doing string) (int64, error) {
	resp, err := u.s.send(ctx, doing, http.MethodPut, u.session, http.Header{"Content-Range": {"bytes */*"}}, nil, statusResume)
	if err != nil {
		return 0, err
	}
	u.done = resp.StatusCode != statusResume
	return confirmed(resp.Header), resp.Body.Close()
}

// confirmed is how many bytes a Range of "bytes=0-99" means; none without one.
func confirmed(h http.Header) int64 {
	_, last, ok := strings.Cut(h.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return n + 1
}

// Abort implements remote.Upload.
func (u *upload) Abort(ctx context.Context) error {
	resp, err := u.s.send(ctx, "abort an upload", http.MethodDelete, u.session, nil, nil, statusAborted, http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
