// Package snowplow reads Snowplow enriched events and writes Snowplow bad rows. It is
// made of functions over bytes: nothing here reads a clock, a file or the network.
//
// # Enriched event
//
// An enriched event is one line of exactly 131 fields separated by tabs, in a fixed
// order ([FieldNames]). An empty field is absent. Each field has a type ([Kind]):
// most are strings; timestamps are written "2006-01-02 15:04:05.999" in UTC, booleans
// "0" or "1". Three fields hold self-describing JSON: contexts and derived_contexts a
// list of entities, unstruct_event a single one, each entity a schema URI
//
//	iglu:vendor/name/format/model-revision-addition
//
// and its data, an object. An entity's shredded name is the vendor with dots as
// underscores, the name in snake case and the model:
//
//	contexts_com_acme_page_context_1, unstruct_event_com_acme_link_click_2
//
// # JSON form
//
// [Event.AppendJSON] writes one object. Its keys are the atomic fields that are not
// empty, in the order of the line; then one array for each distinct shredded name of
// contexts, in the order of first appearance; then the unstruct_event; then the same
// for derived_contexts. A name in both lists of entities appears once, with the derived
// entities only. Data of entities is copied as it stands: numbers keep their digits and
// duplicate keys stay, while white space outside strings is dropped so that the object
// is always one line. Bytes that are not UTF-8 become U+FFFD.
//
// # Invariants
//
//  1. A parsed [Event] aliases the line it was made from; the line is never written to.
//  2. What AppendJSON returns without an error is valid JSON in valid UTF-8.
//  3. No input makes a function of this package panic.
//  4. A bad row is never longer than its limit and always valid against its schema.
package snowplow
