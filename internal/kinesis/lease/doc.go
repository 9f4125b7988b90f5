// Package lease decides who reads which shard of a Kinesis stream, and from where. Instances
// agree through a table with one row for each shard: who holds it, a counter that only grows, and
// the position up to which everything is done. There is no other link between them, and no leader.
//
// # Protocol
//
// The counter is the only clock that instances share. A holder raises it with everything it
// writes, each time on the condition that it is what the holder left there. A row whose counter
// did not change for the fail-over time, as the observer's own clock has it, may be taken, on the
// same condition; so two that want one row, or a holder that wakes up meanwhile, cannot both have
// it. Each instance looks at the whole table now and then, and takes what it lacks for an equal
// share: first what nobody holds, else from those that have most, and never more than it lacks.
//
// Tables: the schema of the Kinesis Client Library 2.x in DynamoDB (see [NewKCL]), whose workers
// may share it with ours; the three tables of a Snowbridge (see [NewKinsumer]); records in a store
// of ours (see [NewStore]); memory, for tests (see [NewMemory]).
//
// # Invariants
//
//  1. A holder that did not reach the table for the fail-over time gives up by its own clock,
//     before anybody may take the shard. One from which it is taken while it lives, since another
//     has less, finds out with its next write, for which the other waits; nothing that it does
//     until then moves the position.
//  2. A position in the table never moves back, and is written only by who holds the shard.
//  3. What a holding leaves behind is refused: each has its own [Lease], which is of no use once
//     it is lost, also to the instance that takes the shard again.
//  4. A shard is offered only when all its parents have been read to their end. The rows of its
//     children are there before its own says that it has ended, and children start at their
//     beginning.
//  5. A row is changed attribute by attribute: what others keep in it stays.
//  6. A row that cannot be understood, a lease that is lost and a table that does not answer stop
//     nothing else.
package lease
