package config

import "time"

// Retry says how often, and how long apart, a failed write is tried again, by what the
// failure means.
type Retry struct {
	// Failures that are expected to pass soon: a timeout, a refused connection.
	Transient *RetryPolicy `hcl:"transient,block"`
	// Failures that need somebody to change something: bad credentials, a missing topic.
	Setup *RetryPolicy `hcl:"setup,block"`
	// The target asks for fewer requests.
	Throttle *RetryPolicy `hcl:"throttle,block"`
}

// RetryPolicy is how one kind of failure is retried. The wait doubles with each attempt.
type RetryPolicy struct {
	// Wait, in milliseconds, before the second attempt; doubled for each one after it.
	DelayMillis int `hcl:"delay_ms,optional"`
	// Number of attempts before giving up; 0 means no limit. Where the source is a queue and
	// neither this nor give_up_after_ms is written, a message is given up once it has been tried
	// for 12 hours. Where the source is a queue and no kind of failure has a limit, the target
	// may be down for any length of time: its writers pause together while it takes nothing, and
	// it need not be there at the start.
	MaxAttempts int `hcl:"max_attempts,optional"`
	// What happens when attempts are used up: true sends the messages to the failure
	// target, false stops the pipeline and leaves them to the source.
	InvalidAfterMax bool `hcl:"invalid_after_max,optional"`
	// Longest wait, in milliseconds, between two attempts. When left out and delay_ms is
	// greater than the default, it is delay_ms.
	MaxDelayMillis int `hcl:"max_delay_ms,optional"`
	// Age, in milliseconds since a message came into its queue, before which it is not
	// given up, however many attempts it has had; 0 means that max_attempts alone decides.
	// It applies to pipelines whose source is a queue.
	GiveUpAfterMillis int `hcl:"give_up_after_ms,optional"`

	// Decided says that when to give up is written.
	Decided bool `json:"-"`
}

// tryFor is how long a message that waits in a queue is tried where the config does not say:
// longer than a night.
const tryFor = 12 * time.Hour

// TryFor is how long a message that waits in a queue is tried at least before it is given up;
// zero where the config says when that is.
func (r *RetryPolicy) TryFor() time.Duration {
	if r.Decided {
		return 0
	}
	return tryFor
}

// GiveUpAfter is GiveUpAfterMillis as a duration.
func (r *RetryPolicy) GiveUpAfter() time.Duration { return millis(r.GiveUpAfterMillis) }

// Delay is DelayMillis as a duration.
func (r *RetryPolicy) Delay() time.Duration { return millis(r.DelayMillis) }

// MaxDelay is MaxDelayMillis as a duration.
func (r *RetryPolicy) MaxDelay() time.Duration { return millis(r.MaxDelayMillis) }

const defaultMaxDelayMillis = 300_000

func retryAfter(delayMillis int) *RetryPolicy {
	return &RetryPolicy{DelayMillis: delayMillis, MaxAttempts: 5, MaxDelayMillis: defaultMaxDelayMillis}
}
