package queue

import (
	"context"
	"time"
)

// Settlement is a result on its way into the store.
type Settlement struct {
	Result
	Queue string
	Scope Scope
	// By is who settles, as [SettledBy] says; empty when nobody has said.
	By string
	// Now is the time of the transaction, by the clock of the store.
	Now time.Time
}

// Observer is told what an Update settles, when its function has returned. It runs inside of
// the transaction: what it puts and appends is durable with the results, or not at all, so
// that what it keeps of them is never ahead of them, nor behind. It may not settle. An error
// of it is that of the Update, which changes nothing. It runs again when the Update does, and
// has no effect but through tx; it must not keep tx or settled.
type Observer func(tx Tx, settled []Settlement) error

type settler struct{}

// SettledBy returns a context whose Updates tell observers that who settles.
func SettledBy(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, settler{}, who)
}

// Settler is who settles, as SettledBy says.
func Settler(ctx context.Context) string {
	who, _ := ctx.Value(settler{}).(string)
	return who
}
