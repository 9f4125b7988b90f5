package frontdoor

import (
	"io"
	"net/http"
	"time"
)

const (
	// short is what net/http reads of a body before it answers, in bytes.
	short = 256 << 10
	// maxRest is how much of a longer one is read after its answer: clients that send all before
	// they read an answer would otherwise see the connection break off, and no answer.
	maxRest = 64 << 20
	// restTime is how long they may take for it; the host may have set an earlier end.
	restTime = 30 * time.Second
)

// patiently serves a request, and reads what is left of its body once it is answered. The
// connection ends then: nobody can tell whether what is still to come is the body or a request.
func patiently(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if r.Body == nil || r.Body == http.NoBody || r.ProtoMajor != 1 || r.ContentLength >= 0 && r.ContentLength <= short {
		serve(w, r) // HTTP/2 tells a client to stop
		return
	}
	body := &heard{ReadCloser: r.Body}
	mine := *r // net/http goes on with r, and looks at its body
	mine.Body = body
	answer := &parting{ResponseWriter: w, body: body}
	serve(answer, &mine)
	if body.over || !body.begun && r.Header.Get("Expect") != "" { // who asked first sends nothing after a no
		return
	}
	if !answer.written {
		answer.WriteHeader(http.StatusOK)
	}
	c := http.NewResponseController(w)
	if c.EnableFullDuplex() != nil || c.Flush() != nil {
		return
	}
	stop := time.AfterFunc(restTime, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, r.Body, maxRest) // whatever comes of it, the answer is given
}

// heard is a body that knows whether more may come.
type heard struct {
	io.ReadCloser
	begun, over bool
}

func (h *heard) Read(p []byte) (int, error) {
	h.begun = true
	n, err := h.ReadCloser.Read(p)
	h.over = h.over || err == io.EOF
	return n, err
}

// parting ends the connection with an answer that comes before its body was read.
type parting struct {
	http.ResponseWriter
	body    *heard
	written bool
}

func (p *parting) WriteHeader(code int) {
	if code >= 200 && !p.written {
		p.written = true
		if !p.body.over {
			p.Header().Set("Connection", "close")
		}
	}
	p.ResponseWriter.WriteHeader(code)
}

func (p *parting) Write(b []byte) (int, error) {
	if !p.written {
		p.WriteHeader(http.StatusOK)
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap is how http.ResponseController finds what it controls.
func (p *parting) Unwrap() http.ResponseWriter { return p.ResponseWriter }
