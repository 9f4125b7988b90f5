package gcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// Remedy is what to do about errors that somebody must do something about, by what the service
// said.
type Remedy struct {
	Missing string // what was named is not there
	Denied  string // it may not be used
}

// Failed is err, which ended doing, with its meaning for delivery: by its code, and with what to
// do about it where somebody has to. A nil err stays nil.
func Failed(doing string, err error, r Remedy) error {
	if err == nil {
		return nil
	}
	kind, text := Kind(err), fmt.Sprintf("%s: %s", doing, secret.Text(err.Error()))
	code := status.Code(err)
	if kind == fault.Setup {
		if fix := r.of(code); fix != "" {
			text += ": " + fix
		}
	}
	return &fault.Error{Kind: kind, Err: &failure{text, err}, After: after(err),
		Detail: fault.Detail{Type: "api", Code: code.String(), Safe: doing + " failed"}}
}

// failure says what failed without what its cause would tell of secrets.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func (r Remedy) of(code codes.Code) string {
	switch code {
	case codes.NotFound:
		return r.Missing
	case codes.PermissionDenied:
		return r.Denied
	case codes.Unauthenticated:
		return "check the credentials: the file that the config or GOOGLE_APPLICATION_CREDENTIALS names, or the service account of this machine"
	}
	return ""
}

// Kind is what an error of a call means. What the call itself is at fault for, and not the
// service, is [fault.Invalid]: who knows that the request is as it must be says otherwise.
func Kind(err error) fault.Kind {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return fault.Throttled
	case codes.InvalidArgument, codes.OutOfRange:
		return fault.Invalid
	case codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition, codes.Unimplemented, codes.AlreadyExists:
		return fault.Setup
	}
	return fault.Of(err)
}

// after is how long the service asked to wait.
func after(err error) time.Duration {
	s, ok := status.FromError(err)
	if !ok {
		return 0
	}
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(r.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

// Unanswered reports whether a call ended because its own time was over, while that of the ctx
// it was made from was not: the connection may lead nowhere.
func Unanswered(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && (status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded))
}
