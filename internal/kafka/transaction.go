package kafka

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Transactions are what a source lends the targets of its pipeline that write in its
// transactions: one producer, whose open transaction everything is written in that became of
// what the source has read since it began.
type Transactions interface {
	// Producer is the client to write with, from Open of the source to its Close. A write that
	// begins after a message was read and ends before that is settled lies in one transaction
	// with it.
	Producer() (*kgo.Client, error)
}

// TransactionSettings are how a producer has transactions.
type TransactionSettings struct {
	ID                string        // no other producer has it at the same time
	Timeout, Interval time.Duration // after which the broker aborts one; after which we end one
}

// Transactional is a target that writes in transactions of its source.
type Transactional interface {
	// Cluster is equal for one with the same brokers.
	Cluster() string
	// ProducerOptions are how its producer writes, and Writes a text that is equal for equal
	// ones.
	ProducerOptions() (opts []kgo.Opt, writes string)
	Transaction() TransactionSettings
	// WriteIn has it write in the transactions of its source, from its next Open on.
	WriteIn(Transactions)
}

// Ping asks any broker for an answer, for as long as it makes sense to wait.
func Ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, BrokerPatience)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		seeds, _ := cl.OptValue(kgo.SeedBrokers).([]string)
		return Fault(fmt.Errorf("reach the brokers %s: %w", strings.Join(seeds, ", "), err))
	}
	return nil
}
