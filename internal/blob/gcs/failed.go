package gcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// failed is the error of a request that was not answered.
func failed(doing, bucket string, err error) error {
	if transport, ok := errors.AsType[*url.Error](err); ok {
		err = transport.Err
	}
	return fault.New(fault.Transient, fmt.Errorf("%s of %s: %w", doing, bucket, err))
}

// unauthorised is the error of credentials that give no token.
func unauthorised(doing string, err error) error {
	kind := fault.Transient
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.Response != nil && refused.Response.StatusCode/100 == 4 && refused.Response.StatusCode != http.StatusTooManyRequests {
		kind = fault.Setup
	}
	return fault.New(kind, fmt.Errorf("%s: get a token of Google Cloud: %s; check the credentials: the file that the config or GOOGLE_APPLICATION_CREDENTIALS names, or the service account of this machine", doing, secret.Text(err.Error())))
}

func noBucket(doing, bucket string) error {
	return fault.New(fault.Setup, fmt.Errorf("%s: there is no bucket %s; make it (gcloud storage buckets create gs://%s), or look at its name", doing, bucket, bucket))
}

// denied is how the service names the permission that is missing.
var denied = regexp.MustCompile(`does not have ([a-z]+\.[a-zA-Z.]+) access`)

// answered is the error of an answer that says no. It closes its body.
func answered(doing, bucket string, resp *http.Response) error {
	const most = 16 << 10
	text, _ := io.ReadAll(io.LimitReader(resp.Body, most)) // what came of it
	_ = resp.Body.Close()
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	said := strings.Join(strings.Fields(string(text)), " ")
	if json.Unmarshal(text, &answer) == nil && answer.Error.Message != "" {
		said = answer.Error.Message
	}
	const longest = 500
	if said = secret.Text(said); len(said) > longest {
		said = strings.ToValidUTF8(said[:longest], "") + "…"
	}
	err := fmt.Errorf("%s of %s: %s: %s", doing, bucket, resp.Status, said)
	after := time.Duration(0)
	if n, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && n > 0 {
		after = time.Duration(min(n, 3600)) * time.Second
	}
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound && strings.Contains(said, "bucket does not exist"):
		return noBucket(doing, bucket)
	case status == http.StatusNotFound || status == http.StatusGone:
		return fmt.Errorf("%w: %w", err, blob.ErrNotFound)
	case status == http.StatusPreconditionFailed || status == http.StatusNotModified:
		return fmt.Errorf("%w: %w", err, remote.ErrCondition)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable && after > 0:
		return fault.Throttle(err, after)
	case status >= http.StatusInternalServerError || status == http.StatusRequestTimeout || status == http.StatusConflict:
		return fault.New(fault.Transient, err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		permission := "the role roles/storage.objectUser"
		if m := denied.FindStringSubmatch(said); m != nil {
			permission = "a role with " + m[1] + ", such as roles/storage.objectUser,"
		}
		return fault.New(fault.Setup, fmt.Errorf("%w; grant %s on the bucket (gcloud storage buckets add-iam-policy-binding gs://%s --member MEMBER --role ROLE)", err, permission, bucket))
	}
	return fault.New(fault.Setup, err)
}

func sortByName(infos []blob.Info) {
	slices.SortFunc(infos, func(a, b blob.Info) int { return strings.Compare(a.Name, b.Name) })
}
