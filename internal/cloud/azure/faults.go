package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// busyPause is how long the service asks to be left alone once it is busy.
const busyPause = 4 * time.Second

// Conditions of AMQP that callers treat on their own.
const (
	// Stolen is the end of a link whose partition another reader has.
	Stolen amqp.ErrCond = amqp.ErrCondStolen
	// TooLarge is the refusal of a transfer that is larger than the other side takes.
	TooLarge amqp.ErrCond = amqp.ErrCondMessageSizeExceeded
	// Region is an offset of the other region of a hub that is replicated.
	Region amqp.ErrCond = "com.microsoft:georeplication:invalid-offset"
)

// meaning is what a condition means for delivery, and what to do.
type meaning struct {
	kind fault.Kind
	fix  string
}

// meanings are the conditions that are not transient.
var meanings = map[amqp.ErrCond]meaning{
	"com.microsoft:server-busy":           {fault.Throttled, "the namespace is at its limit: add throughput units, or turn on auto-inflate"},
	amqp.ErrCondResourceLimitExceeded:     {fault.Setup, "a quota of the namespace is used up (connections, readers of a partition): raise the tier, or stop what uses it"},
	amqp.ErrCondUnauthorizedAccess:        {fault.Setup, unauthorized},
	amqp.ErrCondNotFound:                  {fault.Setup, missing},
	amqp.ErrCondNotAllowed:                {fault.Setup, "the hub does not allow it: look at its state and tier"},
	"com.microsoft:entity-disabled":       {fault.Setup, "the hub is disabled: set its status to Active"},
	"com.microsoft:argument-error":        {fault.Setup, "a checkpoint may be of another hub: delete it to begin where start_position says"},
	amqp.ErrCondMessageSizeExceeded:       {fault.Invalid, "the event is larger than the tier of the namespace takes"},
	"com.microsoft:publisher-revoked":     {fault.Setup, "the publisher was revoked"},
	Region:                                {fault.Setup, "the checkpoint is an offset of another region of the hub: delete it to begin where start_position says"},
	"com.microsoft:argument-out-of-range": {fault.Setup, "the partition is not there: was the hub made anew with fewer?"},
}

const (
	unauthorized = "give the identity the role \"Azure Event Hubs Data Receiver\" to read or \"Azure Event Hubs Data Sender\" to write (az role assignment create --assignee ID --role ROLE --scope HUB), or the key the claim Listen or Send"
	missing      = "make it: az eventhubs eventhub create --namespace-name NAMESPACE --name HUB -g GROUP; a consumer group with az eventhubs eventhub consumer-group create"
	badToken     = "the key or the identity is not accepted: is it of this namespace, was it rotated?"
)

// condition is in the text of an error of the SDK that does not lead to what it wraps.
var condition = regexp.MustCompile(`Condition: ([a-zA-Z][a-zA-Z0-9:.-]*)`)

// Condition is the condition with which the other side has refused something; empty if it has not.
func Condition(err error) amqp.ErrCond {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*azeventhubs.Error](err); ok {
		if e.Code == azeventhubs.ErrorCodeOwnershipLost {
			return Stolen
		}
		if m := condition.FindStringSubmatch(e.Error()); m != nil {
			return amqp.ErrCond(m[1])
		}
		if e.Code == azeventhubs.ErrorCodeUnauthorizedAccess {
			return amqp.ErrCondUnauthorizedAccess
		}
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		return e.Condition
	}
	return ""
}

// Fault gives an error of the SDK its meaning for delivery, and says what to do. what is what
// failed.
func (h *Hub) Fault(what string, err error) error {
	if err == nil {
		return nil
	}
	kind, after, fix := weigh(err)
	text := fmt.Sprintf("%s %s of %s: %s", what, h.Name, h.Host, h.hidden.Hide(secret.Text(plain(err))))
	if fix != "" {
		text += "; " + fix
	}
	return &fault.Error{Kind: kind, Err: &said{text, err}, After: after}
}

// said is an error with a text that may be shown.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }

// Is keeps what callers ask for of the error beneath, and none of its text.
func (s *said) Is(target error) bool { return errors.Is(s.err, target) }

// As leads to what is beneath.
func (s *said) As(target any) bool { return errors.As(s.err, target) }

// plain is the text of an error on one line, without what the SDK writes of its own objects.
func plain(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.ErrorCode != "" {
		text = fmt.Sprintf("%d %s", e.StatusCode, e.ErrorCode)
	}
	if said := refusal(err); said != "" {
		text = said
	}
	text = strings.Join(strings.Fields(text), " ")
	const most = 600
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

// refusal is what Microsoft Entra ID says of an identity that it does not accept, without the numbers
// of the request; empty where it is not Microsoft Entra ID that has failed, or has said nothing.
func refusal(err error) string {
	e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || e.RawResponse == nil {
		return ""
	}
	body, err := runtime.Payload(e.RawResponse)
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err != nil || json.Unmarshal(body, &said) != nil || said.Error == "" {
		return ""
	}
	description, _, _ := strings.Cut(said.Description, "\n")
	description, _, _ = strings.Cut(description, " Trace ID:")
	return fmt.Sprintf("Microsoft Entra ID answers %d %s: %s", e.RawResponse.StatusCode, said.Error, strings.TrimSpace(description))
}

// answer is an error that is the service's answer to a question.
type answer interface {
	error
	RPCCode() int
}

// Answered reports whether an error is what the service has answered to a question, so that the
// connection is not to blame.
func Answered(err error) bool {
	_, ok := errors.AsType[answer](err)
	return ok
}

// Missing reports whether an error says that what was asked for is not there.
func Missing(err error) bool {
	a, ok := errors.AsType[answer](err)
	return ok && a.RPCCode() == http.StatusNotFound || Condition(err) == amqp.ErrCondNotFound
}

// weigh is what an error means.
func weigh(err error) (kind fault.Kind, after time.Duration, fix string) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.Transient, 0, ""
	}
	if c := Condition(err); c != "" {
		m := meanings[c]
		if m.kind == fault.Throttled {
			after = busyPause
		}
		return m.kind, after, m.fix
	}
	if a, ok := errors.AsType[answer](err); ok {
		switch a.RPCCode() {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fault.Setup, 0, badToken
		case http.StatusNotFound:
			return fault.Setup, 0, missing
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			return fault.Throttled, busyPause, ""
		}
		return fault.Transient, 0, ""
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return response(e)
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		if e.RawResponse == nil || e.RawResponse.StatusCode >= http.StatusInternalServerError || e.RawResponse.StatusCode == http.StatusTooManyRequests {
			return fault.Transient, 0, ""
		}
		return fault.Setup, 0, "correct tenant_id, client_id, and client_secret or the certificate, or what the environment says in their place"
	}
	if strings.Contains(err.Error(), "DefaultAzureCredential") || strings.Contains(err.Error(), "ChainedTokenCredential") {
		return fault.Setup, 0, "no credentials were found: set credentials {}, EVENTHUB_CONNECTION_STRING, or run where a managed or workload identity is"
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return fault.Setup, 0, "there is no such host: look at the namespace"
	}
	if errors.Is(err, io.EOF) {
		return fault.Transient, 0, "the connection was ended"
	}
	return fault.Transient, 0, ""
}

// response is what an answer of Blob storage means.
func response(e *azcore.ResponseError) (fault.Kind, time.Duration, string) {
	switch {
	case e.ErrorCode == "ContainerNotFound":
		return fault.Setup, 0, "make it: az storage container create --account-name ACCOUNT --name CONTAINER"
	case e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusUnauthorized:
		return fault.Setup, 0, "give the identity the role \"Storage Blob Data Contributor\" on the container (az role assignment create --assignee ID --role ROLE --scope CONTAINER), or use the account's key"
	case e.StatusCode == http.StatusServiceUnavailable || e.StatusCode == http.StatusTooManyRequests || e.ErrorCode == "ServerBusy":
		return fault.Throttled, 0, ""
	case e.StatusCode >= http.StatusInternalServerError || e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusConflict || e.StatusCode == http.StatusPreconditionFailed:
		return fault.Transient, 0, ""
	case e.StatusCode == http.StatusNotFound:
		return fault.Setup, 0, "the storage account has no such resource: look at the address of the container"
	}
	return fault.Setup, 0, ""
}
