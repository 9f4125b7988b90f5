package aws

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// meaning is what an error's name says: its kind, and what somebody can do about it.
type meaning struct {
	kind fault.Kind
	fix  string
}

const (
	fixPermission = "" // is made of the call: see permission
	fixKey        = "let the policy of the KMS key, and one of the identity in use, allow kms:GenerateDataKey and kms:Decrypt; the key must be enabled"
	fixIdentity   = "the credentials are not valid: look at the access key, the profile or the role in use"
	fixClock      = "look at the clock of this machine, and at the secret access key"
	fixOurs       = "the service does not take the request as it is: look at the options that name or shape it"
)

// meanings are the errors of Kinesis, SQS, DynamoDB, Glue, STS and KMS by their names. What is not
// here is decided by the status of the answer.
var meanings = map[string]meaning{
	// Ask for less.
	"ProvisionedThroughputExceededException": {kind: fault.Throttled},
	"LimitExceededException":                 {kind: fault.Throttled},
	"ThrottlingException":                    {kind: fault.Throttled},
	"Throttling":                             {kind: fault.Throttled},
	"ThrottledException":                     {kind: fault.Throttled},
	"RequestThrottledException":              {kind: fault.Throttled},
	"RequestThrottled":                       {kind: fault.Throttled},
	"TooManyRequestsException":               {kind: fault.Throttled},
	"RequestLimitExceeded":                   {kind: fault.Throttled},
	"KMSThrottlingException":                 {kind: fault.Throttled},
	"KmsThrottled":                           {kind: fault.Throttled},
	"OverLimit":                              {kind: fault.Throttled},
	"SlowDown":                               {kind: fault.Throttled},
	"ConditionalRequestConflict":             {kind: fault.Transient},
	"OperationAborted":                       {kind: fault.Transient},
	"BadDigest":                              {kind: fault.Transient},
	"IncompleteBody":                         {kind: fault.Transient},
	"XAmzContentChecksumMismatch":            {kind: fault.Transient},
	"Forbidden":                              {fault.Setup, fixPermission},
	"NotImplemented":                         {fault.Setup, fixOurs},
	"GlueEncryptionException":                {fault.Setup, fixKey},
	// It passes.
	"InternalServiceException":           {kind: fault.Transient},
	"OperationTimeoutException":          {kind: fault.Transient},
	"ConcurrentModificationException":    {kind: fault.Transient},
	"ResourceNotReadyException":          {kind: fault.Transient},
	"FederationSourceRetryableException": {kind: fault.Transient},
	"InternalFailure":                    {kind: fault.Transient},
	"InternalFailureException":           {kind: fault.Transient},
	"InternalServerError":                {kind: fault.Transient},
	"InternalError":                      {kind: fault.Transient},
	"ServiceUnavailable":                 {kind: fault.Transient},
	"ServiceUnavailableException":        {kind: fault.Transient},
	"RequestTimeout":                     {kind: fault.Transient},
	"RequestTimeoutException":            {kind: fault.Transient},
	"ResourceInUseException":             {kind: fault.Transient},
	"ExpiredIteratorException":           {kind: fault.Transient},
	"ExpiredNextTokenException":          {kind: fault.Transient},
	"ExpiredToken":                       {kind: fault.Transient},
	"ExpiredTokenException":              {kind: fault.Transient},
	"RequestExpired":                     {kind: fault.Transient},
	"ConditionalCheckFailedException":    {kind: fault.Transient},
	"TransactionConflictException":       {kind: fault.Transient},
	"TransactionInProgressException":     {kind: fault.Transient},
	"TransactionCanceledException":       {kind: fault.Transient},
	"ReplicatedWriteConflictException":   {kind: fault.Transient},
	"PurgeQueueInProgress":               {kind: fault.Transient},
	"QueueDeletedRecently":               {kind: fault.Transient},
	// Somebody must change something.
	"AccessDenied":                             {fault.Setup, fixPermission},
	"AccessDeniedException":                    {fault.Setup, fixPermission},
	"NotAuthorized":                            {fault.Setup, fixPermission},
	"UnauthorizedOperation":                    {fault.Setup, fixPermission},
	"UnrecognizedClientException":              {fault.Setup, fixIdentity},
	"InvalidClientTokenId":                     {fault.Setup, fixIdentity},
	"InvalidAccessKeyId":                       {fault.Setup, fixIdentity},
	"InvalidIdentityToken":                     {fault.Setup, fixIdentity},
	"IDPCommunicationError":                    {fault.Transient, ""},
	"MissingAuthenticationToken":               {fault.Setup, fixIdentity},
	"MissingAuthenticationTokenException":      {fault.Setup, fixIdentity},
	"OptInRequired":                            {fault.Setup, "the account has not subscribed to the service"},
	"InvalidSignatureException":                {fault.Setup, fixClock},
	"SignatureDoesNotMatch":                    {fault.Setup, fixClock},
	"IncompleteSignature":                      {fault.Setup, fixClock},
	"IncompleteSignatureException":             {fault.Setup, fixClock},
	"RequestTimeTooSkewed":                     {fault.Setup, fixClock},
	"ResourceNotFoundException":                {fault.Setup, "make it, or look at its name, the region and the account"},
	"EntityNotFoundException":                  {fault.Setup, "make it, or look at its name, the region and the account"},
	"ResourceNumberLimitExceededException":     {fault.Setup, "delete what is not used, or ask for a higher quota of the account"},
	"InvalidInputException":                    {fault.Setup, fixOurs},
	"TableNotFoundException":                   {fault.Setup, "make the table, or look at its name, the region and the account"},
	"QueueDoesNotExist":                        {fault.Setup, "make the queue, or look at its name, the region and the account"},
	"NonExistentQueue":                         {fault.Setup, "make the queue, or look at its name, the region and the account"},
	"KMSAccessDeniedException":                 {fault.Setup, fixKey},
	"KMSDisabledException":                     {fault.Setup, fixKey},
	"KMSInvalidStateException":                 {fault.Setup, fixKey},
	"KMSNotFoundException":                     {fault.Setup, fixKey},
	"KMSOptInRequired":                         {fault.Setup, fixKey},
	"KmsAccessDenied":                          {fault.Setup, fixKey},
	"KmsDisabled":                              {fault.Setup, fixKey},
	"KmsInvalidKeyUsage":                       {fault.Setup, fixKey},
	"KmsInvalidState":                          {fault.Setup, fixKey},
	"KmsNotFound":                              {fault.Setup, fixKey},
	"KmsOptInRequired":                         {fault.Setup, fixKey},
	"InvalidArgumentException":                 {fault.Setup, fixOurs},
	"ValidationException":                      {fault.Setup, fixOurs},
	"ValidationError":                          {fault.Setup, fixOurs},
	"SerializationException":                   {fault.Setup, fixOurs},
	"UnknownOperationException":                {fault.Setup, "the service at this endpoint does not know the call: look at custom_aws_endpoint"},
	"InvalidAction":                            {fault.Setup, "the service at this endpoint does not know the call: look at custom_aws_endpoint"},
	"InvalidSecurity":                          {fault.Setup, "the service asks for HTTPS and a signed request: look at custom_aws_endpoint"},
	"UnsupportedOperation":                     {fault.Setup, fixOurs},
	"InvalidAddress":                           {fault.Setup, "the URL of the queue is not one: look at its name and at custom_aws_endpoint"},
	"ResourcePolicyEvaluationException":        {fault.Setup, fixPermission},
	"ItemCollectionSizeLimitExceededException": {fault.Setup, "items of one key must stay below 10 GB"},
	// The message is at fault.
	"InvalidMessageContents":               {fault.Invalid, ""},
	"MessageTooLong":                       {fault.Invalid, ""},
	"InvalidAttributeName":                 {fault.Invalid, ""},
	"InvalidAttributeValue":                {fault.Invalid, ""},
	"InvalidMessageAttributeNameException": {fault.Invalid, ""},
}

// refused are the names of errors that credentials fetched anew may heal.
var refused = map[string]bool{
	"ExpiredToken": true, "ExpiredTokenException": true, "RequestExpired": true,
	"UnrecognizedClientException": true, "InvalidClientTokenId": true, "InvalidAccessKeyId": true,
}

// plain is the name of an error without what some protocols put before it:
// com.amazonaws.kinesis.v20131202# or AWS.SimpleQueueService.
func plain(code string) string {
	code = code[strings.LastIndexByte(code, '#')+1:]
	code, _, _ = strings.Cut(code, ":")
	return code[strings.LastIndexByte(code, '.')+1:]
}

// Code is the name of the error that a service answered with, in its plain form; empty when err
// is no answer.
func Code(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return plain(api.ErrorCode())
}

// Kind is what the name of an error means; what is unknown is transient.
func Kind(code string) fault.Kind { return meanings[plain(code)].kind }

// Fault is err with what it means for delivery, as the failure of what doing says: "put records
// into stream events". A nil err stays nil.
func Fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return answer(doing, err, api)
	}
	if none, ok := errors.AsType[*credentialsError](err); ok {
		return &fault.Error{Kind: fault.Setup, Err: &failure{
			text: fmt.Sprintf("%s: no AWS credentials: %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in AWS_PROFILE, or give this machine, container or service account a role", doing, clean(none.err.Error())), err: err,
		}, Detail: fault.Detail{Type: "api", Code: "NoCredentials", Safe: "no AWS credentials"}}
	}
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &fault.Error{Kind: fault.Setup, Err: &failure{
			text: fmt.Sprintf("%s: %s; name the authority of the service's certificate in AWS_CA_BUNDLE, or look at custom_aws_endpoint", doing, clean(untrusted.Error())), err: err,
		}, Detail: fault.Detail{Type: "api", Safe: "the certificate of the service cannot be verified"}}
	}
	reason := err
	if transport, ok := errors.AsType[*url.Error](err); ok {
		reason = transport.Err // without the call that was not answered, which doing says
	}
	return &fault.Error{Kind: fault.Transient, Err: &failure{text: doing + ": " + clean(reason.Error()), err: err}, Detail: fault.Detail{Type: "api", Safe: "the service was not reached"}}
}

// answer is the fault of what a service answered.
func answer(doing string, err error, api smithy.APIError) error {
	code := plain(api.ErrorCode())
	m, known := meanings[code]
	var response interface{ HTTPStatusCode() int }
	status := 0
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	if !known {
		if m.kind = kindOf(status, api); m.kind == fault.Setup && status != 401 && status != 403 {
			m.fix = fixOurs
		}
	}
	return fail(doing, code, api.ErrorMessage(), m, permission(err), err)
}

// kindOf decides by the status where a name is not known.
func kindOf(status int, api smithy.APIError) fault.Kind {
	switch {
	case status == 429:
		return fault.Throttled
	case status >= 500 || status == 408:
	case status >= 400 || api.ErrorFault() == smithy.FaultClient:
		return fault.Setup
	}
	return fault.Transient
}

// Entry is the fault of one entry of a batch, by the name and the text that the service gave
// for it.
func Entry(doing, code, text string) error {
	code = plain(code)
	return fail(doing, code, text, meanings[code], "", nil)
}

func fail(doing, code, text string, m meaning, allow string, err error) error {
	text = strings.TrimRight(clean(text), ". ")
	whole := doing + ": " + code
	if text != "" {
		whole += ": " + text
	}
	fix := m.fix
	if m.kind == fault.Setup && fix == fixPermission {
		fix = allow
	}
	if fix != "" {
		whole += "; " + fix
	}
	return &fault.Error{Kind: m.kind, Err: &failure{text: whole, err: err}, Detail: fault.Detail{Type: "api", Code: code, Safe: code}}
}

// denied is how a service names the action that it has denied.
var denied = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// actions are the permissions of calls of S3 that have another name than the call.
var actions = map[string]string{
	"HeadObject":    "GetObject and s3:ListBucket", // without the second, what is not there is forbidden
	"ListObjectsV2": "ListBucket", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject",
	"DeleteObjects": "DeleteObject", "ListMultipartUploads": "ListBucketMultipartUploads",
}

// permission is the action that a policy must allow, made of the call that was denied.
func permission(err error) string {
	var op *smithy.OperationError // the innermost: getting credentials is a call within a call
	for inner := err; errors.As(inner, &op); {
		inner = op.Err
	}
	if op == nil {
		return "allow it in a policy of the identity in use"
	}
	if m := denied.FindStringSubmatch(err.Error()); m != nil { // of another service, such as KMS
		return fmt.Sprintf("allow %s in a policy of the identity in use", m[1])
	}
	action := op.Operation()
	switch op.Service() {
	case "SQS":
		action = strings.TrimSuffix(action, "Batch") // a batch is allowed with the action on one
	case "S3":
		action = cmp.Or(actions[action], action)
	}
	return fmt.Sprintf("allow %s:%s in a policy of the identity in use", strings.ToLower(op.Service()), action)
}

// failure is an error with a text of our own, and what it was made of.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// clean is a text in one line, without secrets, and not longer than a log line should be.
func clean(text string) string {
	text = secret.Text(strings.Join(strings.Fields(secret.Signed(text)), " "))
	const longest = 1000
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
