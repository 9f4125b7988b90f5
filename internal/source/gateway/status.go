package gatewaysource

import (
	"net/http"
	"strings"

	"github.com/weirdata/weir/internal/runs"
)

// jobStatus serves the status of job runs, and cancels them; false when a request is not about it.
func (s *session) jobStatus(w http.ResponseWriter, r *http.Request) bool {
	if s.status == nil || !(strings.HasPrefix(r.URL.Path, runs.Path) || strings.HasPrefix(r.URL.Path, runs.DrainPath)) {
		return false
	}
	s.pass(w, r, s.status)
	return true
}

// pass serves a request that another handler answers, and counts the answer.
func (s *session) pass(w http.ResponseWriter, r *http.Request, by http.Handler) {
	told := &status{ResponseWriter: w, code: http.StatusOK}
	by.ServeHTTP(told, r)
	s.Answered(told.code)
}

// status is a response of which the code is known afterwards.
type status struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}
