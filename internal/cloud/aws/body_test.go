package aws

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// closing is a body as the SDK's: once it is closed, writing itself is an error.
type closing struct {
	*strings.Reader
	closed bool
}

func (c *closing) Read(p []byte) (int, error) {
	if c.closed {
		return 0, io.EOF
	}
	return c.Reader.Read(p)
}

func (c *closing) WriteTo(w io.Writer) (int64, error) {
	if c.closed {
		return 0, io.EOF
	}
	return c.Reader.WriteTo(w)
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// TestReadable: the end of a closed body is no error for who asks whether there is more.
func TestReadable(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequest(http.MethodPost, "http://localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	if readable(req) != req {
		t.Error("a request without a body is another one")
	}
	body := &closing{Reader: strings.NewReader("x")}
	req.Body = body
	sent := readable(req)
	if _, err := io.Copy(io.Discard, sent.Body); err != nil {
		t.Error(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, sent.Body); n != 0 || err != nil {
		t.Errorf("a closed body has %d bytes more: %v", n, err)
	}
	if req.Body != io.ReadCloser(body) {
		t.Error("the request that was given is changed")
	}
}
