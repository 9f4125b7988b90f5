package s3

import (
	"bytes"
	"context"
	"fmt"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/fault"
)

// upload is a multipart upload.
type upload struct {
	s       *store
	key, id string
	parts   []types.CompletedPart
}

// Begin implements remote.Store.
func (s *store) Begin(ctx context.Context, key, mark string) (remote.Upload, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: &key, Metadata: s.metadata(mark),
		ContentType: optional(s.properties.ContentType), ContentEncoding: optional(s.properties.ContentEncoding),
		ExpectedBucketOwner: optional(s.access.ExpectedBucketOwner), RequestPayer: s.access.payer(),
		ServerSideEncryption: s.access.encryption(), SSEKMSKeyId: optional(s.access.KMSKeyID), BucketKeyEnabled: optional(s.access.BucketKey),
		StorageClass: types.StorageClass(s.access.StorageClass), ChecksumAlgorithm: s.access.checksum(),
	})
	if err != nil {
		return nil, s.failed("begin an upload", err)
	}
	return &upload{s: s, key: key, id: sdk.ToString(out.UploadId)}, nil
}

// Part implements remote.Upload.
func (u *upload) Part(ctx context.Context, n int, data []byte, _ bool) error {
	out, err := u.s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.s.bucket, Key: &u.key, UploadId: &u.id, PartNumber: sdk.Int32(int32(n)), Body: bytes.NewReader(data), ChecksumAlgorithm: u.s.access.checksum(),
		ExpectedBucketOwner: optional(u.s.access.ExpectedBucketOwner), RequestPayer: u.s.access.payer(),
	})
	if err != nil {
		return u.s.failed("upload a part", err)
	}
	part := types.CompletedPart{PartNumber: sdk.Int32(int32(n)), ETag: out.ETag}
	if u.s.access.checksum() != "" {
		part.ChecksumCRC32 = out.ChecksumCRC32
	}
	u.parts = append(u.parts[:min(n-1, len(u.parts))], part)
	return nil
}

// Complete implements remote.Upload.
func (u *upload) Complete(ctx context.Context) error {
	out, err := u.s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.s.bucket, Key: &u.key, UploadId: &u.id, IfNoneMatch: sdk.String("*"),
		MultipartUpload:     &types.CompletedMultipartUpload{Parts: u.parts},
		ExpectedBucketOwner: optional(u.s.access.ExpectedBucketOwner), RequestPayer: u.s.access.payer(),
	})
	if err != nil {
		return u.s.failed("complete an upload", err)
	}
	if sdk.ToString(out.ETag) == "" { // 200 is sent before the outcome is known
		return fault.New(fault.Transient, fmt.Errorf("complete an upload: the answer ended before it said that it is done"))
	}
	return nil
}

// Abort implements remote.Upload.
func (u *upload) Abort(ctx context.Context) error {
	_, err := u.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &u.s.bucket, Key: &u.key, UploadId: &u.id, ExpectedBucketOwner: optional(u.s.access.ExpectedBucketOwner), RequestPayer: u.s.access.payer(),
	})
	return u.s.failed("abort an upload", err)
}
