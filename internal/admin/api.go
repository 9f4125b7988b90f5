package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/queue"
)

// maxSelection is the most bytes of a selection in a body, enough for half a million IDs.
const maxSelection = 16 << 20

// handling is a request that needs the store.
type handling = func(http.ResponseWriter, *http.Request, Local) error

// selecting are the parameters of a [Selection].
var selecting = []api.Parameter{
	{Name: "dead", Doc: "true: dead messages instead of open ones"}, {Name: "cause", Doc: "text that the cause contains"},
	{Name: "before", Doc: "RFC 3339: appended, or died, before"}, {Name: "older_than", Doc: "duration: appended, or died, longer ago"},
	{Name: "by", Doc: "workspace, source or destination"}, {Name: "value", Doc: "whose, with by"}, {Name: "ids", Doc: "these only; may be repeated"},
}

// Routes are what is answered below /v1.
func Routes(o Options) []api.Route {
	with := func(f handling) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s, name, queues := o.Store()
			if s == nil {
				refuse(w, http.StatusServiceUnavailable, errors.New("no store is open in this process"))
				return
			}
			l := Local{Store: s, Name: name, Config: queues, Who: api.WhoOf(r).String(), Log: o.Log}
			if err := f(w, r, l); err != nil {
				refuse(w, status(err), err)
			}
		}
	}
	get := func(path string, right api.Right, summary string, query []api.Parameter, answer any, f handling) api.Route {
		return api.Route{Method: "GET", Path: path, Right: right, Summary: summary, Query: query, Answer: answer, Do: with(f)}
	}
	post := func(path, summary string, body, answer any, f handling) api.Route {
		return api.Route{Method: "POST", Path: path, Right: api.Operate, Summary: summary, Body: body, Answer: answer, Do: with(f)}
	}
	lines := func(r api.Route) api.Route { r.Kind = "application/x-ndjson"; return r }
	return []api.Route{
		get("/v1/queues", api.See, "Numbers of messages of every queue", []api.Parameter{{Name: "by", Doc: "workspace, source or destination: of each value too"}}, Overview{}, getQueues),
		get("/v1/queues/{queue}/jobs", api.See, "A page of messages, in the order in which they came; their payloads for who may see them",
			append([]api.Parameter{{Name: "after", Doc: "next of the page before"}, {Name: "limit", Doc: "1 to 1000, default 100"}, {Name: "payload", Doc: "false: without what the events hold"}}, selecting...), Page{}, getJobs),
		get("/v1/queues/{queue}/count", api.See, "How many messages a selection chooses", selecting, jobCount{}, getCount),
		lines(get("/v1/queues/{queue}/export", api.Payloads, "Messages, a line of JSON each; broken off where it fails", selecting, Job{}, getExport)),
		post("/v1/queues/{queue}/import", "Append lines of JSON as of an export", Job{}, jobCount{}, postImport),
		post("/v1/queues/{queue}/retry", "Have dead messages wait again", Selection{}, jobCount{}, func(w http.ResponseWriter, r *http.Request, l Local) error {
			return decide(w, r, func(name string, s Selection) (int, error) { return l.Retry(r.Context(), name, s) })
		}),
		post("/v1/queues/{queue}/drop", "Remove dead messages for good", Selection{}, jobCount{}, func(w http.ResponseWriter, r *http.Request, l Local) error {
			return decide(w, r, func(name string, s Selection) (int, error) { return l.Drop(r.Context(), name, s) })
		}),
		post("/v1/queues/{queue}/pause", "Have the work on a queue, or on one value of it, rest", Rest{}, resumed{}, postPause),
		post("/v1/queues/{queue}/resume", "End a pause", Rest{}, resumed{}, postResume),
		lines(post("/v1/queues/{queue}/order", "Drop, drain or move open messages; lines that say how far it is", Command{}, longAnswer{}, postOrder)),
		get("/v1/store", api.See, "Identity and disk space of the store", nil, storeAnswer{}, getStore),
		lines(post("/v1/store/check", "Read all of the store; lines that say how far it is", nil, longAnswer{}, func(w http.ResponseWriter, r *http.Request, l Local) error {
			return long(w, func(progress func(done, total int64)) (map[string]int64, error) {
				return l.Verify(r.Context(), progress)
			})
		})),
		lines(post("/v1/store/compact", "Give disk space back", nil, longAnswer{}, func(w http.ResponseWriter, r *http.Request, l Local) error {
			return long(w, func(func(done, total int64)) (map[string]int64, error) { return nil, l.Compact(r.Context()) })
		})),
		lines(post("/v1/store/backup", "Write a copy of the store into a folder of its machine", backupBody{}, longAnswer{}, postBackup)),
	}
}

func refuse(w http.ResponseWriter, code int, err error) {
	jobs := 0
	if partly, ok := errors.AsType[partlyDone](err); ok {
		jobs = partly.jobs
	}
	api.RefusePartly(w, code, err.Error(), jobs)
}

// partlyDone is an error of an operation that did something before.
type partlyDone struct {
	error
	jobs int
}

func (e partlyDone) Unwrap() error { return e.error }

func status(err error) int {
	var mistake requestError
	switch {
	case errors.Is(err, ErrNoQueue):
		return http.StatusNotFound
	case errors.As(err, &mistake):
		return http.StatusBadRequest
	case errors.Is(err, ErrUnsupported):
		return http.StatusNotImplemented
	case errors.Is(err, queue.ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func answer(w http.ResponseWriter, v any) error {
	api.Answer(w, v)
	return nil
}

func getQueues(w http.ResponseWriter, r *http.Request, l Local) error {
	o, err := l.Queues(r.Context(), queue.Axis(r.FormValue("by")))
	if err != nil {
		return err
	}
	return answer(w, o)
}

// values is s as the parameters of a request; selectionOf reads them.
func (s Selection) values() url.Values {
	v := url.Values{}
	if s.Dead {
		v.Set("dead", "true")
	}
	if s.Cause != "" {
		v.Set("cause", s.Cause)
	}
	if !s.Before.IsZero() {
		v.Set("before", s.Before.Format(time.RFC3339Nano))
	}
	if s.OlderThan > 0 {
		v.Set("older_than", s.OlderThan.String())
	}
	if s.By != "" {
		v.Set("by", string(s.By))
		v.Set("value", s.Value)
	}
	if len(s.IDs) > 0 {
		v["ids"] = s.IDs
	}
	return v
}

func selectionOf(v url.Values) (Selection, error) {
	s := Selection{Cause: v.Get("cause"), By: queue.Axis(v.Get("by")), Value: v.Get("value"), IDs: v["ids"]}
	var err error
	if text := v.Get("dead"); text != "" {
		if s.Dead, err = strconv.ParseBool(text); err != nil {
			return s, requestError{fmt.Errorf("dead is true or false, not %q", text)}
		}
	}
	if text := v.Get("before"); text != "" {
		if s.Before, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return s, requestError{fmt.Errorf("before is a time like 2026-01-31T12:00:00Z, not %q", text)}
		}
	}
	if text := v.Get("older_than"); text != "" {
		if s.OlderThan, err = time.ParseDuration(text); err != nil || s.OlderThan < 0 {
			return s, requestError{fmt.Errorf("older_than is a duration like 90m, not %q", text)}
		}
	}
	return s, nil
}

func getJobs(w http.ResponseWriter, r *http.Request, l Local) error {
	s, err := selectionOf(r.URL.Query())
	if err != nil {
		return err
	}
	limit := 100
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > MaxPage {
			return requestError{fmt.Errorf("limit is a number from 1 to %d, not %q", MaxPage, text)}
		}
	}
	p, err := l.Jobs(r.Context(), r.PathValue("queue"), s, r.FormValue("after"), limit)
	if err != nil {
		return err
	}
	if may := api.WhoOf(r).Right >= api.Payloads; !may || r.FormValue("payload") == "false" {
		for i := range p.Jobs {
			p.Jobs[i].hide(!may)
		}
	}
	return answer(w, p)
}

type jobCount struct {
	Jobs int `json:"jobs"`
}

func getCount(w http.ResponseWriter, r *http.Request, l Local) error {
	s, err := selectionOf(r.URL.Query())
	if err != nil {
		return err
	}
	n, err := l.Count(r.Context(), r.PathValue("queue"), s)
	if err != nil {
		return err
	}
	return answer(w, jobCount{n})
}

func getExport(w http.ResponseWriter, r *http.Request, l Local) error {
	s, err := selectionOf(r.URL.Query())
	if err != nil {
		return err
	}
	name := r.PathValue("queue")
	if _, _, err := l.choose(r.Context(), name, s); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if _, err := l.Export(r.Context(), name, s, w, nil); err != nil {
		panic(http.ErrAbortHandler) // the status is sent: only breaking off tells
	}
	return nil
}

func postImport(w http.ResponseWriter, r *http.Request, l Local) error {
	n, err := l.Import(r.Context(), r.PathValue("queue"), r.Body, nil)
	if err != nil {
		return partlyDone{err, n}
	}
	return answer(w, jobCount{n})
}

// backupBody says where a backup goes.
type backupBody struct {
	Dir string `json:"dir"`
}

func postBackup(w http.ResponseWriter, r *http.Request, l Local) error {
	var b backupBody
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&b); err != nil || !filepath.IsAbs(b.Dir) {
		return requestError{errors.New(`the body is {"dir": "/absolute/path"}, a folder that is not there`)}
	}
	return long(w, func(progress func(done, total int64)) (map[string]int64, error) {
		return nil, l.Backup(r.Context(), b.Dir, progress)
	})
}

// decide runs an operation on a selection in the body.
func decide(w http.ResponseWriter, r *http.Request, do func(string, Selection) (int, error)) error {
	var s Selection
	if err := body(w, r, "selection", &s); err != nil {
		return err
	}
	n, err := do(r.PathValue("queue"), s)
	if err != nil {
		return partlyDone{err, n}
	}
	return answer(w, jobCount{n})
}

func body(w http.ResponseWriter, r *http.Request, what string, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSelection))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return requestError{fmt.Errorf("the body is no %s: %w", what, err)}
	}
	return nil
}

// resumed is what a pause or its end answers.
type resumed struct {
	Was bool `json:"was"` // it was paused
}

func postPause(w http.ResponseWriter, r *http.Request, l Local) error {
	var rest Rest
	if err := body(w, r, "pause", &rest); err != nil {
		return err
	}
	if err := l.Pause(r.Context(), r.PathValue("queue"), rest); err != nil {
		return err
	}
	return answer(w, resumed{})
}

func postResume(w http.ResponseWriter, r *http.Request, l Local) error {
	var rest Rest
	if err := body(w, r, "pause", &rest); err != nil {
		return err
	}
	was, err := l.Resume(r.Context(), r.PathValue("queue"), rest)
	if err != nil {
		return err
	}
	return answer(w, resumed{was})
}

// postOrder refuses what can be refused before it begins to answer.
func postOrder(w http.ResponseWriter, r *http.Request, l Local) error {
	var c Command
	if err := body(w, r, "order", &c); err != nil {
		return err
	}
	name := r.PathValue("queue")
	if _, err := l.order(r.Context(), name, c); err != nil {
		return err
	}
	return long(w, func(progress func(done, total int64)) (map[string]int64, error) {
		out, err := l.Command(r.Context(), name, c, func(jobs int) { progress(int64(jobs), 0) })
		if err != nil {
			return nil, err
		}
		figures := map[string]int64{"jobs": int64(out.Jobs)}
		if out.Left {
			figures["left"] = 1
		}
		return figures, nil
	})
}

// storeAnswer is what GET /v1/store says.
type storeAnswer struct {
	Identity string           `json:"identity"`
	Usage    map[string]int64 `json:"usage"`
}

func getStore(w http.ResponseWriter, r *http.Request, l Local) error {
	u, err := l.Usage(r.Context())
	if err != nil {
		return err
	}
	return answer(w, storeAnswer{l.Identity(), u})
}

// longAnswer is one line of an operation that takes long.
type longAnswer struct {
	Done    int64            `json:"done,omitempty"`
	Total   int64            `json:"total,omitempty"`
	Figures map[string]int64 `json:"figures,omitempty"`
	Error   string           `json:"error,omitempty"`
	Status  int              `json:"status,omitempty"` // what an answer with this error would have
	Ended   bool             `json:"ended,omitempty"`
}

// progressEvery is how often an operation that takes long says how far it is.
const progressEvery = 200 * time.Millisecond

// long runs an operation and streams its progress.
func long(w http.ResponseWriter, do func(progress func(done, total int64)) (map[string]int64, error)) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	var last time.Time
	figures, err := do(func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			_ = e.Encode(longAnswer{Done: done, Total: total}) // who asked has gone: the context ends the work
			_ = flush.Flush()
		}
	})
	end := longAnswer{Figures: figures, Ended: true}
	if err != nil {
		end = longAnswer{Error: err.Error(), Status: status(err), Ended: true}
	}
	_ = e.Encode(end)
	return nil
}
