package connector

import "context"

// Successive is a target that is written by several at once, and yet has to do some of its work
// in the order in which its batches left.
type Successive interface {
	Target
	// Begin is called for each batch, in their order, before the first attempt to write it. It
	// must not block. Mark says in the context of every attempt which batch it is, and end is
	// called once nothing more of it will be tried.
	Begin() (mark func(context.Context) context.Context, end func())
}
