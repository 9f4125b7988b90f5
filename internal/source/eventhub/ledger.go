package eventhubsource

import (
	"context"
	"errors"
	"time"
)

// ledger keeps who owns which partition, and how far each was read. Its methods may be called at
// once by several goroutines, but claim and save of one partition by one only.
type ledger interface {
	// open finds what is there. It is called before the other methods.
	open(ctx context.Context) error
	// owners are the ownerships there are, by partition.
	owners(ctx context.Context) (map[string]ownership, error)
	// claim makes next the ownership of its partition, if what is there is still now; now is the
	// zero ownership where none is. The result has its version. errLost says that it is not.
	claim(ctx context.Context, now, next ownership) (ownership, error)
	// checkpoint is how far a partition was read; a version of "" stands for none.
	checkpoint(ctx context.Context, partition string) (mark, error)
	// save makes to the checkpoint of the partition of mine, if was is still there. errLost says
	// that the partition has another owner; errChanged that the checkpoint is another one, though
	// the owner is not.
	save(ctx context.Context, mine ownership, was mark, to position) (mark, error)
}

var (
	errLost    = errors.New("the partition has another owner")
	errChanged = errors.New("the checkpoint was changed by somebody else")
)

// ownership is a claim to a partition. One whose owner is empty was given back.
type ownership struct {
	partition, owner string
	// epoch grows with every new owner that writes one: readers with a lower one are ended.
	epoch int64
	// lasts is how long it holds without being renewed; zero where its owner does not say so.
	lasts time.Duration
	// version changes with every write.
	version string
	// age is how long ago it was written when it was listed, where the ledger knows; else below 0.
	age time.Duration
}

// position is that of an event in its partition.
type position struct {
	sequence int64
	offset   string
}

// mark is a checkpoint: the position of the last event that needs not be read again.
type mark struct {
	position
	version string
}
