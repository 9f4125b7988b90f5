package connector

import "context"

// The optional abilities that say how a connector lives among the others of a config.
type (
	// Ender is a source that comes to an end by itself. A pipeline with one is not started
	// again when it fails: what it has read may be gone, as with standard input.
	Ender interface{ Ends() bool }
	// Fed is a source that ends once its queue is empty and end is closed, which means that
	// nothing will fill it any more. FeedUntil is called before Open, if at all.
	Fed interface{ FeedUntil(end <-chan struct{}) }
	// Exclusive is a source that holds, while it is open, what nobody else may hold, by
	// identities that are the same in every config: "position file /var/lib/x".
	Exclusive interface{ Exclusive() []string }
	// Inspector can say what would keep Open from working as far as that can be seen on this
	// machine, without the network and without changing anything: a file that is missing.
	// The error says it as New's does ([Blame]).
	Inspector interface{ Inspect() error }
	// Doubter knows which of its options work, and contradict what they are meant to be like: warnings,
	// each at its option.
	Doubter interface{ Doubts() []Problem }
	// Capacity is a target that knows, without a write, whether the other side has room for
	// anything: Full is an error of fault.NoRoom while it has none. It returns at once, also
	// before Open and after Close.
	Capacity interface{ Full() error }
	// Refuser is a source whose callers can be told to come back later before anything is taken
	// from them. It tells them so while full returns why; full returns at once. RefuseWhile is
	// called before Open. What it has taken and could not be written for want of room is given
	// back to it at once, since its callers wait.
	Refuser interface{ RefuseWhile(full func() error) }
	// Attendant is a source that can answer its callers while it is closed: that nothing is
	// taken just now. Attend has it do so whenever it is not open, until Dismiss, which ends with
	// nothing left behind. Both are safe twice.
	Attendant interface {
		Attend(ctx context.Context) error
		Dismiss(ctx context.Context) error
	}
	// Located is a source or target at a place of this machine, by a text that is equal for
	// equal places: the path of a file.
	Located interface{ Location() string }
)

// Held is the error of an Open that found what only one may have with another process. That
// is no mistake: whoever opens waits until it is let go, and holds up nothing else meanwhile.
type Held struct{ Err error }

func (h *Held) Error() string { return h.Err.Error() }

// Unwrap is what is held, and by whom.
func (h *Held) Unwrap() error { return h.Err }
