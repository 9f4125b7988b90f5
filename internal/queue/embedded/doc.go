// Package embedded is the queue store that lives in a directory: an append-only log that
// holds every commit, and a Pebble database with what the log amounts to.
//
// # Files
//
//	FORMAT             name and version of this layout
//	LOCK               held while the store is open
//	MARK               the high-water mark: which commits were acknowledged
//	CLOCK              where the clock that waits go by goes on (clock.go)
//	log/000000001.seg  segments of the log: one frame for each commit
//	state/             Pebble: places of values, side table, records, numbers of the lanes
//
// # A commit
//
// One goroutine takes whatever transactions wait, writes a frame for each into the
// log with one write and one fdatasync, notes the high-water mark, applies them to the
// state, and only then answers. The log alone is the truth. The state is written without
// a log of its own and reaches the disk when Pebble flushes it, always as it was after
// some commit; opening replays what the log has beyond that. Payloads are written once:
// the state holds places in the log, and a segment is deleted when nothing in it is open
// and the state that says so is on disk. Segments that are mostly dead are emptied by
// appending what is still open once more ([Store.Compact]).
//
// # Reading
//
// What was appended last and not read yet is kept in memory, up to Options.RecentBytes: a
// reader that keeps up does not read the log. The kernel is asked to forget segments that
// are far behind the end of the log, so that a backlog does not fill its memory.
//
// # What is detected
//
//	a torn tail           frames after the last valid one, up to the mark, are lost: refused.
//	                      Beyond the mark nothing was acknowledged: the tail is cut off
//	a flipped byte        every frame, value and record has a CRC-32C; a damaged frame
//	                      before the mark, or in front of one of a later group, is refused
//	a lost segment        commits are numbered, and each segment names its first
//	a state that is short the state names the commit it stands at; the log must go on from
//	                      there, and must reach the mark
//
// [Salvage] makes of a store that is refused one with everything that can still be read.
//
// The mark is written before an answer and synced a moment later, so it survives kill
// -9 exactly and a power failure up to that moment; it can never be ahead of the log.
//
// # Bytes
//
//	segment := header frame*
//	header  := "WEIRLOG1" number(8) first(8) crc(4) 0(36)   first: its first commit; the
//	           segment before ends with the commit in front of it, whatever follows there
//	frame   := crc(4) magic(4) commit(8) group(8) metaSize(4) dataSize(4) meta data
//	           group: the first commit that was written and synced together with this one
//	meta    := n append* change n write*         (partition.Change)
//	append  := lane seq count size flags(1) crc(4) [queue workspace source destination]
//	write   := key flags(1) [size crc(4)]
//
// The crc of a frame covers the rest of its header and meta; values, in data, have theirs
// in meta. Fixed numbers are big endian, the others varints.
package embedded
