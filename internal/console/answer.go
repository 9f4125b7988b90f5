package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/weirdata/weir/internal/api"
)

// with answers with what f comes to.
func with(f func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(w, r)
		switch {
		case errors.Is(err, errNoFailure), errors.Is(err, errNothing):
			api.Refuse(w, http.StatusNotFound, err.Error())
		case errors.Is(err, errMayNot):
			api.Refuse(w, http.StatusForbidden, err.Error())
		case isMistake(err):
			api.Refuse(w, http.StatusBadRequest, err.Error())
		case err != nil:
			api.Refuse(w, http.StatusInternalServerError, err.Error())
		default:
			api.Answer(w, v)
		}
	}
}

// errNothing is that there is nothing of a name.
var errNothing = errors.New("there is no such thing")

// limitOf is how many entries a page has.
func limitOf(r *http.Request, otherwise, most int) (int, error) {
	text := r.FormValue("limit")
	if text == "" {
		return otherwise, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, mistake{fmt.Errorf("limit is a number from 1 to %d, not %q", most, text)}
	}
	return limit, nil
}
