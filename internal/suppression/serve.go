package suppression

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/fault"
)

// Paths are served below this one.
const Paths = "/dataplane/"

const (
	defaultPage = 5000
	maxPage     = 10000
	maxUser     = 64 << 10
)

// Handler serves the set, to who has the token as the user name of Basic authorization:
//
//	PUT    /dataplane/workspaces/{workspace}/suppressions/{userId}[?sourceId=...]
//	DELETE the same: it is taken back
//	GET    /dataplane/workspaces/{workspace}/regulations/suppressions[?pageSize=5000][&pageToken=T]
//
// The last is what [Plane] asks for. Only a set that is neither polled nor read from a file has changes.
func (s *Set) Handler(token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /dataplane/workspaces/{workspace}/suppressions/{user}", s.put)
	mux.HandleFunc("DELETE /dataplane/workspaces/{workspace}/suppressions/{user}", s.put)
	mux.HandleFunc("GET /dataplane/workspaces/{workspace}/regulations/suppressions", s.list)
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		if is := sha256.Sum256([]byte(user)); !ok || token == "" || subtle.ConstantTimeCompare(is[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "the token is not the one of the suppression block", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Put suppresses a user, or takes that back; it is synced when it returns.
func (s *Set) Put(_ context.Context, i Item) error {
	if s.o.Plane != nil || s.o.File != "" {
		return fault.New(fault.Setup, errors.New("these users are those of "+s.o.identity()+": they are changed there"))
	}
	return s.change(func(c *change) error { return errors.Join(c.apply(&i, 0), c.note(&i)) })
}

func (s *Set) put(w http.ResponseWriter, r *http.Request) {
	i := Item{Workspace: r.PathValue("workspace"), User: strings.TrimSpace(r.PathValue("user")), Sources: r.URL.Query()["sourceId"], Canceled: r.Method == http.MethodDelete, Created: time.Now().UTC()}
	if i.User == "" || len(i.User) > maxUser || len(i.Workspace) > maxUser {
		http.Error(w, "the userId is empty or too long", http.StatusBadRequest)
		return
	}
	if err := s.Put(r.Context(), i); err != nil {
		s.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Set) refuse(w http.ResponseWriter, err error) {
	if fault.Of(err) == fault.Setup {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	s.o.Log.Error("the suppressed users cannot be read or written", "path", s.o.Path, "error", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "the suppressed users cannot be read or written; the log says why", http.StatusServiceUnavailable)
}

func (s *Set) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size := defaultPage
	if text := q.Get("pageSize"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			http.Error(w, "pageSize is not a number above 0", http.StatusBadRequest)
			return
		}
		size = min(n, maxPage)
	}
	after := uint64(0)
	if text := q.Get("pageToken"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			http.Error(w, "pageToken is not one that was given", http.StatusBadRequest)
			return
		}
		after = n
	}
	p, err := s.page(r.PathValue("workspace"), after, size)
	if err != nil {
		s.refuse(w, err)
		return
	}
	body, err := json.Marshal(p)
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // who has gone asks again
}

// page is the changes of a workspace after a number.
func (s *Set) page(workspace string, after uint64, size int) (*page, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.db == nil {
		return nil, fault.New(fault.Transient, errClosed)
	}
	if s.o.Plane != nil || s.o.File != "" {
		return nil, fault.New(fault.Setup, errors.New("these users are those of "+s.o.identity()+": ask there"))
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: changeKey(workspace, after+1), UpperBound: append(changeKey(workspace, ^uint64(0)), 0)})
	if err != nil {
		return nil, err
	}
	p := &page{Items: []Item{}, Token: strconv.FormatUint(after, 10)}
	for ok := it.First(); ok && len(p.Items) < size; ok = it.Next() {
		var i Item
		if err := json.Unmarshal(it.Value(), &i); err != nil {
			return nil, errors.Join(err, it.Close())
		}
		p.Items = append(p.Items, i)
		key := it.Key()
		p.Token = strconv.FormatUint(binary.BigEndian.Uint64(key[len(key)-8:]), 10)
	}
	return p, it.Close()
}
