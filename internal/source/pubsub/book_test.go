package pubsubsource

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

// delivery is a message as the service delivers it, the n-th time.
func delivery(id, key string, n, size int) *pubsubpb.ReceivedMessage {
	return &pubsubpb.ReceivedMessage{AckId: fmt.Sprintf("%s:%d", id, n),
		Message: &pubsubpb.PubsubMessage{MessageId: id, OrderingKey: key, Data: make([]byte, size), PublishTime: timestamppb.New(time.Unix(1, 0))}}
}

// service is a subscription that keeps the order of keys, as Pub/Sub does: what is given back, or
// whose lease ends, is delivered again with all of its key that was delivered after it, also what
// was acknowledged.
type service struct {
	log  map[string][]*record // of each key
	all  []*record
	owed []*record // to be delivered, in order
}

type record struct {
	id, key string
	size    int
	number  int // deliveries
	acked   bool
	out     bool
	until   time.Time // the end of its lease
}

// TestBook does at random what can happen to what is held, beside a model of the service. At
// every step: messages are read in the order of their keys, none twice while it is in work;
// acknowledged is only what is settled, in the order of its key and with its newest id; sums are
// right. In the end everything was settled.
func TestBook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ordered := rapid.Bool().Draw(t, "ordered")
		b := newBook()
		s := &service{log: map[string][]*record{}}
		byID := map[string]*record{}
		now := time.Unix(1000, 0)
		var reads []*held           // in work
		inWork := map[string]bool{} // ids
		settledIDs := map[string]bool{}
		out := 0
		handed := map[string]int{} // when each was handed out last
		again := func(r *record) {
			from := []*record{r}
			if ordered && r.key != "" {
				from = s.log[r.key][slices.Index(s.log[r.key], r):]
			}
			for _, x := range from {
				if x.number > 0 && !slices.Contains(s.owed, x) {
					x.acked, x.out = false, false
					s.owed = append(s.owed, x)
				}
			}
			if ordered {
				slices.SortStableFunc(s.owed, func(x, y *record) int { return slices.Index(s.all, x) - slices.Index(s.all, y) })
			}
		}
		forget := func() { // what the book has let go of
			reads = slices.DeleteFunc(reads, func(h *held) bool { return h.state == gone })
			clear(inWork)
			for _, h := range reads {
				inWork[h.id] = true
			}
		}
		returned := func(hs []*held) {
			for _, h := range hs {
				r := byID[h.id]
				if h.ack == fmt.Sprintf("%s:%d", r.id, r.number) && !r.acked {
					again(r)
				}
			}
			forget()
		}
		acked := func(hs []*held) {
			for _, h := range hs {
				r := byID[h.id]
				if !settledIDs[h.id] {
					t.Fatalf("%s is acknowledged and was not settled", h.id)
				}
				if ordered && r.key != "" {
					for _, before := range s.log[r.key][:slices.Index(s.log[r.key], r)] {
						if before.out && !before.acked {
							t.Fatalf("%s is acknowledged before %s", r.id, before.id)
						}
					}
				}
				if h.ack == fmt.Sprintf("%s:%d", r.id, r.number) {
					r.acked = true
				}
			}
			b.confirmed(hs, nil)
			forget()
		}
		step := func(last bool) {
			n := rapid.IntRange(0, 5).Draw(t, "step")
			if last {
				n = []int{1, 2, 2, 2, 4}[rapid.IntRange(0, 4).Draw(t, "last")]
			}
			switch n {
			case 0: // published
				r := &record{id: fmt.Sprint("m", len(s.all)), key: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key"), size: rapid.IntRange(0, 50).Draw(t, "size")}
				s.all, byID[r.id] = append(s.all, r), r
				s.log[r.key] = append(s.log[r.key], r)
				s.owed = append(s.owed, r)
			case 1: // delivered, and read
				k := rapid.IntRange(0, len(s.owed)).Draw(t, "deliver")
				if last {
					k = len(s.owed)
				}
				var ms []*pubsubpb.ReceivedMessage
				for _, r := range s.owed[:k] {
					r.number++
					r.out, r.acked, r.until = true, false, now.Add(10*time.Second)
					ms = append(ms, delivery(r.id, r.key, r.number, r.size))
				}
				s.owed = slices.Clone(s.owed[k:])
				b.receive(ms, now, now.Add(10*time.Second), ordered)
				forget()
				most, bytes := rapid.IntRange(1, 5).Draw(t, "most"), rapid.IntRange(1, 100).Draw(t, "bytes")
				hs, got, back := b.take(now, most, bytes)
				size := 0
				for i, h := range hs {
					size += len(got[i].GetData())
					if got[i].GetMessageId() != h.id || inWork[h.id] {
						t.Fatalf("%s is handed out as %s, in work: %t", h.id, got[i].GetMessageId(), inWork[h.id])
					}
					inWork[h.id] = true
					out++
					handed[h.id] = out
				}
				if len(hs) > most || len(hs) > 1 && size > bytes {
					t.Fatalf("%d messages of %d bytes were handed out, with room for %d of %d", len(hs), size, most, bytes)
				}
				reads = append(reads, hs...)
				returned(back)
			case 2, 3: // settled, or failed
				if len(reads) == 0 {
					return
				}
				i := rapid.IntRange(0, len(reads)-1).Draw(t, "which")
				h := reads[i]
				reads = slices.Delete(reads, i, i+1)
				ok := n == 2 || rapid.IntRange(0, 3).Draw(t, "fails") > 0
				if ok {
					settledIDs[h.id] = true
				}
				delete(inWork, h.id)
				confirm, back := b.settle([]*held{h}, func(int) bool { return ok })
				acked(confirm)
				returned(back)
			case 4: // time passes
				now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "seconds")) * time.Second)
				for _, r := range s.all {
					if r.out && !r.acked && !now.Before(r.until) {
						again(r)
					}
				}
				e := b.look(now, now.Add(5*time.Second), now.Add(-25*time.Second))
				ids := b.ids(e.extend)
				if rapid.Bool().Draw(t, "extended") {
					b.extended(e.extend, ids, now.Add(10*time.Second))
					for i, h := range e.extend {
						if r := byID[h.id]; ids[i] == fmt.Sprintf("%s:%d", r.id, r.number) && r.out {
							r.until = now.Add(10 * time.Second)
						}
					}
				}
				returned(e.back)
			case 5: // the service takes leases for over
				if len(reads) == 0 {
					return
				}
				h := reads[rapid.IntRange(0, len(reads)-1).Draw(t, "which")]
				back, _ := b.forfeit(h, h.ack)
				again(byID[h.id])
				returned(back)
			}
			messages, bytes, read := 0, 0, 0
			for _, h := range b.all {
				messages++
				bytes += h.size
				if h.state != waiting {
					read++
				}
				if listed := slices.Contains(b.keys[h.key], h); h.key != "" && listed == (h.state == leaving) {
					t.Fatalf("%s is in state %d, in the list of its key: %t", h.id, h.state, listed)
				}
			}
			if messages != b.messages || bytes != b.bytes || read != b.read {
				t.Fatalf("%d messages of %d bytes are held, %d read; counted %d of %d, %d", messages, bytes, read, b.messages, b.bytes, b.read)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step(false)
		}
		for i := 0; len(s.owed) > 0 || len(b.all) > 0; i++ {
			if i == 5000 {
				t.Fatalf("%d messages are never delivered, %d never leave", len(s.owed), len(b.all))
			}
			step(true)
		}
		for _, r := range s.all {
			if !settledIDs[r.id] || !r.acked {
				t.Fatalf("%s: settled %t, acknowledged %t", r.id, settledIDs[r.id], r.acked)
			}
		}
		for key, log := range s.log {
			for i := 1; i < len(log) && ordered && key != ""; i++ {
				if handed[log[i].id] < handed[log[i-1].id] {
					t.Fatalf("%s was handed out after %s for the last time", log[i-1].id, log[i].id)
				}
			}
		}
		if len(b.keys) != 0 {
			t.Fatalf("keys are left: %v", b.keys)
		}
	})
}
