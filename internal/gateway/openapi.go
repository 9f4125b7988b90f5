package gateway

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// The description of the interface is made of the routes: an OpenAPI document, in JSON.

type m = map[string]any

// describe is the document of the paths that are served.
func describe(version string, internal, jobStatus bool) []byte {
	paths := m{"/v1/projects/{writeKey}/settings": m{"get": m{
		"summary": "What Segment's browser SDK starts with.", "operationId": "get_v1_projects_settings", "security": []any{},
		"parameters": []any{parameter("path", "writeKey", true, "The write key of the source.")},
		"responses":  m{"200": answers("application/json", "The settings."), "401": text("The write key is not known."), "404": text("The source is disabled.")},
	}}}
	if jobStatus {
		describeRuns(paths)
	}
	for path, to := range routes {
		if to.internal && !internal {
			continue
		}
		of := m{}
		for _, method := range to.methods() {
			of[strings.ToLower(method)] = to.operation(path, method)
		}
		paths[path] = of
	}
	return jsonAnswer(m{
		"openapi": "3.0.3",
		"info":    m{"title": "Event gateway", "version": version, "description": "The event API that SDKs of RudderStack and Segment speak."},
		"paths":   paths,
		"components": m{"securitySchemes": m{
			"writeKey":      m{"type": "http", "scheme": "basic", "description": "The write key of a source as the user name, and no password."},
			"writeKeyQuery": m{"type": "apiKey", "in": "query", "name": "writeKey"},
			"sourceId":      m{"type": "apiKey", "in": "header", "name": headerSource},
		}},
	}).Body
}

func (to *route) methods() []string {
	switch to.kind {
	case document, pixel:
		return []string{http.MethodGet}
	case webhook:
		return []string{http.MethodGet, http.MethodPost}
	}
	return []string{http.MethodPost}
}

// operation describes one method of a path.
func (to *route) operation(path, method string) m {
	name := strings.Trim(strings.NewReplacer("/", "_", ".", "_").Replace(path), "_")
	op := m{
		"summary": to.about, "operationId": strings.ToLower(method) + "_" + strings.Trim(name, "_"), "security": to.security(),
		"responses": to.answers(), "tags": []string{to.tag()},
	}
	var parameters []any
	if to.destined {
		parameters = append(parameters, parameter("header", headerDestination, false, "The destination of the source that the events are for."))
	}
	switch to.kind {
	case document:
	case stream:
		parameters = append(parameters, parameter("header", "X-Batch-Size", false, "How many messages the body has."))
	default:
		parameters = append(parameters,
			parameter("header", headerJobRun, false, "The run of a reverse-ETL job that sends the events."),
			parameter("header", headerTaskRun, false, "The task of that run."))
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if body := to.body(); body != nil && method == http.MethodPost {
		op["requestBody"] = m{"required": to.kind != webhook, "content": m{"application/json": m{"schema": body}},
			"description": "The content type does not matter; Content-Encoding may be gzip, zstd or deflate."}
	}
	return op
}

func (to *route) tag() string {
	switch {
	case to.internal:
		return "internal"
	case to.kind == document:
		return "documents"
	case to.segment:
		return "Segment"
	}
	return "events"
}

// body is the schema of what is sent; nil where that is nothing.
func (to *route) body() m {
	event := m{"type": "object", "description": "An event, with a userId or an anonymousId.", "properties": m{
		"userId": m{}, "anonymousId": m{}, "type": m{"type": "string"}, "messageId": m{"type": "string"}, "event": m{"type": "string"},
		"originalTimestamp": m{"type": "string"}, "sentAt": m{"type": "string"}, "timestamp": m{"type": "string"}, "receivedAt": m{"type": "string"},
		"properties": m{"type": "object"}, "traits": m{"type": "object"}, "context": m{"type": "object"}, "integrations": m{"type": "object"},
	}}
	switch to.kind {
	case single:
		return event
	case batch, imported:
		return m{"type": "object", "required": []string{"batch"}, "properties": m{"batch": m{"type": "array", "minItems": 1, "items": event}}}
	case stream:
		properties := m{}
		for _, name := range required {
			properties[name] = m{"type": "string"}
		}
		return m{"type": "array", "minItems": 1, "items": m{"type": "object", "required": []string{"properties", "payload"}, "properties": m{
			"properties": m{"type": "object", "required": required[:], "properties": properties}, "payload": event}}}
	case webhook:
		return m{}
	}
	return nil
}

func (to *route) security() []any {
	switch to.access {
	case byBasic:
		return []any{m{"writeKey": []any{}}}
	case byQueryed:
		return []any{m{"writeKeyQuery": []any{}}}
	case byEither:
		return []any{m{"writeKeyQuery": []any{}}, m{"writeKey": []any{}}}
	case bySource:
		return []any{m{"sourceId": []any{}}}
	}
	return []any{}
}

func (to *route) answers() m {
	switch to.kind {
	case pixel:
		return m{"200": answers("image/gif", "A picture, in any case.")}
	case document:
		all := m{"200": answers("application/json", "The document.")}
		if to.access != byNobody {
			all["401"] = text("There is no write key, or none that is known.")
		}
		return all
	}
	all := m{
		"200": text("ok: every event is kept."), "400": text("The body or an event in it is refused; " + HeaderEvent + " names the event of a list."),
		"413": text("The body is too large, or has too many events."), "429": text("The workspace has sent too much; Retry-After says when there is room again."),
		"503": text("Nothing is taken just now, or not everything was kept: send it again."), "504": text("It is not known whether the events are kept: send them again."),
	}
	if to.access != byNobody {
		all["401"], all["404"] = text("It is not known whose events they are."), text("The source, or the destination, is disabled.")
	}
	return all
}

func parameter(in, name string, required bool, about string) m {
	return m{"in": in, "name": name, "required": required, "description": about, "schema": m{"type": "string"}}
}

func answers(kind, about string) m {
	return m{"description": about, "content": m{kind: m{}}}
}

func text(about string) m { return answers("text/plain", about) }

func (g *Gateway) docs(*http.Request, time.Time) *Answer {
	return &Answer{Code: http.StatusOK, Type: jsonText, Body: slices.Clip(g.description)}
}
