package s3

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
)

// Access is how a bucket of S3 is reached, and how objects are stored there.
type Access struct {
	// Region is the AWS region of the bucket; the one of the environment or profile by default.
	Region string `hcl:"region,optional"`
	// RoleARN is a role to assume; none by default.
	RoleARN string `hcl:"role_arn,optional"`
	// ExternalID goes with the role, where its owner asks for one.
	ExternalID string `hcl:"external_id,optional"`
	// CustomAWSEndpoint is the URL of what speaks the protocol of S3 in place of Amazon; none by
	// default. It has to know conditional writes (If-None-Match, If-Match).
	CustomAWSEndpoint string `hcl:"custom_aws_endpoint,optional"`
	// PathStyle puts the bucket into the path of requests, not into the name of the host; true by
	// default with custom_aws_endpoint, and false without.
	PathStyle *bool `hcl:"path_style,optional"`
	// ServerSideEncryption is how the store encrypts objects: "AES256" (keys of S3), "aws:kms" or
	// "aws:kms:dsse" (a key of KMS); by default as the bucket says.
	ServerSideEncryption string `hcl:"server_side_encryption,optional"`
	// KMSKeyID is the key of KMS, as its ARN; the account's own for S3 by default.
	KMSKeyID string `hcl:"kms_key_id,optional"`
	// BucketKey lets S3 ask KMS once for many objects, which costs less.
	BucketKey bool `hcl:"bucket_key,optional"`
	// StorageClass is that of new objects, as "STANDARD_IA"; the bucket's default when it is not set.
	StorageClass string `hcl:"storage_class,optional"`
	// ExpectedBucketOwner is the account that the bucket must belong to; requests to one of
	// another account are refused.
	ExpectedBucketOwner string `hcl:"expected_bucket_owner,optional"`
	// RequesterPays agrees to pay for requests to a bucket whose owner does not.
	RequesterPays bool `hcl:"requester_pays,optional"`
	// Checksums says which requests have a checksum: "when_supported" (default), or
	// "when_required" for stores that do not know those of 2025.
	Checksums string `hcl:"checksums,optional"`
	// PartBytes is the size of the parts that larger objects are written in, 5242880 (5 MiB) to
	// 1073741824; 8388608 (8 MiB) by default. An object has 10,000 parts at most. A writer holds
	// up to two.
	PartBytes int `hcl:"part_bytes,optional"`
}

const (
	checksumsSupported = "when_supported"
	checksumsRequired  = "when_required"
	defaultPart        = 8 << 20
	leastPart          = 5 << 20
	mostPart           = 1 << 30
)

// Filled is a with its defaults.
func (a Access) Filled() Access {
	if a.PathStyle == nil {
		own := a.CustomAWSEndpoint != ""
		a.PathStyle = &own
	}
	if a.PartBytes == 0 {
		a.PartBytes = defaultPart
	}
	if a.Checksums == "" {
		a.Checksums = checksumsSupported
	}
	return a
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	accessARN  = regexp.MustCompile(`^arn:[a-z-]+:s3[a-z-]*:`)
)

// CheckBucket says why a bucket cannot have the name.
func CheckBucket(name string) error {
	if !bucketName.MatchString(name) && !accessARN.MatchString(name) {
		return fmt.Errorf("%q is not the name of a bucket of S3, which has 3 to 63 of a-z, 0-9, - and .", name)
	}
	return nil
}

// Problems are what is wrong, as far as can be known without a network. Fields are those of the
// block.
func (a Access) Problems() []connector.Problem {
	ps := aws.Access{Region: a.Region, RoleARN: a.RoleARN, Endpoint: a.CustomAWSEndpoint}.Problems()
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if all := []string{"AES256", "aws:kms", "aws:kms:dsse"}; a.ServerSideEncryption != "" && !slices.Contains(all, a.ServerSideEncryption) {
		refuse("server_side_encryption", "use one of "+strings.Join(all, ", "), "server_side_encryption must not be %q", a.ServerSideEncryption)
	}
	kms := strings.HasPrefix(a.ServerSideEncryption, "aws:kms")
	if a.KMSKeyID != "" && !kms {
		refuse("kms_key_id", `set server_side_encryption = "aws:kms"`, "kms_key_id is of use with server_side_encryption = \"aws:kms\" only")
	}
	if a.BucketKey && a.ServerSideEncryption != "aws:kms" {
		refuse("bucket_key", `set server_side_encryption = "aws:kms"`, "bucket_key is of use with server_side_encryption = \"aws:kms\" only")
	}
	if a.ExternalID != "" && a.RoleARN == "" {
		refuse("external_id", "set role_arn, or leave out external_id", "external_id goes with a role, and there is none")
	}
	if a.ExpectedBucketOwner != "" && !accountID.MatchString(a.ExpectedBucketOwner) {
		refuse("expected_bucket_owner", `write the twelve digits of the account, as "123456789012"`, "expected_bucket_owner %q is not the number of an account", a.ExpectedBucketOwner)
	}
	if all := types.StorageClass("").Values(); a.StorageClass != "" && !slices.Contains(all, types.StorageClass(a.StorageClass)) {
		refuse("storage_class", `use one that S3 knows, as "STANDARD_IA"`, "storage_class must not be %q", a.StorageClass)
	} else if slices.Contains(slow, a.StorageClass) {
		refuse("storage_class", `use "GLACIER_IR", or let a lifecycle rule move objects later`, "objects of the storage class %s cannot be read at once", a.StorageClass)
	}
	if a.Checksums != "" && a.Checksums != checksumsSupported && a.Checksums != checksumsRequired {
		refuse("checksums", "use one of when_supported, when_required", "checksums must not be %q", a.Checksums)
	}
	if a.PartBytes != 0 && (a.PartBytes < leastPart || a.PartBytes > mostPart) {
		refuse("part_bytes", "leave it out to use the default", "part_bytes must be from %d to %d, not %d", leastPart, mostPart, a.PartBytes)
	}
	return ps
}

// slow are classes whose objects have to be restored before they are read.
var slow = []string{"GLACIER", "DEEP_ARCHIVE"}

func (a Access) encryption() types.ServerSideEncryption {
	return types.ServerSideEncryption(a.ServerSideEncryption)
}

func (a Access) payer() types.RequestPayer {
	if a.RequesterPays {
		return types.RequestPayerRequester
	}
	return ""
}

// checksum is that of the parts of an upload; they must have it when the upload has, and not
// otherwise.
func (a Access) checksum() types.ChecksumAlgorithm {
	if a.Checksums == checksumsRequired {
		return ""
	}
	return types.ChecksumAlgorithmCrc32
}
