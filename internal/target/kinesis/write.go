package kinesistarget

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// write is one Write on its way.
type write struct {
	t      *Target
	s      *stream
	b      event.Batch
	failed map[int]error
	// requests is how many more may be made to find records at fault.
	requests int
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	w := write{t: t, b: b, failed: map[int]error{}}
	for rest := w.all(); len(rest) > 0; {
		rest = w.stream(ctx, rest)
	}
	if len(w.failed) == 0 {
		return nil
	}
	return &connector.Partial{Failed: w.failed}
}

func (w *write) all() []int {
	index := make([]int, len(w.b))
	for i := range index {
		index[i] = i
	}
	return index
}

// stream writes those messages at index that go to the stream of the first of them, and returns
// the others: of the engine's batches, none.
func (w *write) stream(ctx context.Context, index []int) (others []int) {
	name := w.t.streamOf(w.b[index[0]])
	mine := index
	if w.t.c.StreamHeader != "" {
		mine = nil
		for _, i := range index {
			if w.t.streamOf(w.b[i]) == name {
				mine = append(mine, i)
			} else {
				others = append(others, i)
			}
		}
	}
	if err := w.open(ctx, name); err != nil {
		for _, i := range mine {
			w.failed[i] = err
		}
		return others
	}
	rs := make([]record, 0, len(mine))
	for _, i := range mine {
		r, refused := w.t.record(w.s, w.b[i], i)
		if refused != nil {
			w.failed[i] = refused
			continue
		}
		rs = append(rs, r)
	}
	if w.t.c.Aggregate {
		rs = w.t.pack(w.s, rs)
	}
	w.requests = 8 * bits.Len(uint(len(rs)))
	w.send(ctx, rs)
	return others
}

// open finds the stream called name.
func (w *write) open(ctx context.Context, name string) (err error) {
	if !streamName.MatchString(name) {
		return invalid("StreamName", fmt.Errorf("its header %s is neither the name nor the ARN of a stream", w.t.c.StreamHeader))
	}
	var fresh bool
	if w.s, fresh, err = w.t.stream(name); err == nil && fresh {
		_ = w.s.describe(ctx) // putting the records says what is wrong
	}
	return err
}

// send sends records; in rounds without the same key twice, where order is kept.
func (w *write) send(ctx context.Context, rs []record) {
	if !w.t.ordered {
		w.round(ctx, rs)
		return
	}
	for len(rs) > 0 {
		var first []record
		first, rs = firsts(rs)
		w.round(ctx, first)
		behind := map[string]error{}
		for _, r := range first {
			if err := w.failed[r.index]; err != nil && fault.Of(err) != fault.Invalid {
				behind[r.key] = fmt.Errorf("held back behind one with its key: %w", err)
			}
		}
		free := rs[:0]
		for _, r := range rs {
			if err := behind[r.key]; err != nil {
				w.fail(r, err)
				continue
			}
			free = append(free, r)
		}
		rs = free
	}
}

// round sends records in as many requests as they need, but those whose part has enough.
func (w *write) round(ctx context.Context, rs []record) {
	if !w.s.parts.idle() {
		now := time.Now()
		free := make([]record, 0, len(rs))
		for _, r := range rs {
			if wait := w.s.parts.wait(r.part(), now); wait > 0 {
				w.fail(r, fault.Pace(w.enough(), wait))
				continue
			}
			free = append(free, r)
		}
		rs = free
	}
	var err error
	for len(rs) > 0 {
		n, bytes := 0, 0
		for n < len(rs) && n < mostRecords && (n == 0 || bytes+rs[n].size() <= mostRequestBytes) {
			bytes += rs[n].size()
			n++
		}
		if err == nil {
			err = w.put(ctx, rs[:n])
		} else {
			for _, r := range rs[:n] {
				w.fail(r, err)
			}
		}
		rs = rs[n:]
	}
}

func (w *write) enough() error {
	return fmt.Errorf("stream %s: the shard takes no more now", w.s.name)
}

// fail gives every message of a record its error.
func (w *write) fail(r record, err error) {
	w.failed[r.index] = err
	for _, i := range r.more {
		w.failed[i] = err
	}
}

// put makes one request, and others when something in it is at fault. The error is that of all
// that was not taken, and would be that of whatever came behind.
func (w *write) put(ctx context.Context, rs []record) error {
	in := &kinesis.PutRecordsInput{Records: make([]types.PutRecordsRequestEntry, len(rs))}
	in.StreamName, in.StreamARN = w.s.names()
	for i := range rs {
		e := &in.Records[i]
		e.Data, e.PartitionKey = rs[i].data, &rs[i].key
		if rs[i].hash != "" {
			e.ExplicitHashKey = &rs[i].hash
		}
	}
	out, err := w.s.client.PutRecords(ctx, in)
	if err == nil {
		w.outcomes(rs, out)
		return nil
	}
	if aboutRecords(err) {
		if len(rs) == 1 {
			w.fail(rs[0], fault.Describe(fault.Invalid, aws.Fault("put a record into stream "+w.s.name, err), fault.Detail{Type: "api", Code: aws.Code(err), Safe: aws.Code(err)}))
			return nil
		}
		if w.requests > 0 {
			w.requests -= 2
			if err := w.put(ctx, rs[:len(rs)/2]); err != nil {
				for _, r := range rs[len(rs)/2:] {
					w.fail(r, err)
				}
				return err
			}
			return w.put(ctx, rs[len(rs)/2:])
		}
	}
	whole := w.whole(err)
	for _, r := range rs {
		w.fail(r, whole)
	}
	return whole
}

// aboutRecords reports whether a request failed because of what is in it.
func aboutRecords(err error) bool {
	var api smithy.APIError
	switch code := aws.Code(err); {
	case code != "InvalidArgumentException" && code != "ValidationException":
		return false
	case errors.As(err, &api):
		text := strings.ToLower(api.ErrorMessage())
		return !strings.Contains(text, "'stream") // a member of the request: the config is at fault
	}
	return true
}

// whole is the error of a request that failed.
func (w *write) whole(err error) error {
	doing := "put records into stream " + w.s.name
	switch code := aws.Code(err); {
	case code == "ResourceNotFoundException" && w.s.name != w.t.c.StreamName:
		return fault.Describe(fault.Invalid, aws.Fault(doing, err), fault.Detail{Type: "api", Code: code, Safe: "no such stream"})
	case code == "" && fault.Of(aws.Fault(doing, err)) == fault.Transient:
		return fmt.Errorf("%w; what was sent and not answered may have been taken, and is sent again", aws.Fault(doing, err))
	}
	return aws.Fault(doing, err)
}

// outcomes takes the answer to a request apart.
func (w *write) outcomes(rs []record, out *kinesis.PutRecordsOutput) {
	failed := out.FailedRecordCount != nil && *out.FailedRecordCount > 0
	if !failed && len(out.Records) == len(rs) && w.s.parts.idle() {
		return
	}
	now := time.Now()
	for i, r := range rs {
		if i >= len(out.Records) {
			w.fail(r, fault.New(fault.Transient, fmt.Errorf("put records into stream %s: the answer has %d outcomes for %d records", w.s.name, len(out.Records), len(rs))))
			continue
		}
		if e := &out.Records[i]; e.ErrorCode == nil || *e.ErrorCode == "" {
			if !w.s.parts.idle() {
				w.s.parts.taken(r.part(), sdk.ToString(e.ShardId), now)
			}
		}
	}
	for i, r := range rs[:min(len(rs), len(out.Records))] {
		e := &out.Records[i]
		if e.ErrorCode == nil || *e.ErrorCode == "" {
			continue
		}
		text := sdk.ToString(e.ErrorMessage)
		w.fail(r, w.entry(&r, *e.ErrorCode, text, now))
	}
}

// shardIn finds in the text of a refusal which shard it was.
var shardIn = regexp.MustCompile(`shardId-\d+`)

// entry is the error of one record: one whose shard has enough waits for its turn, as long as
// the shard takes others.
func (w *write) entry(r *record, code, text string, now time.Time) error {
	err := aws.Entry("put a record into stream "+w.s.name, code, text)
	if fault.Of(err) != fault.Throttled {
		return err
	}
	wait, barren, tell := w.s.parts.refused(r.part(), shardIn.FindString(text), now)
	if tell {
		w.s.log.Warn("a shard takes less than comes: its records wait for their turn", "stream", w.s.name, "reason", text)
	}
	if barren >= patience {
		return err
	}
	return fault.Pace(err, max(wait, time.Millisecond))
}
