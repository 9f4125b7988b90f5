// Package restserver lets engines read the tables of a catalog by the REST protocol of Iceberg,
// whatever the catalog itself is:
//
//	GET  /v1/config                             what the server can, and properties for clients
//	GET  /v1/namespaces                         ?parent=A%1FB lists those below A.B
//	GET  /v1/namespaces/{namespace}             HEAD too; A%1FB is the namespace A.B
//	GET  /v1/namespaces/{namespace}/tables
//	GET  /v1/namespaces/{namespace}/tables/{table}   HEAD too; ?snapshots=refs leaves out the others
//	POST /v1/namespaces/{namespace}/tables/{table}/metrics   is taken, and thrown away
//
// Nothing can be changed: other calls of the protocol are answered with 406, and an error of the
// protocol's form. A client reads the files of a table itself, from where the metadata says they
// are, so it must reach them.
//
// A table is as new as the catalog's answer to the request; the metadata itself never changes at
// its address, which is its ETag.
package restserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
)

// Catalog is what is served.
type Catalog interface {
	// Get is where the metadata of a table is; iceberg.ErrNoTable when there is none.
	Get(ctx context.Context, n iceberg.Name) (iceberg.Ref, error)
	// Tables are all tables of a namespace, by their own names; known is false when there is no
	// such namespace.
	Tables(ctx context.Context, namespace []string) (names []string, known bool, err error)
	// Namespaces are all namespaces.
	Namespaces(ctx context.Context) ([][]string, error)
}

// Server serves a catalog.
type Server struct {
	Catalog Catalog
	// Read reads the metadata at an address.
	Read func(ctx context.Context, address string) ([]byte, error)
	// Properties are what clients take for their own where they say nothing else, such as
	// "s3.endpoint".
	Properties map[string]string
	// Token is what requests must have, as Authorization: Bearer; empty is nothing.
	Token string
	Log   *slog.Logger

	mu   sync.Mutex
	kept map[string][]byte // metadata by its address
}

// Limits of what is kept in memory.
const (
	mostKept  = 64
	mostBytes = 1 << 20 // of one that is kept
)

// levels separates those of a namespace in a path.
const levels = "\x1f"

const table = "/v1/namespaces/{namespace}/tables/{table}"

// endpoints are what the server says that it can, with the prefix that the protocol's names of them
// have, and which there is none of.
var endpoints = []string{
	"GET /v1/{prefix}/namespaces", "GET /v1/{prefix}/namespaces/{namespace}", "HEAD /v1/{prefix}/namespaces/{namespace}",
	"GET /v1/{prefix}/namespaces/{namespace}/tables", "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
	"HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
}

// Handler is the protocol. Config may be asked with a warehouse, of which there is one.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config", s.config)
	mux.HandleFunc("GET /v1/namespaces", s.namespaces)
	mux.HandleFunc("GET /v1/namespaces/{namespace}", s.namespace)
	mux.HandleFunc("GET /v1/namespaces/{namespace}/tables", s.tables)
	mux.HandleFunc("GET "+table, s.table)
	mux.HandleFunc("POST "+table+"/metrics", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			refuse(w, http.StatusNotFound, "NotFoundException", fmt.Sprintf("there is nothing at %.200q", r.URL.Path))
			return
		}
		refuse(w, http.StatusNotAcceptable, "UnsupportedOperationException", "this catalog can be read only: what lands in it a pipeline of weir decides")
	})
	return s.guarded(mux)
}

// guarded lets in who has the token.
func (s *Server) guarded(next http.Handler) http.Handler {
	if s.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(s.Token)) // of one length, which tells nothing
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, said, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(said)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "NotAuthorizedException", "the token of the server is missing or wrong")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	properties := s.Properties
	if properties == nil {
		properties = map[string]string{}
	}
	answer(w, map[string]any{"defaults": properties, "overrides": map[string]string{}, "endpoints": endpoints})
}

// split are the levels of a namespace.
func split(text string) []string { return strings.Split(text, levels) }

func (s *Server) namespaces(w http.ResponseWriter, r *http.Request) {
	all, err := s.Catalog.Namespaces(r.Context())
	if err != nil {
		s.failed(w, err)
		return
	}
	var parent []string
	if text := r.URL.Query().Get("parent"); text != "" {
		if parent = split(text); !exists(all, parent) {
			noNamespace(w, parent)
			return
		}
	}
	out := [][]string{}
	for _, n := range all {
		if len(n) > len(parent) && slices.Equal(n[:len(parent)], parent) {
			if n = n[:len(parent)+1]; !slices.ContainsFunc(out, func(o []string) bool { return slices.Equal(o, n) }) {
				out = append(out, n)
			}
		}
	}
	answer(w, map[string]any{"namespaces": out})
}

// exists reports whether there is the namespace, or one below it.
func exists(all [][]string, namespace []string) bool {
	return slices.ContainsFunc(all, func(n []string) bool {
		return len(n) >= len(namespace) && slices.Equal(n[:len(namespace)], namespace)
	})
}

func (s *Server) namespace(w http.ResponseWriter, r *http.Request) {
	n := split(r.PathValue("namespace"))
	all, err := s.Catalog.Namespaces(r.Context())
	switch {
	case err != nil:
		s.failed(w, err)
	case !exists(all, n):
		noNamespace(w, n)
	default:
		answer(w, map[string]any{"namespace": n, "properties": map[string]string{}})
	}
}

// identifier is a table in a list.
type identifier struct {
	Namespace []string `json:"namespace"`
	Name      string   `json:"name"`
}

func (s *Server) tables(w http.ResponseWriter, r *http.Request) {
	n := split(r.PathValue("namespace"))
	names, known, err := s.Catalog.Tables(r.Context(), n)
	if err == nil && !known { // it may be there for those below it
		var all [][]string
		all, err = s.Catalog.Namespaces(r.Context())
		known = exists(all, n)
	}
	if err != nil {
		s.failed(w, err)
		return
	}
	if !known {
		noNamespace(w, n)
		return
	}
	out := make([]identifier, len(names))
	for i, name := range names {
		out[i] = identifier{n, name}
	}
	answer(w, map[string]any{"identifiers": out})
}

func (s *Server) table(w http.ResponseWriter, r *http.Request) {
	n := append(iceberg.Name(split(r.PathValue("namespace"))), r.PathValue("table"))
	at, err := s.Catalog.Get(r.Context(), n)
	if errors.Is(err, iceberg.ErrNoTable) {
		refuse(w, http.StatusNotFound, "NoSuchTableException", "Table does not exist: "+n.String())
		return
	}
	if err != nil {
		s.failed(w, err)
		return
	}
	refs := r.URL.Query().Get("snapshots") == "refs"
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %v", at.Location, refs))
	tag := fmt.Sprintf(`"%x"`, sum[:16])
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	text, err := s.read(r.Context(), at.Location)
	if err == nil && refs {
		text, err = referred(text)
	}
	if err != nil {
		w.Header().Del("ETag")
		s.failed(w, fmt.Errorf("read the metadata of the table %s: %w", n, err))
		return
	}
	answer(w, map[string]any{"metadata-location": at.Location, "metadata": json.RawMessage(text), "config": map[string]string{}})
}

// read reads metadata, of which some is kept.
func (s *Server) read(ctx context.Context, address string) ([]byte, error) {
	s.mu.Lock()
	text := s.kept[address]
	s.mu.Unlock()
	if text != nil {
		return text, nil
	}
	text, err := s.Read(ctx, address)
	if err != nil {
		return nil, err
	}
	if text = bytes.TrimSpace(text); !json.Valid(text) || text[0] != '{' {
		return nil, fmt.Errorf("%s is not the metadata of a table", address)
	}
	if len(text) <= mostBytes {
		s.mu.Lock()
		if len(s.kept) >= mostKept || s.kept == nil {
			s.kept = map[string][]byte{}
		}
		s.kept[address] = text
		s.mu.Unlock()
	}
	return text, nil
}

// referred is metadata with the snapshots that a branch or a tag names, and no others.
func referred(text []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	var snapshots []json.RawMessage
	var refs map[string]struct {
		ID int64 `json:"snapshot-id"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for name, to := range map[string]any{"snapshots": &snapshots, "refs": &refs} {
		if raw, ok := all[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	kept := []json.RawMessage{}
	for _, raw := range snapshots {
		var of struct {
			ID int64 `json:"snapshot-id"`
		}
		if err := json.Unmarshal(raw, &of); err != nil {
			return nil, fmt.Errorf("snapshots: %w", err)
		}
		for _, ref := range refs {
			if ref.ID == of.ID {
				kept = append(kept, raw)
				break
			}
		}
	}
	some, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	all["snapshots"] = some
	return json.Marshal(all)
}

// failed answers what is no mistake of the client. The reason is for the log: it may name
// what a client is not to know.
func (s *Server) failed(w http.ResponseWriter, err error) {
	if s.Log != nil {
		s.Log.Error("a request for a table failed", meter.KeyError, secret.Text(err.Error()))
	}
	refuse(w, http.StatusInternalServerError, "InternalServerError", "the catalog or the metadata of the table cannot be read; the log of the server says why")
}

func noNamespace(w http.ResponseWriter, n []string) {
	refuse(w, http.StatusNotFound, "NoSuchNamespaceException", "Namespace does not exist: "+strings.Join(n, "."))
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	write(w, map[string]any{"error": map[string]any{"message": message, "type": kind, "code": status}})
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	write(w, what)
}

func write(w http.ResponseWriter, what any) {
	//nolint:errchkjson // all that is answered has a form in JSON, and a client that has gone needs none
	_ = json.NewEncoder(w).Encode(what)
}
