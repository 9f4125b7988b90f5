package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/fault"
)

// meanings says what errors of the protocol mean for delivery, where they are not expected to
// pass by themselves, and what to do.
var meanings = map[*kerr.Error]struct {
	kind fault.Kind
	fix  string
}{
	kerr.UnknownTopicOrPartition:            {fault.Setup, "create the topic, or correct its name; a user without the permission Describe on it sees it as unknown"},
	kerr.UnknownTopicID:                     {fault.Setup, "the topic was deleted and made again; it is looked up anew"},
	kerr.InvalidTopicException:              {fault.Setup, "correct the name of the topic: letters, digits, '.', '_' and '-', at most 249"},
	kerr.TopicAuthorizationFailed:           {fault.Setup, "give the user the permissions Read (source) or Write (target) and Describe on the topic"},
	kerr.GroupAuthorizationFailed:           {fault.Setup, "give the user the permission Read on the consumer group"},
	kerr.ClusterAuthorizationFailed:         {fault.Setup, "give the user the permission IdempotentWrite on the cluster, or set idempotent = false"},
	kerr.TransactionalIDAuthorizationFailed: {fault.Setup, "give the user the permissions Write and Describe on the transactional id"},
	kerr.SaslAuthenticationFailed:           {fault.Setup, "correct the user name, the password or sasl_algorithm; with oauthbearer, the brokers do not take the token of sasl_oauth: its issuer, audience, scopes or user; with aws_msk_iam, give the role kafka-cluster:Connect on the cluster"},
	kerr.UnsupportedSaslMechanism:           {fault.Setup, "set sasl_algorithm to a mechanism that the brokers enable"},
	kerr.IllegalSaslState:                   {fault.Setup, "the broker's listener wants SASL: set enable_sasl = true"},
	kerr.UnsupportedVersion:                 {fault.Setup, "the broker is too old for what is asked of it"},
	kerr.UnsupportedForMessageFormat:        {fault.Setup, "the topic has an old message format: set idempotent = false, and send no headers"},
	kerr.UnsupportedCompressionType:         {fault.Setup, "set compression to one that the broker takes"},
	kerr.InvalidRequiredAcks:                {fault.Setup, "set wait_for_all = true"},
	kerr.InconsistentGroupProtocol:          {fault.Setup, "members of the group use another assignor: stop them, or set assignor to theirs"},
	kerr.InvalidGroupID:                     {fault.Setup, "correct the name of the consumer group"},
	kerr.InvalidSessionTimeout:              {fault.Setup, "set session_timeout_ms to what the broker allows (group.min.session.timeout.ms to group.max.session.timeout.ms)"},
	kerr.InvalidTransactionTimeout:          {fault.Setup, "set transaction_timeout_ms to at most the broker's transaction.max.timeout.ms"},
	kerr.FencedInstanceID:                   {fault.Fatal, "another process has the same instance_id: give each its own"},
	kerr.ProducerFenced:                     {fault.Fatal, "another process has the same transactional_id: give each its own"},
	kerr.MessageTooLarge:                    {fault.Invalid, "the topic takes no message of this size: raise its max.message.bytes"},
	kerr.RecordListTooLarge:                 {fault.Invalid, "the broker takes no message of this size: raise its log segment size"},
	kerr.InvalidRecord:                      {fault.Invalid, "the broker refuses the message: a compacted topic wants a key, for instance"},
	kerr.InvalidTimestamp:                   {fault.Invalid, "the topic takes no message of this time (message.timestamp.before.max.ms and after.max.ms): set timestamp = \"now\""},
	kerr.ThrottlingQuotaExceeded:            {fault.Throttled, ""},
	kerr.PolicyViolation:                    {fault.Throttled, ""}, // how Event Hubs says that a request would wait for too long
}

// Fault gives err its meaning for delivery. What the client or the broker expects to pass is
// transient.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	if e := (*fault.Error)(nil); errors.As(err, &e) {
		return err
	}
	if e := (*kerr.Error)(nil); errors.As(err, &e) {
		m, known := meanings[e]
		if !known {
			return err
		}
		d := fault.Detail{Type: "api", Code: e.Message, Safe: e.Description}
		if m.fix != "" {
			err = fmt.Errorf("%w: %s", err, m.fix)
		}
		return fault.Describe(m.kind, err, d)
	}
	switch {
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries), errors.Is(err, kgo.ErrMaxBuffered):
		return err
	case untrusted(err):
		return fault.New(fault.Setup, fmt.Errorf("%w: set ca_file to the authority that signed the brokers' certificates, or correct the names in brokers", err))
	}
	return err
}

// untrusted reports whether a certificate is why there is no connection.
func untrusted(err error) bool {
	if e := (*tls.CertificateVerificationError)(nil); errors.As(err, &e) {
		return true
	}
	unknown, other := x509.UnknownAuthorityError{}, x509.HostnameError{}
	return errors.As(err, &unknown) || errors.As(err, &other)
}

// BrokerPatience is how long a call waits for a cluster that does not answer at all, where
// nothing else says how long.
const BrokerPatience = 30 * time.Second
