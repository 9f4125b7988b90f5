// Package gcs is a bucket of Google Cloud Storage, by its JSON API.
//
// # Requests
//
//	Create    an upload in one request, ifGenerationMatch=0           412: there is one
//	Replace   the same, with the generation that was seen             412: another one, or none
//	Writer    a resumable upload with ifGenerationMatch=0
//
// The version is the generation. The mark of a write (package remote) is the metadata
// "weir-write". A resumable upload has no name that could be listed; it ends by itself after a
// week, so Sweep has nothing to do.
//
// # Resumable uploads
//
// Parts are sent in order, each a multiple of 256 KiB but the last, which completes the object.
// When an answer is lost, the service is asked how far it is: what it has is not sent again.
package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/httpclient"
)

const (
	// markName is the metadata that has the mark of a write.
	markName    = "weir-write"
	ownAddress  = "https://storage.googleapis.com"
	scope       = "https://www.googleapis.com/auth/devstorage.read_write"
	requestTime = 2 * time.Minute
	partBytes   = 8 << 20 // a multiple of 256 KiB
	mostParts   = 1 << 19 // of an object of 4 TiB
	deleters    = 16
	fields      = "name,size,updated,generation,metadata"
)

// store is a bucket of Cloud Storage.
type store struct {
	client     *httpclient.Client
	tokens     oauth2.TokenSource // nil where there are no credentials
	base       string
	bucket     string
	access     Access
	properties remote.Properties
}

// Open is the bucket of a name, with a prefix. The service is not asked for anything. path finds
// the file of credentials from where the config is.
func Open(ctx context.Context, bucket, prefix string, access Access, p remote.Properties, path func(string) string) (*remote.Bucket, error) {
	a := access.reach(path)
	base, plain, err := a.Web(ownAddress)
	if err != nil {
		return nil, err
	}
	s := &store{base: base, bucket: bucket, access: access, properties: p}
	s.client = httpclient.New(httpclient.Options{Timeout: requestTime, IdlePerHost: 64, Verbatim: true, NoRedirects: true})
	if !plain {
		if s.tokens, err = a.Tokens(context.WithoutCancel(ctx), scope); err != nil {
			return nil, err
		}
	}
	name := "gs://" + bucket
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		name += "/" + prefix
	}
	return remote.New(s, remote.Options{Name: name, Prefix: prefix, Part: partBytes, MostParts: mostParts, Check: checkName}), nil
}

// checkName refuses what the service does.
func checkName(name string) error {
	if strings.HasPrefix(name, ".well-known/acme-challenge/") {
		return fmt.Errorf("%q is %w: Cloud Storage has no such objects", name, blob.ErrName)
	}
	return nil
}

// object is what the service says of an object.
type object struct {
	Name       string            `json:"name"`
	Size       string            `json:"size"`
	Updated    time.Time         `json:"updated"`
	Generation string            `json:"generation"`
	Metadata   map[string]string `json:"metadata"`
}

func (o object) stat() remote.Stat {
	size, _ := strconv.ParseInt(o.Size, 10, 64)
	return remote.Stat{Size: size, Modified: o.Updated, Version: blob.Version(o.Generation), Mark: o.Metadata[markName]}
}

// at is the address of something below the API, with a query.
func (s *store) at(path string, query url.Values) string {
	if s.access.BillingProject != "" {
		query.Set("userProject", s.access.BillingProject)
	}
	return s.base + path + "?" + query.Encode()
}

// of is the path of an object.
func (s *store) of(key string) string {
	return "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o/" + strings.ReplaceAll(url.PathEscape(key), "+", "%2B")
}

// send sends a request. The caller closes the body of the answer; one of a status that is not
// accepted is an error.
func (s *store) send(ctx context.Context, doing, method, at string, header http.Header, body []byte, accept ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, failed(doing, s.bucket, err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Accept-Encoding", "gzip") // as it is stored: the service unpacks otherwise
	if s.tokens != nil {
		token, err := s.tokens.Token()
		if err != nil {
			return nil, unauthorised(doing, err)
		}
		token.SetAuthHeader(req)
	}
	resp, err := s.client.Do(req, nil)
	if err != nil {
		return nil, failed(doing, s.bucket, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	if slices.Contains(accept, resp.StatusCode) {
		return resp, nil
	}
	return nil, answered(doing, s.bucket, resp)
}

// ask is the answer to a request, read into out.
func (s *store) ask(ctx context.Context, doing, method, at string, header http.Header, body []byte, out any) error {
	resp, err := s.send(ctx, doing, method, at, header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return failed(doing, s.bucket, fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

const mostAnswer = 16 << 20

// described is what is said of an object that is written.
func (s *store) described(key, mark string) ([]byte, error) {
	m := map[string]string{markName: mark}
	maps.Copy(m, s.properties.Metadata)
	d := map[string]any{"name": key, "metadata": m}
	if s.properties.ContentType != "" {
		d["contentType"] = s.properties.ContentType
	}
	if s.properties.ContentEncoding != "" {
		d["contentEncoding"] = s.properties.ContentEncoding
	}
	return json.Marshal(d)
}

func (s *store) uploading(kind, generation string) string {
	q := url.Values{"uploadType": {kind}, "ifGenerationMatch": {generation}, "fields": {fields}}
	if s.access.KMSKey != "" {
		q.Set("kmsKeyName", s.access.KMSKey)
	}
	return s.at("/upload/storage/v1/b/"+url.PathEscape(s.bucket)+"/o", q)
}

// Put implements remote.Store.
func (s *store) Put(ctx context.Context, key, mark string, seen blob.Version, data []byte) (blob.Version, error) {
	generation := "0"
	if seen != "" {
		if _, err := strconv.ParseUint(string(seen), 10, 63); err != nil || seen == "0" {
			return "", remote.ErrCondition // no object has it
		}
		generation = string(seen)
	}
	described, err := s.described(key, mark)
	if err != nil {
		return "", err
	}
	content := s.properties.ContentType
	if content == "" {
		content = "application/octet-stream"
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, part := range []struct {
		kind string
		data []byte
	}{{"application/json; charset=UTF-8", described}, {content, data}} {
		to, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {part.kind}})
		if err == nil {
			_, err = to.Write(part.data)
		}
		if err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	var out object
	header := http.Header{"Content-Type": {"multipart/related; boundary=" + w.Boundary()}}
	if err := s.ask(ctx, "put an object", http.MethodPost, s.uploading("multipart", generation), header, body.Bytes(), &out); err != nil {
		return "", err
	}
	return blob.Version(out.Generation), nil
}

// Get implements remote.Store.
func (s *store) Get(ctx context.Context, key string, offset, length int64, version blob.Version) (io.ReadCloser, remote.Stat, error) {
	query := url.Values{"alt": {"media"}}
	if version != "" {
		query.Set("ifGenerationMatch", string(version))
	}
	header := http.Header{}
	switch {
	case length > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := s.send(ctx, "get an object", http.MethodGet, s.at(s.of(key), query), header, nil, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return nil, remote.Stat{}, err
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(strings.NewReader("")), remote.Stat{Size: offset}, resp.Body.Close() // behind its end
	}
	generation := resp.Header.Get("X-Goog-Generation")
	if resp.ContentLength < 0 || generation == "" {
		return nil, remote.Stat{}, errors.Join(failed("get an object", s.bucket, errors.New("the answer does not say its length and its generation")), resp.Body.Close())
	}
	return resp.Body, remote.Stat{Size: offset + resp.ContentLength, Version: blob.Version(generation)}, nil
}

// Head implements remote.Store.
func (s *store) Head(ctx context.Context, key string) (remote.Stat, error) {
	var out object
	if err := s.ask(ctx, "look at an object", http.MethodGet, s.at(s.of(key), url.Values{"fields": {fields}}), nil, nil, &out); err != nil {
		return remote.Stat{}, err
	}
	return out.stat(), nil
}

// List implements remote.Store.
func (s *store) List(ctx context.Context, prefix, after, next string, folders bool, limit int) (remote.Page, error) {
	query := url.Values{"maxResults": {strconv.Itoa(limit)}, "fields": {"items(name,size,updated),prefixes,nextPageToken"}}
	for name, value := range map[string]string{"prefix": prefix, "startOffset": after, "pageToken": next} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if folders { // emulators have all folders on the first page, so it is to be whole
		query.Set("delimiter", "/")
		query.Set("maxResults", strconv.Itoa(blob.MaxList))
	}
	var out struct {
		Items         []object `json:"items"`
		Prefixes      []string `json:"prefixes"`
		NextPageToken string   `json:"nextPageToken"`
	}
	err := s.ask(ctx, "list the objects", http.MethodGet, s.at("/storage/v1/b/"+url.PathEscape(s.bucket)+"/o", query), nil, nil, &out)
	if errors.Is(err, blob.ErrNotFound) {
		err = noBucket("list the objects", s.bucket)
	}
	if err != nil {
		return remote.Page{}, err
	}
	page := remote.Page{Next: out.NextPageToken}
	for _, o := range out.Items {
		stat := o.stat()
		page.Entries = append(page.Entries, blob.Info{Name: o.Name, Size: stat.Size, Modified: stat.Modified})
	}
	for _, p := range out.Prefixes {
		page.Entries = append(page.Entries, blob.Info{Name: p})
	}
	sortByName(page.Entries)
	return page, nil
}

// Delete implements remote.Store.
func (s *store) Delete(ctx context.Context, keys []string) error {
	errs := make([]error, len(keys))
	room := make(chan struct{}, deleters)
	var wg sync.WaitGroup
	for i, key := range keys {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			err := s.ask(ctx, "delete an object", http.MethodDelete, s.at(s.of(key), url.Values{}), nil, nil, nil)
			if !errors.Is(err, blob.ErrNotFound) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Sweep implements remote.Store: uploads that are not completed end by themselves.
func (s *store) Sweep(context.Context, string, time.Time) error { return nil }

// Close implements remote.Store.
func (s *store) Close() error {
	s.client.Close()
	return nil
}
