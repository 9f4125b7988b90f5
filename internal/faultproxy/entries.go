package faultproxy

import (
	"encoding/json"
	"maps"
	"net/http"
)

// Entry is one of what a call carries: a record of PutRecords or PutRecord, a message of
// SendMessageBatch or SendMessage, a handle of DeleteMessageBatch or
// ChangeMessageVisibilityBatch.
type Entry struct {
	Operation string
	// Call and Index say where it came: in the n-th call of the operation (from 1), at which
	// place (from 0).
	Call, Index int
	// Stream is the name or ARN of the stream, or the URL of the queue.
	Stream string
	// Key is the partition key or the message group; Hash the explicit hash key; ID the entry's
	// own of a batch of SQS.
	Key, Hash, ID string
	// Data is the record, the body of the message or its handle.
	Data []byte
	// Shard and Sequence are where the engine put a record; Sequence is the number or identity of
	// a message.
	Shard, Sequence string
}

// EntryError is how one entry fails.
type EntryError struct {
	Code, Message string
	// SenderFault is SQS's word for what it is no use to send again.
	SenderFault bool
}

// TooMuch fails an entry as a shard does that has enough.
var TooMuch = &EntryError{Code: "ProvisionedThroughputExceededException", Message: "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."}

// Some fails the entries of a call for which fail is not nil, and forwards the others.
func Some(fail func(e Entry) *EntryError) Action { return some{fail} }

type some struct{ fail func(e Entry) *EntryError }

// wireEntry has the members of what is asked and answered, for whole calls and entries.
type wireEntry struct {
	Data            []byte `json:"Data"`
	PartitionKey    string `json:"PartitionKey"`
	ExplicitHashKey string `json:"ExplicitHashKey"`
	ID              string `json:"Id"`
	MessageBody     string `json:"MessageBody"`
	MessageGroupID  string `json:"MessageGroupId"`
	ReceiptHandle   string `json:"ReceiptHandle"`
	StreamName      string `json:"StreamName"`
	StreamARN       string `json:"StreamARN"`
	QueueURL        string `json:"QueueUrl"`
	ShardID         string `json:"ShardId"`
	SequenceNumber  string `json:"SequenceNumber"`
	MessageID       string `json:"MessageId"`
	ErrorCode       string `json:"ErrorCode"`
}

func (w *wireEntry) into(e *Entry) {
	e.Key, e.Hash, e.ID, e.Data = w.PartitionKey, w.ExplicitHashKey, w.ID, w.Data
	switch {
	case w.MessageBody != "":
		e.Key, e.Data = w.MessageGroupID, []byte(w.MessageBody)
	case w.ReceiptHandle != "":
		e.Data = []byte(w.ReceiptHandle)
	}
}

// members are where the entries of an operation are; "" is the body itself.
var members = map[string]string{
	"PutRecords": "Records", "SendMessageBatch": "Entries", "DeleteMessageBatch": "Entries", "ChangeMessageVisibilityBatch": "Entries",
	"PutRecord": "", "SendMessage": "", "DeleteMessage": "",
}

// parse is a body's members, the entries in it as they are written, and what they say.
func parse(c *Call, body []byte) (object map[string]json.RawMessage, raw []json.RawMessage, entries []Entry) {
	member, known := members[c.Operation]
	if !known || json.Unmarshal(body, &object) != nil {
		return object, nil, nil
	}
	var top wireEntry
	_ = json.Unmarshal(body, &top)
	if member == "" {
		raw = []json.RawMessage{body}
	} else if json.Unmarshal(object[member], &raw) != nil {
		return object, nil, nil
	}
	for i, text := range raw {
		var w wireEntry
		_ = json.Unmarshal(text, &w)
		e := Entry{Operation: c.Operation, Call: c.N, Index: i, Stream: top.StreamName + top.QueueURL}
		if e.Stream == "" {
			e.Stream = top.StreamARN
		}
		w.into(&e)
		entries = append(entries, e)
	}
	return object, raw, entries
}

func (s some) do(p *AWS, w http.ResponseWriter, r *http.Request, c *Call) {
	object, raw, entries := parse(c, c.Body)
	failed := map[int]*EntryError{}
	var rest []json.RawMessage
	var places []int
	p.asking.Lock()
	for i, e := range entries {
		if f := s.fail(e); f != nil {
			failed[i] = f
			continue
		}
		rest, places = append(rest, raw[i]), append(places, i)
	}
	p.asking.Unlock()
	if len(failed) == 0 || members[c.Operation] == "" {
		pass{}.do(p, w, r, c)
		return
	}
	a := &answer{status: http.StatusOK, header: http.Header{"Content-Type": r.Header["Content-Type"]}, body: []byte("{}")}
	if len(rest) > 0 {
		body := encode(with(object, members[c.Operation], rest))
		got, err := p.whole(r.Context(), r.Header, body)
		if err != nil {
			cut(w)
			return
		}
		if got.status != http.StatusOK {
			got.write(w)
			return
		}
		p.noteAt(c, body, got, places)
		a = got
	}
	if c.Operation == "PutRecords" {
		a.body = mergeRecords(a.body, len(raw), places, failed)
	} else {
		a.body = mergeResults(a.body, entries, failed)
	}
	a.write(w)
}

func with(object map[string]json.RawMessage, member string, value any) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	maps.Copy(out, object)
	out[member] = encode(value)
	return out
}

// encode is v in JSON; everything that this package encodes can be.
func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// mergeRecords is the answer to PutRecords with all n entries in their order: those at places
// from the engine's answer, the others failed.
func mergeRecords(body []byte, n int, places []int, failed map[int]*EntryError) []byte {
	var object map[string]json.RawMessage
	var got []json.RawMessage
	var count int
	_ = json.Unmarshal(body, &object)
	_ = json.Unmarshal(object["Records"], &got)
	_ = json.Unmarshal(object["FailedRecordCount"], &count)
	records := make([]json.RawMessage, n)
	for j, i := range places {
		if j < len(got) {
			records[i] = got[j]
		}
	}
	for i, f := range failed {
		records[i] = encode(map[string]string{"ErrorCode": f.Code, "ErrorMessage": f.Message})
	}
	return encode(with(with(object, "Records", records), "FailedRecordCount", count+len(failed)))
}

// mergeResults is the answer to a batch of SQS with the failed entries beside those of the
// engine.
func mergeResults(body []byte, entries []Entry, failed map[int]*EntryError) []byte {
	var object map[string]json.RawMessage
	var refused []json.RawMessage
	_ = json.Unmarshal(body, &object)
	_ = json.Unmarshal(object["Failed"], &refused)
	for i, e := range entries {
		if f := failed[i]; f != nil {
			refused = append(refused, encode(map[string]any{"Id": e.ID, "Code": f.Code, "Message": f.Message, "SenderFault": f.SenderFault}))
		}
	}
	if object["Successful"] == nil {
		object = with(object, "Successful", []string{})
	}
	return encode(with(object, "Failed", refused))
}

// note lists what the engine has accepted of a body.
func (p *AWS) note(c *Call, body []byte, a *answer) { p.noteAt(c, body, a, nil) }

// noteAt is note for a body with a part of the entries, which stood at places.
func (p *AWS) noteAt(c *Call, body []byte, a *answer, places []int) {
	if _, known := members[c.Operation]; !known || a.status != http.StatusOK {
		return
	}
	_, _, entries := parse(c, body)
	var got struct {
		wireEntry
		Records    []wireEntry `json:"Records"`
		Successful []wireEntry `json:"Successful"`
	}
	_ = json.Unmarshal(a.body, &got)
	byID := map[string]wireEntry{}
	for _, s := range got.Successful {
		byID[s.ID] = s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range entries {
		result, ok := got.wireEntry, true
		switch c.Operation {
		case "PutRecords":
			if ok = i < len(got.Records); ok {
				result = got.Records[i]
			}
		case "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
			result, ok = byID[e.ID]
		}
		if !ok || result.ErrorCode != "" {
			continue
		}
		if places != nil {
			e.Index = places[i]
		}
		e.Shard, e.Sequence = result.ShardID, result.SequenceNumber+result.MessageID
		p.accepted = append(p.accepted, e)
	}
}

// Accepted is what the engine has taken, in the order of its answers.
func (p *AWS) Accepted() []Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Entry(nil), p.accepted...)
}
