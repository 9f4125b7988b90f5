package aws

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
)

var (
	queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$|^[A-Za-z0-9_-]{1,75}\.fifo$`)
	accountID = regexp.MustCompile(`^\d{12}$`)
)

// LegalQueueName reports whether a queue may have a name.
func LegalQueueName(name string) bool { return queueName.MatchString(name) }

// QueueProblems are what can be known to be wrong with the options queue_name and
// queue_owner_account_id.
func QueueProblems(name, owner string) []connector.Problem {
	var ps []connector.Problem
	if !LegalQueueName(name) {
		ps = append(ps, connector.Problem{Field: "queue_name", What: fmt.Sprintf("queue_name %q is not the name of a queue", name),
			Fix: "write the name alone, not the URL or ARN: letters, digits, - and _, and .fifo at the end of a FIFO queue's"})
	}
	if owner != "" && !accountID.MatchString(owner) {
		ps = append(ps, connector.Problem{Field: "queue_owner_account_id", What: fmt.Sprintf("queue_owner_account_id %q is not the id of an account", owner), Fix: `write its twelve digits, as "123456789012"`})
	}
	return ps
}

// QueueFinder is what finding a queue asks of SQS.
type QueueFinder interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// FindQueue finds a queue by its name, in the account with an id or, without one, that of the
// credentials, and what its attributes say. Who may not read attributes knows no limits and no
// redrive policy.
func FindQueue(ctx context.Context, c QueueFinder, name, owner string) (format.Queue, error) {
	in := &sqs.GetQueueUrlInput{QueueName: &name}
	if owner != "" {
		in.QueueOwnerAWSAccountId = &owner
	}
	out, err := c.GetQueueUrl(ctx, in)
	if err != nil {
		return format.Queue{}, Fault(fmt.Sprintf("find queue %q", name), err)
	}
	if out.QueueUrl == nil {
		return format.Queue{}, fault.New(fault.Setup, fmt.Errorf("find queue %q: the answer has no URL: look at custom_aws_endpoint", name))
	}
	q, err := DescribeQueue(ctx, c, name, *out.QueueUrl)
	if Forbidden(err) {
		q = format.Describe(name, *out.QueueUrl, nil)
		q.Unread = true
		return q, nil
	}
	return q, err
}

// DescribeQueue is what the attributes of a queue say now.
func DescribeQueue(ctx context.Context, c QueueFinder, name, url string) (format.Queue, error) {
	out, err := c.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return format.Queue{}, Fault(fmt.Sprintf("read the attributes of queue %q", name), err)
	}
	return format.Describe(name, url, out.Attributes), nil
}

// Forbidden reports whether err says that the identity in use may not do something.
func Forbidden(err error) bool {
	var e *fault.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Detail.Code {
	case "AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation":
		return true
	}
	return false
}
