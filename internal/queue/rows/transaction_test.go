package rows

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

func sampleTransaction() *transaction {
	value := []byte("value")
	return &transaction{
		appends: []appendEntry{
			{lane: partition.Lane{ID: 1, Queue: "q", Scope: queue.Scope{Workspace: "w", Destination: "d"}}, seq: 1, count: 2, flags: appendNew, value: value, crc: checksum(value)},
			{lane: partition.Lane{ID: 2}, seq: 9, count: 1, value: value, crc: checksum(value)},
		},
		change: &partition.Change{Left: []partition.Left{{Lane: 1, Seq: 1, Count: 2, Size: 5}}},
		writes: []writeEntry{{key: []byte("k"), value: value, put: true, crc: checksum(value)}, {key: []byte("gone")}},
	}
}

// logged encodes a transaction and returns its entry as the log hands it out.
func logged(t testing.TB, f *transaction) *log.Entry {
	t.Helper()
	if _, _, err := f.encode(nil, nil); err != nil {
		t.Fatal(err)
	}
	e := f.Entry
	e.Data = [][]byte{bytes.Join(f.Data, nil)}
	e.At = log.Position{Segment: 3, Offset: 100}
	return &e
}

// TestTransaction reads a transaction back, and notices every flipped bit of data, and
// every cut.
func TestTransaction(t *testing.T) {
	t.Parallel()
	want := sampleTransaction()
	e := logged(t, want)
	got, err := decode(e)
	if err != nil {
		t.Fatal(err)
	}
	want.Entry = *e
	want.place()
	opts := cmp.Options{
		cmp.AllowUnexported(transaction{}, appendEntry{}, writeEntry{}),
		cmpopts.IgnoreUnexported(partition.Change{}), cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("transaction (-want +got):\n%s", diff)
	}
	if at := got.appends[1].at; at.Segment != 3 || at.Offset != 105 {
		t.Errorf("the second value is at %v", at)
	}
	refused := func(e log.Entry, what string) {
		t.Helper()
		if _, err := decode(&e); err == nil {
			t.Fatalf("%s, and not noticed", what)
		} else if _, ok := errors.AsType[log.Unreadable](err); !ok {
			t.Fatalf("%s: %v", what, err)
		}
	}
	data := e.Data[0]
	for i := range data {
		cut := *e
		cut.Data = [][]byte{data[:i]}
		refused(cut, fmt.Sprintf("the data was cut at %d of %d", i, len(data)))
		for bit := range 8 {
			data[i] ^= 1 << bit
			refused(*e, fmt.Sprintf("bit %d of byte %d was flipped", bit, i))
			data[i] ^= 1 << bit
		}
	}
	for i := range e.Head {
		cut := *e
		cut.Head = e.Head[:i]
		refused(cut, fmt.Sprintf("the head was cut at %d of %d", i, len(e.Head)))
	}
}

func FuzzTransaction(f *testing.F) {
	e := logged(f, sampleTransaction())
	f.Add(e.Head, e.Data[0])
	f.Add(e.Head[:len(e.Head)-1], e.Data[0])
	f.Fuzz(func(t *testing.T, head, data []byte) {
		got, err := decode(&log.Entry{Head: head, Data: [][]byte{data}})
		if err != nil {
			return
		}
		for _, a := range got.appends {
			if a.at.Offset < 0 || a.at.Offset+int64(len(a.value)) > int64(len(data)) {
				t.Fatalf("a value at %d lies outside of the data", a.at.Offset)
			}
		}
	})
}

func FuzzRows(f *testing.F) {
	f.Add(encodeLane(&partition.Lane{ID: 1, First: 1, Tail: 2, Queue: "q"}))
	f.Add(encodePartly(&partition.Partly{Seq: 1, Count: 3, Size: 4, Bits: []uint64{5}}))
	f.Add(encodeSide(partition.Side{ID: queue.ID{Lane: 1, Seq: 2}, State: partition.Dead, Cause: "c"}))
	f.Add((&location{Position: log.Position{Segment: 1, Offset: 2}, size: 3, count: 4, crc: 5}).encode())
	key := row(rowLane, 1, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeLane(key[:9], b)
		_, _ = decodePartly(key, b)
		_, _ = decodeSide(b)
		_, _ = decodeLocation(b)
	})
}
