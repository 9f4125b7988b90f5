package iceberg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// Requests are those of a catalog that speaks the REST protocol of Iceberg.
type Requests interface {
	// Do makes a request at a path below that of the catalog, with a query or none, and a body of
	// JSON or none. An error is one of not getting an answer; what was asked may have happened.
	Do(ctx context.Context, method, path string, query url.Values, body []byte) (status int, answer []byte, err error)
	Close() error
}

// REST is a catalog that keeps the metadata itself, and changes it as it is told: what is asked
// of a version is refused where the branch main is at another snapshot by now. warehouse is which
// of the server's; empty is its only one.
func REST(r Requests, warehouse string) Catalog { return &rest{requests: r, warehouse: warehouse} }

type rest struct {
	requests  Requests
	warehouse string
	base      string // of paths; empty until the server was asked for it
}

// Close implements Catalog.
func (c *rest) Close() error { return c.requests.Close() }

// levels separates those of a namespace in a path.
const levels = "\x1f"

// path is where a table of a namespace is, or its list.
func (c *rest) path(ctx context.Context, parts ...string) (string, error) {
	if c.base == "" {
		query := url.Values{}
		if c.warehouse != "" {
			query.Set("warehouse", c.warehouse)
		}
		status, text, err := c.requests.Do(ctx, http.MethodGet, "v1/config", query, nil)
		if err == nil && status != http.StatusOK {
			err = refused(status, text)
		}
		var said struct {
			Defaults  map[string]string `json:"defaults"`
			Overrides map[string]string `json:"overrides"`
		}
		if err == nil {
			err = json.Unmarshal(text, &said)
		}
		if err != nil {
			return "", fmt.Errorf("ask the catalog for its configuration: %w", err)
		}
		all := said.Defaults
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, said.Overrides)
		c.base = "v1/"
		if p := all["prefix"]; p != "" {
			// A prefix has several parts at some catalogs; each is escaped by itself.
			c.base += strings.ReplaceAll(url.PathEscape(p), "%2F", "/") + "/"
		}
	}
	var path strings.Builder
	path.WriteString(c.base + "namespaces")
	for _, p := range parts {
		path.WriteString("/" + url.PathEscape(p))
	}
	return path.String(), nil
}

// ask makes a request, and reads what is answered to it.
func (c *rest) ask(ctx context.Context, method string, body, answer any, parts ...string) error {
	path, err := c.path(ctx, parts...)
	if err != nil {
		return err
	}
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write a request to the catalog: %w", err)
		}
	}
	status, text, err := c.requests.Do(ctx, method, path, nil, text)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return refused(status, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the answer of the catalog: %w", err)
	}
	return nil
}

// refusal is an answer that says no.
type refusal struct {
	status        int
	kind, message string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the catalog answers %d %s: %s", r.status, r.kind, r.message)
}

// refused is what an answer means that says no.
func refused(status int, text []byte) error {
	const longest = 500
	var said struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
		} `json:"error"`
	}
	r := &refusal{status: status}
	if json.Unmarshal(text, &said) == nil && said.Error.Type != "" {
		r.kind, r.message = said.Error.Type, said.Error.Message
	} else {
		r.kind, r.message = http.StatusText(status), string(text)
	}
	r.message, _, _ = strings.Cut(r.message, "\n")
	if len(r.message) > longest {
		r.message = strings.ToValidUTF8(r.message[:longest], "")
	}
	kind := fault.Setup
	switch {
	case status == http.StatusTooManyRequests:
		kind = fault.Throttled
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout, status == http.StatusConflict, status == 419:
		kind = fault.Transient
	}
	return fault.New(kind, r)
}

// is reports whether the catalog said no with the status.
func is(err error, status int) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.status == status
}

// loaded is the answer that has a table.
type loaded struct {
	Location string          `json:"metadata-location"`
	Metadata json.RawMessage `json:"metadata"`
}

func namespace(n Name) string { return strings.Join(n[:len(n)-1], levels) }

func (c *rest) load(ctx context.Context, n Name, _ *files) (*metadata, error) {
	var got loaded
	err := c.ask(ctx, http.MethodGet, nil, &got, namespace(n), "tables", n.Table())
	if is(err, http.StatusNotFound) {
		if r, _ := errors.AsType[*refusal](err); strings.HasPrefix(r.kind, "NoSuch") {
			return nil, ErrNoTable
		}
	}
	if err != nil {
		return nil, err
	}
	m, err := parseMetadata(got.Metadata)
	if err != nil {
		return nil, fmt.Errorf("read the metadata that the catalog answers: %w", err)
	}
	return m, nil
}

func (c *rest) create(ctx context.Context, n Name, _ *files, d definition) error {
	properties := maps.Clone(d.properties)
	delete(properties, nameMapping) // has ids, and the catalog gives others
	properties["format-version"] = "2"
	body := map[string]any{"name": n.Table(), "location": d.location, "schema": d.schema, "partition-spec": d.spec, "properties": properties}
	for made := false; ; made = true {
		err := c.ask(ctx, http.MethodPost, body, nil, namespace(n), "tables")
		switch {
		case err == nil:
			return nil
		case is(err, http.StatusConflict):
			return ErrConflict
		case !is(err, http.StatusNotFound) || made:
			return err
		}
		err = c.ask(ctx, http.MethodPost, map[string]any{"namespace": n[:len(n)-1], "properties": map[string]string{}}, nil)
		if err != nil && !is(err, http.StatusConflict) {
			return fmt.Errorf("create the namespace %s: %w", n.Namespace(), err)
		}
	}
}

func (c *rest) commit(ctx context.Context, n Name, _ *files, seen *metadata, ch change) error {
	requirements, updates, err := wired(seen, ch, time.Now())
	if err != nil {
		return err
	}
	body := map[string]any{
		"identifier": map[string]any{"namespace": n[:len(n)-1], "name": n.Table()}, "requirements": requirements, "updates": updates,
	}
	err = c.ask(ctx, http.MethodPost, body, nil, namespace(n), "tables", n.Table())
	if is(err, http.StatusConflict) {
		return ErrConflict
	}
	return err
}

// wired is a change as the protocol has it: what has to be so, and what is to become of it.
func wired(seen *metadata, c change, now time.Time) (requirements, updates []map[string]any, err error) {
	requirements = []map[string]any{
		{"type": "assert-table-uuid", "uuid": seen.uuid},
		{"type": "assert-current-schema-id", "current-schema-id": seen.schemaID},
		{"type": "assert-default-spec-id", "default-spec-id": seen.specID},
	}
	main := map[string]any{"type": "assert-ref-snapshot-id", "ref": mainBranch, "snapshot-id": nil}
	if r, ok := seen.refs[mainBranch]; ok {
		main["snapshot-id"] = r.ID
	}
	requirements = append(requirements, main)
	if c.schema != nil {
		requirements = append(requirements, map[string]any{"type": "assert-last-assigned-field-id", "last-assigned-field-id": seen.lastColumn})
		updates = append(updates,
			map[string]any{"action": "add-schema", "schema": c.schema, "last-column-id": c.lastColumn},
			map[string]any{"action": "set-current-schema", "schema-id": -1})
	}
	if s := c.snapshot; s != nil {
		s.At = max(seen.updated+1, now.UnixMilli())
		branch, err := seen.refs[mainBranch].moved(s.ID)
		if err != nil {
			return nil, nil, err
		}
		ref := map[string]any{}
		if err := json.Unmarshal(branch.text, &ref); err != nil {
			return nil, nil, err
		}
		ref["action"], ref["ref-name"], ref["snapshot-id"] = "set-snapshot-ref", mainBranch, s.ID
		updates = append(updates, map[string]any{"action": "add-snapshot", "snapshot": s}, ref)
	}
	if len(c.properties) > 0 {
		updates = append(updates, map[string]any{"action": "set-properties", "updates": c.properties})
	}
	if len(c.expire) > 0 {
		updates = append(updates, map[string]any{"action": "remove-snapshots", "snapshot-ids": c.expire})
	}
	return requirements, updates, nil
}
