package runs

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/weirdata/weir/internal/meter"
)

// Path is where the status of runs is served.
const Path = "/internal/v2/job-status/"

// mostRecords is how many failed records an answer has at most, and one that is asked without a size.
const mostRecords = 10_000

// Token says after which failed record a page begins.
type Token struct {
	of     []byte
	record string
}

// token is the form of one, as text.
type token struct {
	ID     string `json:"id"`
	Record string `json:"record_id"`
}

func (t *Token) String() string {
	text, err := json.Marshal(token{hex.EncodeToString(t.of), t.record})
	if err != nil { // two strings can be written
		return ""
	}
	return base64.URLEncoding.EncodeToString(text)
}

// ParseToken reads the String form of a token.
func ParseToken(text string) (*Token, error) {
	data, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("page token: %w", err)
	}
	var t token
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("page token: %w", err)
	}
	of, err := hex.DecodeString(t.ID)
	if err != nil || len(of) != hashed || len(t.Record) > longestRecord {
		return nil, errors.New("page token: it is none that was given out")
	}
	return &Token{of, t.Record}, nil
}

// key is the key of the record that t names; nil for none.
func (t *Token) key(run string) []byte {
	if t == nil {
		return nil
	}
	return recordKey(run, t.of, t.record)
}

// Handler serves the status of runs, in the form of RudderStack's:
//
//	GET    /internal/v2/job-status/{run}
//	DELETE /internal/v2/job-status/{run}
//	GET    /internal/v2/job-status/{run}/failed-records[?pageSize=N&pageToken=T]
//	DELETE /internal/v2/job-status/{run}/failed-records
//	PUT    /internal/drain/job/{run}
//
// each but the last with any number of task_run_id and source_id in the query.
func (b *Book) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+"{run}", b.getStatus)
	mux.HandleFunc("DELETE "+Path+"{run}", func(w http.ResponseWriter, r *http.Request) {
		b.emptied(w, r, b.DeleteStatus(r.Context(), r.PathValue("run"), asked(r)))
	})
	mux.HandleFunc("GET "+Path+"{run}/failed-records", b.getFailed)
	mux.HandleFunc("DELETE "+Path+"{run}/failed-records", func(w http.ResponseWriter, r *http.Request) {
		b.emptied(w, r, b.DeleteFailed(r.Context(), r.PathValue("run"), asked(r)))
	})
	mux.HandleFunc("PUT "+DrainPath+"{run}", b.putCancel)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.store() == nil {
			http.Error(w, ErrNotFound.Error(), http.StatusNotFound)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func asked(r *http.Request) Filter {
	q := r.URL.Query()
	return Filter{Tasks: q["task_run_id"], Sources: q["source_id"]}
}

func (b *Book) getStatus(w http.ResponseWriter, r *http.Request) {
	s, err := b.Status(r.Context(), r.PathValue("run"), asked(r))
	if err != nil {
		b.refuse(w, r, err)
		return
	}
	b.answer(w, s)
}

func (b *Book) getFailed(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size := mostRecords
	if text := q.Get("pageSize"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			http.Error(w, "pageSize is no number above 0", http.StatusBadRequest)
			return
		}
		size = min(n, mostRecords)
	}
	var after *Token
	if text := q.Get("pageToken"); text != "" {
		t, err := ParseToken(text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		after = t
	}
	f, err := b.Failures(r.Context(), r.PathValue("run"), asked(r), size, after)
	if err != nil {
		b.refuse(w, r, err)
		return
	}
	b.answer(w, f)
}

func (b *Book) emptied(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		b.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *Book) answer(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the status cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // who has gone needs no answer
}

func (b *Book) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, ErrNotComplete):
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		b.log.Error("the status of a job run cannot be read or written", slog.String("run", r.PathValue("run")), slog.Any(meter.KeyError, err))
		http.Error(w, "the status of the run cannot be read or written now", http.StatusInternalServerError)
	}
}
