package httpsource

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/trace"
)

// refusal is an answer other than 202.
type refusal struct {
	code int
	text string
}

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

var (
	stopping = &refusal{http.StatusServiceUnavailable, "the source is stopping or not ready yet: send the request again"}
	crowded  = &refusal{http.StatusServiceUnavailable, "too many events are in flight: send the request again later"}
	noRoom   = &refusal{http.StatusServiceUnavailable, "there is no room for events just now: send the request again later"}
	away     = &refusal{http.StatusServiceUnavailable, "what keeps the events is out of reach just now: send the request again later"}
	late     = &refusal{http.StatusServiceUnavailable, "the events were not settled in time: send the request again"}
	failed   = &refusal{http.StatusServiceUnavailable, "the events were not delivered: send the request again"}
)

// handle serves one request. It writes one answer, or none when the client has gone.
func (s *session) handle(w http.ResponseWriter, r *http.Request) {
	// Set before anything is refused: the server reads what is left of a refused body.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Duration(s.c.ReadTimeoutMillis) * time.Millisecond))
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.answer(w, refuse(http.StatusMethodNotAllowed, "send events with POST"))
		return
	}
	if !s.auth.accept(r) {
		s.auth.challenge(w.Header())
		s.answer(w, refuse(http.StatusUnauthorized, "credentials are missing or wrong"))
		return
	}
	if !s.Served() {
		s.answer(w, stopping)
		return
	}
	if why := s.Refusal(); fault.Away(why) {
		s.answer(w, away)
		return
	} else if why != nil {
		s.answer(w, noRoom)
		return
	}
	if !s.Budget.Enter() {
		s.answer(w, crowded)
		return
	}
	b, held, no := s.accept(w, r)
	if len(b) == 0 {
		s.Budget.Leave(held)
		s.answer(w, no)
		return
	}
	fate, outcomes := s.Hall.Await(r.Context(), b, s.Budget, held)
	switch fate {
	case frontdoor.Settled:
		s.answer(w, nil)
	case frontdoor.Failed:
		s.answer(w, undelivered(outcomes))
	case frontdoor.Late:
		s.answer(w, late)
	case frontdoor.Stopped:
		s.answer(w, stopping)
	case frontdoor.Gone:
	}
}

// maxNamed bounds how many events an answer names.
const maxNamed = 50

// undelivered says which of a request's events were not delivered, by their numbers without
// blank lines; the others need not be sent again.
func undelivered(outcomes event.Outcomes) *refusal {
	var numbers []string
	n := 0
	for i, err := range outcomes {
		if err == nil {
			continue
		}
		if n++; n <= maxNamed {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
	}
	if n == len(outcomes) {
		return failed
	}
	if n > maxNamed {
		numbers = append(numbers, "...")
	}
	return refuse(http.StatusServiceUnavailable, "%d of %d events were not delivered, by their number: %s; send these again, or the whole request", n, len(outcomes), strings.Join(numbers, ", "))
}

// accept reads the body and makes the request's messages, which hold bytes of the budget.
// There are none when the request ends here: with a refusal, or because it has no events.
func (s *session) accept(w http.ResponseWriter, r *http.Request) (b event.Batch, held int64, no *refusal) {
	body, held, no := s.body(w, r)
	if no != nil {
		return nil, held, no
	}
	payloads, no := split(body, s.c.RequestBatchLimit, s.c.MaxLineBytes)
	if no != nil || len(payloads) == 0 {
		return nil, held, no
	}
	b = event.NewBatch(time.Now().UTC(), payloads)
	h := s.forwarded(r.Header)
	if s.traced {
		h = trace.Keep(h, r.Header)
	}
	if h != nil {
		for _, m := range b {
			m.Meta.Headers = h
		}
	}
	return b, held, nil
}

// answer writes the one answer of a request.
func (s *Source) answer(w http.ResponseWriter, no *refusal) {
	if no == nil {
		s.Answered(http.StatusAccepted)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if no.code == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(s.c.RetryAfterSeconds))
	}
	if no == stopping {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(no.text)+1)) // it may leave before the body has come
	s.Answered(no.code)
	w.WriteHeader(no.code)
	_, _ = w.Write([]byte(no.text + "\n"))
}

// forwarded is the headers of a request that its messages keep; nil when there are none.
func (s *Source) forwarded(h http.Header) event.Headers {
	var kept event.Headers
	for i, name := range s.c.ForwardHeaders {
		again := func(other string) bool { return strings.EqualFold(name, other) }
		if slices.ContainsFunc(s.c.ForwardHeaders[:i], again) {
			continue
		}
		for _, v := range h.Values(name) {
			kept = kept.Add(name, []byte(v))
		}
	}
	return kept
}

// credentials are what requests must carry. Only digests are kept, so that a comparison
// takes the same time whatever the lengths.
type credentials struct {
	basic, bearer         bool
	user, password, token [sha256.Size]byte
}

func newCredentials(c Config) *credentials {
	return &credentials{
		basic: c.BasicAuthUsername != "", bearer: c.BearerToken != "",
		user: digest(c.BasicAuthUsername), password: digest(c.BasicAuthPassword), token: digest(c.BearerToken),
	}
}

func digest(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

func same(a, b [sha256.Size]byte) int { return subtle.ConstantTimeCompare(a[:], b[:]) }

func (c *credentials) accept(r *http.Request) bool {
	if !c.basic && !c.bearer {
		return true
	}
	if c.basic {
		if user, password, ok := r.BasicAuth(); ok && same(digest(user), c.user)&same(digest(password), c.password) == 1 {
			return true
		}
	}
	if c.bearer {
		scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		return ok && strings.EqualFold(scheme, "Bearer") && same(digest(strings.TrimSpace(token)), c.token) == 1
	}
	return false
}

func (c *credentials) challenge(h http.Header) {
	if c.basic {
		h.Add("WWW-Authenticate", `Basic realm="events", charset="UTF-8"`)
	}
	if c.bearer {
		h.Add("WWW-Authenticate", "Bearer")
	}
}
