package meter

import "context"

type unlimited struct{}

// Unlimited is a context with which every line of the log is written, however often it comes: for
// those that somebody else has limited, and for what a user's own program says.
func Unlimited(ctx context.Context) context.Context {
	return context.WithValue(ctx, unlimited{}, true)
}

// IsUnlimited reports whether ctx is one of [Unlimited].
func IsUnlimited(ctx context.Context) bool { return ctx.Value(unlimited{}) != nil }
