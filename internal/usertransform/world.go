package usertransform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/script"
)

const (
	// fetchTimeout bounds a request of code, to the end of the answer.
	fetchTimeout = 60 * time.Second
	// maxAnswer bounds the bytes of an answer that code gets.
	maxAnswer = 10 << 20
)

// helpers are the functions that code finds.
var helpers = map[string]script.Helper{
	"weirMetadata":  metadata,
	"metadata":      metadata,
	"log":           logged,
	"fetch":         fetch,
	"fetchV2":       fetchV2,
	"geolocation":   geolocation,
	"getCredential": getCredential,
}

func current(vm *script.VM) *call {
	c, _ := vm.Held().(*call)
	if c == nil {
		vm.Throw("this can be called for an event only, not while the code is loaded")
	}
	return c
}

// metadata is what is known of the event that has the messageId of the argument.
func metadata(vm *script.VM, x goja.FunctionCall) goja.Value {
	c := current(vm)
	of := vm.JS().NewObject()
	set := func(name, value string) {
		if value != "" {
			_ = of.Set(name, value)
		}
	}
	given, ok := x.Argument(0).(*goja.Object)
	if !ok {
		return of
	}
	id := given.Get("messageId")
	if id == nil || goja.IsUndefined(id) || goja.IsNull(id) {
		return of
	}
	i := c.find(id.String())
	if i < 0 {
		return of
	}
	m, s, d := c.events[i], c.source, c.connection.Destination
	set("sourceId", s.ID)
	set("originalSourceId", s.ID)
	set("sourceName", s.Name)
	set("sourceType", s.Definition)
	set("sourceCategory", s.Category)
	set("workspaceId", s.Workspace)
	set("destinationId", d.ID)
	set("destinationName", d.Name)
	set("destinationType", d.Type)
	set("transformationId", d.Transformation().ID)
	set("transformationVersionId", d.Transformation().Version)
	set("messageId", id.String())
	if !m.Times.Created.IsZero() {
		set("receivedAt", m.Times.Created.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	scan := jsontext.Scan(m.Data)
	members, _ := scan.Object(nil)
	for _, x := range members {
		v := x.Of(m.Data)
		if v[0] != '"' {
			continue
		}
		switch string(x.Name(m.Data)) {
		case "type":
			set("eventType", string(jsontext.Unquoted(v)))
		case "event":
			set("eventName", string(jsontext.Unquoted(v)))
		case "rudderId", "recordId", "receivedAt":
			set(string(x.Name(m.Data)), string(jsontext.Unquoted(v)))
		}
	}
	if run := m.Meta.Descriptor; run != nil {
		set("sourceJobRunId", run.JobRun)
		set("sourceTaskRunId", run.TaskRun)
	}
	return of
}

// logged is what code tells its author, at the level of the log that shows everything.
func logged(vm *script.VM, x goja.FunctionCall) goja.Value {
	c := current(vm)
	if !c.engine.log.Enabled(c.ctx, -4) {
		return goja.Undefined()
	}
	words := make([]string, len(x.Arguments))
	for i, a := range x.Arguments {
		words[i] = a.String()
		if _, ok := a.(*goja.Object); ok {
			if text, ok := vm.Stringify(nil, a); ok {
				words[i] = string(text)
			}
		}
	}
	text := "Log: " + strings.Join(words, " ")
	c.engine.log.Debug("a user transformation says", "text", text[:min(len(text), 4096)], "transformation", c.connection.Destination.Transformation().ID)
	return goja.Undefined()
}

// answer is what came of a request.
type answer struct {
	url     string
	status  int
	headers http.Header
	body    []byte
}

// request starts what fetch and fetchV2 ask for.
func request(vm *script.VM, x goja.FunctionCall) func() (*answer, error) {
	c := current(vm)
	target := x.Argument(0).String()
	method, headers, body := http.MethodGet, http.Header{}, ""
	if o, ok := x.Argument(1).(*goja.Object); ok {
		if v := o.Get("method"); v != nil && !goja.IsUndefined(v) {
			method = strings.ToUpper(v.String())
		}
		if v, ok := o.Get("headers").(*goja.Object); ok {
			for _, name := range v.Keys() {
				headers.Set(name, v.Get(name).String())
			}
		}
		if v := o.Get("body"); v != nil && !goja.IsUndefined(v) && !goja.IsNull(v) {
			body = v.String()
		}
	}
	ctx := c.ctx
	return func() (*answer, error) {
		u, err := url.Parse(target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%q is not a whole http or https URL", target)
		}
		req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header = headers
		return c.engine.send(ctx, req)
	}
}

func (e *Engine) send(ctx context.Context, req *http.Request) (*answer, error) {
	resp, err := e.fetcher.Do(req, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	httpclient.Drain(resp)
	return &answer{resp.Request.URL.String(), resp.StatusCode, resp.Header, text}, nil
}

// fetch is a promise of the JSON that a request is answered with, and of "ERROR" in its place.
func fetch(vm *script.VM, x goja.FunctionCall) goja.Value {
	send := request(vm, x)
	return vm.Later(func() func() (goja.Value, error) {
		a, err := send()
		return func() (goja.Value, error) {
			if err == nil && json.Valid(a.body) {
				if v, err := vm.Parse(string(a.body)); err == nil {
					return v, nil
				}
			}
			return vm.JS().ToValue("ERROR"), nil
		}
	})
}

// fetchV2 is a promise of an answer; it is rejected where there is none.
func fetchV2(vm *script.VM, x goja.FunctionCall) goja.Value {
	send := request(vm, x)
	return vm.Later(func() func() (goja.Value, error) {
		a, err := send()
		return func() (goja.Value, error) {
			js := vm.JS()
			if err != nil {
				return nil, rejection(vm, "FetchError", err.Error())
			}
			headers := map[string]any{}
			for name, values := range a.headers {
				headers[strings.ToLower(name)] = strings.Join(values, ", ")
			}
			of := js.NewObject()
			_ = of.Set("url", a.url)
			_ = of.Set("status", a.status)
			_ = of.Set("headers", js.ToValue(headers))
			body := js.ToValue(string(a.body))
			if trimmed := bytes.TrimSpace(a.body); len(trimmed) > 0 && json.Valid(trimmed) {
				if v, err := vm.Parse(string(trimmed)); err == nil {
					body = v
				}
			}
			_ = of.Set("body", body)
			return of, nil
		}
	})
}

// rejection is an Error that a promise is rejected with.
func rejection(vm *script.VM, name, message string) error {
	js := vm.JS()
	e, err := js.New(js.Get("Error"), js.ToValue(message))
	if err != nil {
		return err
	}
	_ = e.Set("name", name)
	return &script.Rejection{Value: e}
}

// geolocation is a promise of where an address is.
func geolocation(vm *script.VM, x goja.FunctionCall) goja.Value {
	c := current(vm)
	arg := x.Argument(0)
	given := !goja.IsUndefined(arg) && !goja.IsNull(arg) && arg.String() != ""
	text := arg.String()
	return vm.Later(func() func() (goja.Value, error) {
		ip, wrong := netip.ParseAddr(strings.TrimSpace(text))
		var found []byte
		var err error
		if given && wrong == nil && c.engine.places != nil {
			found, err = c.engine.places.find(ip)
		}
		return func() (goja.Value, error) {
			switch {
			case !given:
				return nil, rejection(vm, "Error", "ip address is required")
			case wrong != nil:
				return nil, rejection(vm, "Error", "invalid ip address")
			case c.engine.places == nil || err != nil:
				return nil, rejection(vm, "Error", "geolocation is not available right now")
			}
			return vm.Parse(string(found))
		}
	})
}

// getCredential is a credential of the workspace by its key.
func getCredential(vm *script.VM, x goja.FunctionCall) goja.Value {
	c := current(vm)
	key := x.Argument(0)
	if goja.IsUndefined(key) || goja.IsNull(key) {
		vm.Throw("Key should be valid and defined")
	}
	for _, k := range c.may.Credentials {
		if k.Key == key.String() {
			return vm.JS().ToValue(k.Value)
		}
	}
	return goja.Undefined()
}
