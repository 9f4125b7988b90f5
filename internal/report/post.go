package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/weirdata/weir/internal/httpclient"
)

// The policy of the JSON endpoints, which is Snowbridge's.
const (
	postTries   = 6
	postTimeout = time.Second
	postPause   = 100 * time.Millisecond
)

// selfDescribing is a JSON body with the schema it follows.
type selfDescribing struct {
	Schema string `json:"schema"`
	Data   any    `json:"data"`
}

// post sends a body until the endpoint answers 2xx, at most postTries times.
func post(ctx context.Context, c *httpclient.Client, endpoint string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	for n := 1; ; n++ {
		err = postOnce(ctx, c, endpoint, text)
		if err == nil || n == postTries || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(postPause):
		case <-ctx.Done():
			return err
		}
	}
}

func postOnce(ctx context.Context, c *httpclient.Client, endpoint string, text []byte) error {
	ctx, done := context.WithTimeout(ctx, postTimeout)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(text))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req, nil)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	httpclient.Drain(res)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the answer is %s, not 2xx", res.Status)
	}
	return nil
}

// withoutURL is err without the address, which may carry secrets.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
