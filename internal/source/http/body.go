package httpsource

import (
	"bytes"
	"errors"
	"net/http"
	"slices"

	"github.com/weirdata/weir/internal/frontdoor"
)

// split cuts body into its lines without blank ones. A line ends at a newline, or a
// carriage return and a newline. The payloads share body's memory.
func split(body []byte, limit, maxLine int) ([][]byte, *refusal) {
	payloads := make([][]byte, 0, min(bytes.Count(body, []byte{'\n'})+1, limit))
	for number := 1; len(body) > 0; number++ {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(line) > maxLine {
			return nil, refuse(http.StatusBadRequest, "line %d has %d bytes, more than the limit of %d: nothing was accepted", number, len(line), maxLine)
		}
		if len(payloads) == limit {
			return nil, refuse(http.StatusBadRequest, "the request has more than %d lines: nothing was accepted", limit)
		}
		// The capacity ends with the line, so that appending to it cannot reach the next.
		payloads = append(payloads, slices.Clip(line))
	}
	return payloads, nil
}

// body reads and unpacks the body of r. held is what it holds of the budget, to be given back
// with the request's place; nothing after a refusal.
func (s *session) body(w http.ResponseWriter, r *http.Request) (body []byte, held int64, no *refusal) {
	encoding, known := frontdoor.Encoding(r.Header.Get("Content-Encoding"))
	if !known {
		return nil, 0, refuse(http.StatusUnsupportedMediaType, "content encoding %q is not known: use gzip, zstd, deflate or none", encoding[:min(len(encoding), 40)])
	}
	b, err := s.Body.Read(w, r, encoding)
	switch {
	case err == nil:
		return b.Data, b.Keep(), nil
	case errors.Is(err, frontdoor.ErrCrowded):
		no = crowded
	case errors.Is(err, frontdoor.ErrTooLarge):
		no = refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes: nothing was accepted", s.c.MaxBodyBytes)
	case errors.Is(err, frontdoor.ErrLate):
		no = refuse(http.StatusRequestTimeout, "the body did not arrive in time: nothing was accepted")
	case errors.Is(err, frontdoor.ErrEncoding):
		no = refuse(http.StatusBadRequest, "the body is not valid %s: nothing was accepted", encoding)
	default:
		no = refuse(http.StatusBadRequest, "the body could not be read: nothing was accepted")
	}
	return nil, 0, no
}
