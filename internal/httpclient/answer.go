package httpclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxWait bounds what a Retry-After may ask for, where nobody allows more.
const MaxWait = time.Hour

// RetryAfter is how long a response asks to wait, by seconds or by a date: at most limit, and
// zero when it does not say, or says what is past.
func RetryAfter(h http.Header, now time.Time, limit time.Duration) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		d = time.Duration(min(n, uint64(limit/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		d = limit
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), limit)
}

// drained is how much of a response nobody wants, in bytes, is read so that its connection can
// be used again; what is longer costs the connection.
const drained = 256 << 10

// Body reads at most limit bytes of a response, and some more that it throws away.
func Body(resp *http.Response, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err == nil {
		Drain(resp)
	}
	return text, err
}

// Drain throws away what is left of a response, if it is short.
func Drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, drained)
}

// Get is the status and at most limit bytes of what is at an address; user is the user name of basic
// authentication, where it is not empty.
func (c *Client) Get(ctx context.Context, address, user string, limit int64) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	if user != "" {
		req.SetBasicAuth(user, "")
	}
	resp, err := c.Do(req, nil)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = Body(resp, limit)
	return resp.StatusCode, body, err
}
