package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxEvent is the most bytes of a server-sent event.
const maxEvent = 16 << 20

// Events calls fn with the server-sent events that a path of a running process is answered with, until
// they end or fn returns an error, which it returns.
func Events(ctx context.Context, at Where, path string, v url.Values, fn func(kind string, data []byte) error) error {
	c, err := newClient(at)
	if err != nil {
		return err
	}
	defer c.Close()
	a, err := c.do(ctx, http.MethodGet, path, v, "", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", c.base, err)
	}
	defer a.Body.Close()
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	kind := ""
	for lines.Scan() {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "data":
			if err := fn(kind, value); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: the running process broke off: %w", c.base, err)
	}
	return nil
}
