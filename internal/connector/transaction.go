package connector

// The optional abilities of connectors that move messages in transactions of the system they
// speak to. What a target writes of the messages of one source then counts together with the
// position of the source, or not at all.
//
// The engine joins them before it opens either, and does nothing else than always: it writes,
// it settles, and the source is told. The source ends a transaction when every message that it
// handed on in it has settled, and reads no further before. When one has failed, or its
// partition has gone to somebody else, the transaction is aborted, with what was written in it,
// and its messages are read again. A failure target, or a filter target, that is not joined has
// its messages at least once.
type (
	// TransactionSource is a source that may have targets write in its transactions.
	TransactionSource interface {
		Source
		// JoinTransactions has t write in the transactions of the source. The error says why it
		// cannot.
		JoinTransactions(t TransactionTarget) error
	}
	// TransactionTarget is a target that may write in the transactions of its source.
	TransactionTarget interface {
		Target
		// Transactional reports whether it is to: then it must be joined before it is opened.
		Transactional() bool
	}
)
