// Package failures is failed events at rest: how one is written as a row for a failure
// target, how a row is read back, where rows can be found again, and the source that sends
// their payloads through a pipeline once more.
//
// # Rows
//
// A row is one line of self-describing JSON, a Snowplow bad row of one of three schemas:
//
//	generic_error            payload: as the transforms left it
//	event_forwarding_error   payload: as it was read; latestState: as the transforms left it
//	size_violation           payload: as the transforms left it, of actualSizeBytes bytes
//
// or a failed record in the form of Amazon Data Firehose (package firehose), whose payload, as the
// transforms left it, is in base64. Rows that Snowbridge wrote and records that Firehose did are read as well, and lines of the target stdout in its longer
// form. JSON holds text only. A payload that is not UTF-8 is therefore written as the data
// URL "data:application/octet-stream;base64,...", and so is one that begins like such a URL,
// so that every payload comes back byte for byte. Rows of others have U+FFFD in its place.
//
// A row of ours says beside that (member "weir") in which pipeline its message failed, whose it is
// (workspace, source, destination), its key and its ID, so that a replay sends it where it was
// to go. Readers of self-describing JSON pass over the member. Where the row is bounded, a
// context that would take more than a quarter of it is left out.
//
// A row has to fit the failure target, and its payload is cut where it does not; the whole row is
// in the queue for what overflows then, where the pipeline has one. Our rows
// say so: a generic error has a second error for it, the message of a forwarding error
// begins with it, and a size violation has fewer bytes than it says. A payload that was cut
// is never sent through a pipeline again.
//
// # Identity
//
// A row of a file is named by its offset in the file, decompressed, and the hash of its
// line: OFFSET-HASH. A row in a queue has the ID of its job, and the job holds the payload
// as it was read, whatever the row holds.
//
// # Invariants
//
//   - A file of rows is never changed. What was replayed is noted in a journal beside it, a
//     line for each row, after the pipeline settled it and not before.
//   - A job leaves its queue only when the pipeline settled its message. What was leased and
//     not settled goes back as it was, and what was dead stays dead, with its ID and its reason.
//   - So a replay that is killed leaves nothing out: the next one sends what is left, and again what
//     was in flight.
//   - What comes into a file or queue after the reading began is not read, so that a replay
//     whose events fail again comes to an end.
package failures
