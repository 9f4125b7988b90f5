// Package s3 is a bucket of Amazon S3, and of what speaks its protocol.
//
// # Requests
//
//	Create    PutObject with If-None-Match: *      412: there is one; 409: somebody else is at it, again
//	Replace   PutObject with If-Match: ETag        412: another one; 404: gone
//	Writer    CreateMultipartUpload, UploadPart, CompleteMultipartUpload with If-None-Match: *
//	Sweep     ListMultipartUploads, AbortMultipartUpload
//
// The version is the ETag. The mark of a write (package remote) is the metadata "weir-write".
// A store that ignores the conditions is of no use: it would let two writers create one object.
// [Access] says what belongs to a request.
//
// Every answer and every request has a checksum where the store knows them; one that does not
// (checksums = "when_required") gets those only that the protocol wants.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
)

// markName is the metadata that has the mark of a write.
const markName = "weir-write"

// store is a bucket of S3.
type store struct {
	client     *s3.Client
	config     sdk.Config
	bucket     string
	access     Access
	properties remote.Properties
}

// Open is the bucket of a name, with a prefix. The store is not asked for anything.
func Open(ctx context.Context, bucket, prefix string, a Access, p remote.Properties, o aws.Access) (*remote.Bucket, error) {
	o.Region, o.RoleARN, o.ExternalID, o.Endpoint, o.Timeout = a.Region, a.RoleARN, a.ExternalID, a.CustomAWSEndpoint, requestTime
	cfg, err := aws.Load(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &store{config: cfg, bucket: bucket, access: a, properties: p}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = sdk.ToBool(a.PathStyle)
		o.DisableLogOutputChecksumValidationSkipped = true
		if a.Checksums == checksumsRequired {
			o.RequestChecksumCalculation, o.ResponseChecksumValidation = sdk.RequestChecksumCalculationWhenRequired, sdk.ResponseChecksumValidationWhenRequired
		}
		if strings.HasPrefix(a.CustomAWSEndpoint, "http://") {
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		}
	})
	return remote.New(s, remote.Options{Name: "s3://" + bucket + slashed(prefix), Prefix: prefix, Part: a.PartBytes, MostParts: mostParts}), nil
}

func slashed(prefix string) string {
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return ""
	}
	return "/" + prefix
}

const (
	// requestTime lets a part leave over a slow line.
	requestTime = 2 * time.Minute
	mostParts   = 10_000
)

// failed gives an error of the SDK its meaning.
func (s *store) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	status := 0
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	code := aws.Code(err)
	switch {
	case code == "NoSuchBucket":
		return fault.New(fault.Setup, fmt.Errorf("%s: there is no bucket %s; make it (aws s3 mb s3://%s), or look at its name and region", doing, s.bucket, s.bucket))
	case code == "NoSuchUpload":
		return fmt.Errorf("%s: %w", doing, remote.ErrNoUpload)
	case status == 404:
		return fmt.Errorf("%s: %w", doing, blob.ErrNotFound)
	case status == 409: // somebody else is at it
		return fault.New(fault.Transient, fmt.Errorf("%s: %s", doing, code))
	case status == 412:
		return fmt.Errorf("%s: %w", doing, remote.ErrCondition)
	case status == 301 || status == 307 || code == "AuthorizationHeaderMalformed":
		region := ""
		if r, ok := errors.AsType[*awshttp.ResponseError](err); ok {
			region = r.Response.Header.Get("X-Amz-Bucket-Region")
		}
		if region == "" {
			region = "another region"
		}
		return fault.New(fault.Setup, fmt.Errorf("%s: the bucket %s is in %s: set region", doing, s.bucket, region))
	}
	return aws.Fault(doing, err)
}

// optional is nil for a value that is not set.
func optional[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func (s *store) metadata(mark string) map[string]string {
	m := map[string]string{markName: mark}
	maps.Copy(m, s.properties.Metadata)
	return m
}

// Put implements remote.Store.
func (s *store) Put(ctx context.Context, key, mark string, seen blob.Version, data []byte) (blob.Version, error) {
	in := &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(data), Metadata: s.metadata(mark),
		ContentType: optional(s.properties.ContentType), ContentEncoding: optional(s.properties.ContentEncoding),
		ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer(),
		ServerSideEncryption: s.access.encryption(), SSEKMSKeyId: optional(s.access.KMSKeyID), BucketKeyEnabled: optional(s.access.BucketKey),
		StorageClass: types.StorageClass(s.access.StorageClass), IfMatch: optional(string(seen)),
	}
	if seen == "" {
		in.IfNoneMatch = sdk.String("*")
	}
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		return "", s.failed("put the object", err)
	}
	return blob.Version(sdk.ToString(out.ETag)), nil
}

// Get implements remote.Store.
func (s *store) Get(ctx context.Context, key string, offset, length int64, version blob.Version) (io.ReadCloser, remote.Stat, error) {
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, IfMatch: optional(string(version)), ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer()}
	switch {
	case length > 0:
		in.Range = sdk.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = sdk.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok && r.HTTPStatusCode() == 416 {
		return io.NopCloser(strings.NewReader("")), remote.Stat{Size: offset}, nil // behind its end
	}
	if err != nil {
		return nil, remote.Stat{}, s.failed("get the object", err)
	}
	size := offset + sdk.ToInt64(out.ContentLength)
	return out.Body, remote.Stat{Size: size, Modified: sdk.ToTime(out.LastModified), Version: blob.Version(sdk.ToString(out.ETag)), Mark: out.Metadata[markName]}, nil
}

// Head implements remote.Store.
func (s *store) Head(ctx context.Context, key string) (remote.Stat, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key, ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer()})
	if err != nil {
		return remote.Stat{}, s.failed("look at the object", err)
	}
	return remote.Stat{Size: sdk.ToInt64(out.ContentLength), Modified: sdk.ToTime(out.LastModified), Version: blob.Version(sdk.ToString(out.ETag)), Mark: out.Metadata[markName]}, nil
}

// List implements remote.Store.
func (s *store) List(ctx context.Context, prefix, after, next string, folders bool, limit int) (remote.Page, error) {
	in := &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: optional(prefix), MaxKeys: sdk.Int32(int32(limit)), StartAfter: optional(after), ContinuationToken: optional(next),
		ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer(),
	}
	if folders {
		in.Delimiter = sdk.String("/")
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		if errors.Is(s.failed("", err), blob.ErrNotFound) { // a bucket that is not there, of a store that says no more
			err = fault.New(fault.Setup, fmt.Errorf("list the bucket: there is no bucket %s", s.bucket))
			return remote.Page{}, err
		}
		return remote.Page{}, s.failed("list the bucket", err)
	}
	var page remote.Page
	for _, o := range out.Contents {
		page.Entries = append(page.Entries, blob.Info{Name: sdk.ToString(o.Key), Size: sdk.ToInt64(o.Size), Modified: sdk.ToTime(o.LastModified)})
	}
	for _, p := range out.CommonPrefixes {
		page.Entries = append(page.Entries, blob.Info{Name: sdk.ToString(p.Prefix)})
	}
	slices.SortFunc(page.Entries, func(a, b blob.Info) int { return strings.Compare(a.Name, b.Name) })
	if sdk.ToBool(out.IsTruncated) {
		page.Next = sdk.ToString(out.NextContinuationToken)
	}
	return page, nil
}

// Delete implements remote.Store.
func (s *store) Delete(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &keys[0], ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer()})
		if err = s.failed("delete the object", err); errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		return err
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: sdk.Bool(true)}, ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer(),
	})
	if err != nil {
		return s.failed("delete the objects", err)
	}
	var errs []error
	for _, e := range out.Errors {
		if code := sdk.ToString(e.Code); code != "NoSuchKey" {
			errs = append(errs, aws.Entry("delete the object "+sdk.ToString(e.Key), code, sdk.ToString(e.Message)))
		}
	}
	return errors.Join(errs...)
}

// Sweep implements remote.Store.
func (s *store) Sweep(ctx context.Context, prefix string, before time.Time) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: optional(prefix), ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer()}
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return s.failed("list the open uploads", err)
		}
		for _, u := range out.Uploads {
			if !sdk.ToTime(u.Initiated).Before(before) || !strings.HasPrefix(sdk.ToString(u.Key), prefix) {
				continue
			}
			left := &upload{s: s, key: sdk.ToString(u.Key), id: sdk.ToString(u.UploadId)}
			if err := left.Abort(ctx); err != nil && !errors.Is(err, remote.ErrNoUpload) {
				return err
			}
		}
		if !sdk.ToBool(out.IsTruncated) || sdk.ToString(out.NextKeyMarker) == "" {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// Close implements remote.Store.
func (s *store) Close() error {
	aws.Close(s.config)
	return nil
}
