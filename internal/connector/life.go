package connector

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
	// Located is a source or target at a place of this machine, by a text that is equal for
	// equal places: the path of a file.
	Located interface{ Location() string }
)
