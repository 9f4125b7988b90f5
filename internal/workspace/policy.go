package workspace

import "time"

// How deliveries to a destination are repeated, as RudderStack does: the pipeline that
// delivers from a queue takes its policy from here.
const (
	// RetryDelay is the wait after the first attempt that failed; it doubles with each
	// further one.
	RetryDelay = 10 * time.Second
	// RetryDelayMax bounds the doubling.
	RetryDelayMax = 300 * time.Second
	// GiveUpAfter is how long after its first attempt an event may be given up.
	GiveUpAfter = 180 * time.Minute
	// GiveUpAttempts is how many attempts an event has had at least when it is given up.
	GiveUpAttempts = 3
)

// RetryAfter is the wait after failed attempt n, counted from 1: min(300 s, 10 s * 2^(n-1)),
// without jitter.
func RetryAfter(n int) time.Duration {
	d := RetryDelay
	for ; n > 1 && d < RetryDelayMax; n-- {
		d *= 2
	}
	return min(d, RetryDelayMax)
}

// GiveUp reports whether an event that was attempted n times, the first time since ago,
// is given up. throttled says that the last answer was 408 or 429: such an event is
// never given up by this rule.
func GiveUp(n int, since time.Duration, throttled bool) bool {
	return !throttled && n >= GiveUpAttempts && since > GiveUpAfter
}
