// Package rows is the queue store on a log: any queue/log holds every commit, and a Pebble
// database in a directory of this machine what the log amounts to.
//
// # A commit
//
// One goroutine takes whatever transactions wait, appends an entry for each to the log, all
// as one group, applies them to the state, and only then answers. The log alone is the
// truth. The state is written without a log of its own and reaches the disk when Pebble
// flushes it, always as it was after some commit; opening replays what the log has beyond
// that. Payloads are written once: the state holds places in the log, and a segment is
// trimmed when nothing in it is open and the state that says so is on disk. Segments that
// are mostly dead are emptied by appending what is still open once more ([Store.Compact]).
//
// # Reading
//
// What was appended last and not read yet is kept in memory, up to Options.RecentBytes: a
// reader that keeps up does not read the log.
//
// # What is detected
//
//	a damaged commit      every value and record has a CRC-32C in the head of its entry,
//	                      which the log covers; the log says what is damage and what its end
//	a lost segment        the state knows where something is open
//	a state that is short the state names the commit it stands at; the log must go on from
//	                      there
//	another log           the state names the log it was made from
//
// [Salvage] makes of a store that is refused one with everything that can still be read.
//
// # Bytes of an entry
//
//	head    := n append* change n write*         (partition.Change)
//	append  := lane seq count size flags(1) crc(4) [queue workspace source destination]
//	write   := key flags(1) [size crc(4)]
//	data    := value* record*                    as head names them
//
// Fixed numbers are big endian, the others varints.
package rows
