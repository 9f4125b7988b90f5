// Package azure is a bucket in a container of Azure Blob storage.
//
// # Requests
//
//	Create    Put Blob with If-None-Match: *          409 BlobAlreadyExists: there is one
//	Replace   Put Blob with If-Match: ETag            412: another one, or none
//	Writer    Put Block, Put Block List with If-None-Match: *
//
// The version is the ETag. The mark of a write (package remote) is the metadata "weirwrite".
// Blocks that no list has named are nobody's object and are removed by the service after a week;
// nothing removes them earlier, so Sweep has nothing to do. The names of a writer's blocks have
// its mark in them, so that two writers of one name do not take each other's blocks.
package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/httpclient"
)

// markName is the metadata that has the mark of a write.
const markName = "weirwrite"

// store is a container.
type store struct {
	container  *azure.Container
	client     *httpclient.Client
	properties remote.Properties
}

const (
	// requestTime lets a part leave over a slow line.
	requestTime = 2 * time.Minute
	partBytes   = 8 << 20
	mostParts   = 50_000
	// deleters is how many requests delete at once.
	deleters = 16
)

// Open is the bucket of a container, with a prefix. The service is not asked for anything.
func Open(name azure.ContainerName, prefix string, p remote.Properties) (*remote.Bucket, error) {
	client := httpclient.New(httpclient.Options{Timeout: requestTime, IdlePerHost: 64, Verbatim: true})
	name.Client = client.HTTP()
	c, err := name.Container()
	if err != nil {
		if m, ok := errors.AsType[*connector.Misconfigured](err); ok {
			m.Field = "azblob." + m.Field
		}
		return nil, err
	}
	at, _, _ := strings.Cut(name.URL, "?")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		at = strings.TrimRight(at, "/") + "/" + prefix
	}
	return remote.New(&store{c, client, p}, remote.Options{Name: at, Prefix: prefix, Part: partBytes, MostParts: mostParts}), nil
}

// failed gives an error of the SDK its meaning.
func (s *store) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	switch {
	case !ok || bloberror.HasCode(err, bloberror.ContainerNotFound):
	case bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet) || answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", doing, remote.ErrCondition)
	case bloberror.HasCode(err, bloberror.InvalidBlockList): // its blocks are gone: another list was committed, or a week is over
		return fmt.Errorf("%s: %w", doing, remote.ErrNoUpload)
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", doing, blob.ErrNotFound)
	}
	return s.container.Fault(doing+" in", err)
}

func (s *store) metadata(mark string) map[string]*string {
	m := map[string]*string{markName: &mark}
	for name, value := range s.properties.Metadata {
		m[name] = &value
	}
	return m
}

func (s *store) headers() *sdk.HTTPHeaders {
	h := &sdk.HTTPHeaders{}
	if s.properties.ContentType != "" {
		h.BlobContentType = &s.properties.ContentType
	}
	if s.properties.ContentEncoding != "" {
		h.BlobContentEncoding = &s.properties.ContentEncoding
	}
	return h
}

func none() *sdk.AccessConditions {
	every := azcore.ETagAny
	return &sdk.AccessConditions{ModifiedAccessConditions: &sdk.ModifiedAccessConditions{IfNoneMatch: &every}}
}

func only(v blob.Version) *sdk.AccessConditions {
	if v == "" {
		return nil
	}
	tag := azcore.ETag(v)
	return &sdk.AccessConditions{ModifiedAccessConditions: &sdk.ModifiedAccessConditions{IfMatch: &tag}}
}

func body(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

// value is what a pointer of the SDK leads to.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// markOf is the mark in metadata, whose names have no case.
func markOf(m map[string]*string) string {
	for name, v := range m {
		if strings.EqualFold(name, markName) {
			return value(v)
		}
	}
	return ""
}

// Put implements remote.Store.
func (s *store) Put(ctx context.Context, key, mark string, seen blob.Version, data []byte) (blob.Version, error) {
	condition := only(seen)
	if condition == nil {
		condition = none()
	}
	out, err := s.container.NewBlockBlobClient(key).Upload(ctx, body(data), &blockblob.UploadOptions{
		Metadata: s.metadata(mark), HTTPHeaders: s.headers(), AccessConditions: condition, TransactionalValidation: sdk.TransferValidationTypeComputeCRC64(),
	})
	if err != nil {
		return "", s.failed("put a blob", err)
	}
	return blob.Version(value(out.ETag)), nil
}

// Get implements remote.Store.
func (s *store) Get(ctx context.Context, key string, offset, length int64, version blob.Version) (io.ReadCloser, remote.Stat, error) {
	o := &sdk.DownloadStreamOptions{AccessConditions: only(version), Range: sdk.HTTPRange{Offset: offset, Count: max(length, 0)}}
	out, err := s.container.NewBlobClient(key).DownloadStream(ctx, o)
	if bloberror.HasCode(err, bloberror.InvalidRange) {
		return io.NopCloser(strings.NewReader("")), remote.Stat{Size: offset}, nil // behind its end
	}
	if err != nil {
		return nil, remote.Stat{}, s.failed("get a blob", err)
	}
	return out.Body, remote.Stat{Size: offset + value(out.ContentLength), Modified: value(out.LastModified), Version: blob.Version(value(out.ETag)), Mark: markOf(out.Metadata)}, nil
}

// Head implements remote.Store.
func (s *store) Head(ctx context.Context, key string) (remote.Stat, error) {
	out, err := s.container.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return remote.Stat{}, s.failed("look at a blob", err)
	}
	return remote.Stat{Size: value(out.ContentLength), Modified: value(out.LastModified), Version: blob.Version(value(out.ETag)), Mark: markOf(out.Metadata)}, nil
}

// List implements remote.Store. The service begins at a name since its version of 2026; one that
// does not know it lists from the beginning.
func (s *store) List(ctx context.Context, prefix, after, next string, folders bool, limit int) (remote.Page, error) {
	most := int32(limit)
	var marker *string
	if next != "" {
		marker = &next
	}
	var page remote.Page
	if !folders {
		out, err := s.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, Marker: marker, MaxResults: &most}).NextPage(ctx)
		if err != nil {
			return page, s.failed("list the blobs", err)
		}
		page.Entries, page.Next = infos(out.Segment.BlobItems), value(out.NextMarker)
		return page, nil
	}
	out, err := s.container.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &prefix, Marker: marker, MaxResults: &most}).NextPage(ctx)
	if err != nil {
		return page, s.failed("list the blobs", err)
	}
	page.Entries, page.Next = infos(out.Segment.BlobItems), value(out.NextMarker)
	for _, p := range out.Segment.BlobPrefixes {
		page.Entries = append(page.Entries, blob.Info{Name: value(p.Name)})
	}
	slices.SortFunc(page.Entries, func(a, b blob.Info) int { return strings.Compare(a.Name, b.Name) })
	return page, nil
}

func infos(items []*container.BlobItem) (all []blob.Info) {
	for _, i := range items {
		info := blob.Info{Name: value(i.Name)}
		if i.Properties != nil {
			info.Size, info.Modified = value(i.Properties.ContentLength), value(i.Properties.LastModified)
		}
		all = append(all, info)
	}
	return all
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
			_, err := s.container.NewBlobClient(key).Delete(ctx, nil)
			if err = s.failed("delete a blob", err); !errors.Is(err, blob.ErrNotFound) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Sweep implements remote.Store: blocks that belong to nothing end by themselves.
func (s *store) Sweep(context.Context, string, time.Time) error { return nil }

// Close implements remote.Store.
func (s *store) Close() error {
	s.client.Close()
	return nil
}

// upload is a list of blocks.
type upload struct {
	s         *store
	key, mark string
	blocks    map[int]string
}

// Begin implements remote.Store.
func (s *store) Begin(_ context.Context, key, mark string) (remote.Upload, error) {
	return &upload{s, key, mark, map[int]string{}}, nil
}

// Part implements remote.Upload.
func (u *upload) Part(ctx context.Context, n int, data []byte, _ bool) error {
	if len(data) == 0 {
		return nil // a block has a byte at least
	}
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%08d", u.mark, n)) // all of one length
	_, err := u.s.container.NewBlockBlobClient(u.key).StageBlock(ctx, id, body(data), &blockblob.StageBlockOptions{TransactionalValidation: sdk.TransferValidationTypeComputeCRC64()})
	if err != nil {
		return u.s.failed("put a block", err)
	}
	u.blocks[n] = id
	return nil
}

// Complete implements remote.Upload.
func (u *upload) Complete(ctx context.Context) error {
	ids := make([]string, 0, len(u.blocks))
	for _, n := range slices.Sorted(maps.Keys(u.blocks)) {
		ids = append(ids, u.blocks[n])
	}
	_, err := u.s.container.NewBlockBlobClient(u.key).CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
		Metadata: u.s.metadata(u.mark), HTTPHeaders: u.s.headers(), AccessConditions: none(),
	})
	return u.s.failed("put the list of blocks", err)
}

// Abort implements remote.Upload: see Sweep.
func (u *upload) Abort(context.Context) error { return nil }
