package gateway

import (
	"net/http"
	"strconv"
	"time"
)

// Answer is what a request is answered with. Answers are shared: never change one.
type Answer struct {
	Code int
	// Type is the content type.
	Type string
	Body []byte
	// Allow names the methods of a path, for code 405.
	Allow string
	// Retry asks the client to send the request again: after so many seconds, or after those of the
	// gateway's settings for 0.
	Retry bool
	After int
	// Event is which event of the body is why a list is refused: "batch[3]", or nothing.
	Event string
	// Uncached says that nobody may keep the answer.
	Uncached bool
}

// about is a refusal of a list for its event i.
func (a *Answer) about(i int) *Answer {
	named := *a
	named.Event = "batch[" + strconv.Itoa(i) + "]"
	return &named
}

// Later is a, to be asked for again after some time.
func (a *Answer) Later(after time.Duration) *Answer {
	late := *a
	late.Retry, late.After = true, int((after+time.Second-1)/time.Second)
	return &late
}

// Headers are those of the answers that are ours.
const (
	HeaderEvent = "X-Weir-Event"
	// Uncacheable is the Cache-Control of an answer that nobody may keep.
	Uncacheable = "no-cache, no-store, max-age=0, must-revalidate"
)

// exposed lets a page read what only the answers to its requests say.
const exposed = "Retry-After, " + HeaderEvent

const (
	plainText = "text/plain; charset=utf-8"
	jsonText  = "application/json; charset=utf-8"
)

// refusal is an answer of one line of text.
func refusal(code int, text string) *Answer {
	return &Answer{Code: code, Type: plainText, Body: []byte(text + "\n")}
}

func again(code int, text string) *Answer {
	a := refusal(code, text)
	a.Retry = true
	return a
}

// The answers to requests that carry events.
var (
	OK = &Answer{Code: http.StatusOK, Type: plainText, Body: []byte("ok")}
	// Preflight is the answer to a page that asks what it may send; its headers say it.
	Preflight = &Answer{Code: http.StatusNoContent}
	// Pixel may not be kept: a browser that has it would ask for no other.
	Pixel = &Answer{Code: http.StatusOK, Type: "image/gif", Body: gif, Uncached: true}

	NilBody         = refusal(http.StatusBadRequest, "request body is nil")
	InvalidMethod   = refusal(http.StatusBadRequest, "invalid http request method")
	InvalidJSON     = refusal(http.StatusBadRequest, "invalid json")
	EmptyBatch      = refusal(http.StatusBadRequest, "empty batch payload")
	NoID            = refusal(http.StatusBadRequest, "request neither has anonymousId nor userId")
	NotAnEvent      = refusal(http.StatusBadRequest, "event is not a valid rudder event")
	NoWriteKey      = refusal(http.StatusUnauthorized, "failed to read writekey from header")
	NoQueryKey      = refusal(http.StatusUnauthorized, "failed to read writekey from query params")
	InvalidWriteKey = refusal(http.StatusUnauthorized, "invalid write key")
	SourceDisabled  = refusal(http.StatusNotFound, "source is disabled")

	NoSourceID          = refusal(http.StatusUnauthorized, "failed to read source id from header")
	InvalidSourceID     = refusal(http.StatusUnauthorized, "invalid source id")
	InvalidReplay       = refusal(http.StatusUnauthorized, "invalid replay source")
	NoDestination       = refusal(http.StatusBadRequest, "failed to read destination id from header")
	InvalidDestination  = refusal(http.StatusBadRequest, "invalid destination id")
	DestinationDisabled = refusal(http.StatusNotFound, "destination is disabled")
	BadMessage          = refusal(http.StatusBadRequest, "missing required fields stream in message")

	TooLarge = refusal(http.StatusRequestEntityTooLarge, "request size exceeds max limit")
	TooMany  = refusal(http.StatusTooManyRequests, "max requests limit reached")
	// UnreadBody is for a body that broke off or did not arrive in time.
	UnreadBody = refusal(http.StatusInternalServerError, "failed to read body from request")
	// BadEncoding is for a body that is not what its Content-Encoding says, or divided wrongly. RudderStack's
	// text, with a code that tells SDKs not to send it again.
	BadEncoding = refusal(http.StatusBadRequest, "failed to read body from request")
	// Unavailable: nothing was accepted, or not everything was kept.
	Unavailable = again(http.StatusServiceUnavailable, "service unavailable")
	// Timeout: it is not known whether the events were kept.
	Timeout  = again(http.StatusGatewayTimeout, "gateway timeout")
	NotFound = refusal(http.StatusNotFound, "404 page not found")

	NoWebhook    = refusal(http.StatusNotFound, "source does not accept webhook events")
	BadForm      = refusal(http.StatusBadRequest, "error during parsing form")
	BadMultiform = refusal(http.StatusBadRequest, "error during parsing multiform")
	// HookFailed is for a script that came to no end.
	HookFailed = refusal(http.StatusBadRequest, "internal server error in source transformer")

	// nothing is the answer to a request that means nothing.
	nothing   = &Answer{Code: http.StatusOK, Type: plainText}
	getOrPost = &Answer{Code: http.StatusMethodNotAllowed, Type: plainText, Body: InvalidMethod.Body, Allow: "GET, POST"}
	onlyPost  = &Answer{Code: http.StatusMethodNotAllowed, Type: plainText, Body: InvalidMethod.Body, Allow: "POST"}
	onlyGet   = &Answer{Code: http.StatusMethodNotAllowed, Type: plainText, Body: InvalidMethod.Body, Allow: "GET, HEAD"}
)

// gif is one transparent pixel.
var gif = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00," +
	"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

var (
	noSniff   = []string{"nosniff"}
	typePlain = []string{plainText}
)

// RetryAfter is after how many seconds the request may be sent again; 0: nothing is said of that.
func (a *Answer) RetryAfter(otherwise int) int {
	switch {
	case !a.Retry:
		return 0
	case a.After > 0:
		return a.After
	}
	return otherwise
}

// Write writes a. retryAfter, in seconds, goes with answers that ask to send again.
func (a *Answer) Write(w http.ResponseWriter, retryAfter int) {
	h := w.Header()
	if a.Type == plainText {
		h["Content-Type"] = typePlain // shared: net/http reads it only
	} else {
		h.Set("Content-Type", a.Type)
	}
	if a.Code >= 400 {
		h["X-Content-Type-Options"] = noSniff
		h.Set("Content-Length", strconv.Itoa(len(a.Body))) // it may leave before the body has come
	}
	if a.Allow != "" {
		h.Set("Allow", a.Allow)
	}
	if a.Uncached {
		h.Set("Cache-Control", Uncacheable)
		h.Set("Pragma", "no-cache")
		h.Set("Expires", "0")
	}
	if a.Event != "" {
		h.Set(HeaderEvent, a.Event)
	}
	if after := a.RetryAfter(retryAfter); after > 0 {
		h.Set("Retry-After", strconv.Itoa(after))
	}
	if (a.Event != "" || a.Retry) && h["Access-Control-Allow-Origin"] != nil {
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	if a.Code != http.StatusOK {
		w.WriteHeader(a.Code)
	}
	_, _ = w.Write(a.Body) // a client that has gone needs no answer
}
