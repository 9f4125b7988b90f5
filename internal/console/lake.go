package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/api"
)

// Lakes are the datasets that what runs lands events in.
type Lakes interface {
	// Datasets looks at each. What keeps it from one is told in that; the error is that nothing runs yet.
	Datasets(ctx context.Context) ([]Dataset, error)
	// Query asks the dataset with an id; the limits are in ctx and in how much it gives. An error is
	// the asker's where [ErrQuery] is in it.
	Query(ctx context.Context, id, sql string) (*LakeAnswer, error)
}

// ErrQuery is that a query, or the dataset that it names, cannot be.
var ErrQuery = errors.New("this cannot be asked")

// Dataset is what a target has landed so far.
type Dataset struct {
	// ID is what a query names it by, Table what the SQL of one does.
	ID        string `json:"id"`
	Table     string `json:"table"`
	Path      string `json:"path"`
	Pipeline  string `json:"pipeline"`
	Component string `json:"component"`
	// Absent says that nothing has landed yet, and Error why it cannot be looked at.
	Absent bool   `json:"absent,omitempty"`
	Error  string `json:"error,omitempty"`
	// Committed is when the newest file was written, and First and Last are the times of events.
	Committed  time.Time    `json:"committed,omitzero"`
	First      time.Time    `json:"first,omitzero"`
	Last       time.Time    `json:"last,omitzero"`
	Files      int          `json:"files"`
	Rows       int64        `json:"rows"`
	Bytes      int64        `json:"bytes"`
	Partitions int          `json:"partitions"`
	Schema     int          `json:"schema_version"`
	Columns    []LakeColumn `json:"columns"`
}

// LakeColumn is a column as SQL names it.
type LakeColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// LakeDatasets are all of them.
type LakeDatasets struct {
	Datasets []Dataset `json:"datasets"`
}

// LakeQuestion is a query about one dataset.
type LakeQuestion struct {
	Dataset string `json:"dataset"`
	Query   string `json:"query"`
}

// LakeAnswer is the first rows of its answer, as texts; null is null.
type LakeAnswer struct {
	Columns []string    `json:"columns"`
	Rows    [][]*string `json:"rows"`
	// More says that there are more rows, and Cut that a value is longer.
	More    bool    `json:"more,omitempty"`
	Cut     bool    `json:"cut,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Limits of what one asks of lakes.
const (
	mostAsked    = 2 // at once
	lakePatience = 20 * time.Second
	longestQuery = 64 << 10
)

func (c *Console) lakes() []api.Route {
	return []api.Route{
		{Method: "GET", Path: "/v1/lake/datasets", Right: api.See, Summary: "The datasets that what runs lands events in: how fresh and large they are, and their columns", Answer: LakeDatasets{}, Do: c.datasets},
		{Method: "POST", Path: "/v1/lake/query", Right: api.Payloads, Summary: "Ask a dataset in SQL, for 20 seconds and 1000 rows at most", Body: LakeQuestion{}, Answer: LakeAnswer{}, Do: c.query},
	}
}

// admitted lets few look at lakes at once, each for a time; where it is false, it has been told.
func (c *Console) admitted(w http.ResponseWriter, r *http.Request) (ctx context.Context, end func(), ok bool) {
	select {
	case c.asks <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "2")
		api.Refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d others look at the lakes: ask again in a moment", mostAsked))
		return nil, nil, false
	}
	ctx, done := context.WithTimeoutCause(r.Context(), lakePatience, fmt.Errorf("it took longer than %s: narrow it by year, month, day or hour, or ask with weir lake sql, which has a --timeout", lakePatience))
	return ctx, func() { done(); <-c.asks }, true
}

func (c *Console) datasets(w http.ResponseWriter, r *http.Request) {
	ctx, end, ok := c.admitted(w, r)
	if !ok {
		return
	}
	defer end()
	all, err := c.o.Lakes.Datasets(ctx)
	if err != nil {
		api.Refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	api.Answer(w, LakeDatasets{all})
}

func (c *Console) query(w http.ResponseWriter, r *http.Request) {
	var q LakeQuestion
	err := read(w, r, &q)
	if err == nil && len(q.Query) > longestQuery {
		err = fmt.Errorf("the query is longer than %d bytes", longestQuery)
	}
	if err != nil {
		api.Refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, end, ok := c.admitted(w, r)
	if !ok {
		return
	}
	defer end()
	c.o.Log.Info("somebody asks a lake", "dataset", q.Dataset, "by", api.WhoOf(r).String())
	began := time.Now()
	a, err := c.o.Lakes.Query(ctx, q.Dataset, q.Query)
	switch {
	case errors.Is(err, ErrQuery):
		api.Refuse(w, http.StatusBadRequest, err.Error())
	case err != nil && ctx.Err() != nil:
		api.Refuse(w, http.StatusServiceUnavailable, context.Cause(ctx).Error())
	case err != nil:
		api.Refuse(w, http.StatusInternalServerError, err.Error())
	default:
		a.Seconds = time.Since(began).Seconds()
		api.Answer(w, a)
	}
}
