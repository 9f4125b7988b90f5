package partition

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// A value is cut when it has reached one of these.
const (
	valueJobs  = 4096
	valueBytes = 1 << 20
)

// maxRecordKey is the size limit of a record's key, in bytes.
const maxRecordKey = 1024

// Append is one value to be appended to a lane.
type Append struct {
	Part  int // partition, as route said
	Queue string
	Scope queue.Scope
	Value []byte
	Count int
}

// Write is one record to be put, or deleted when Value is nil.
type Write struct {
	Key, Value []byte
	Note       bool // of [Tx.Note]
}

// Read is what a transaction found in a record; Value is nil when there was none. The
// commit must not succeed when the record has another value by then.
type Read struct{ Key, Value []byte }

// Transaction is what one run of an Update's function asks for.
type Transaction struct {
	Appends []Append
	Results []queue.Result
	Writes  []Write // in order of key, one for each key
	Reads   []Read
}

// Empty reports whether t changes nothing.
func (t *Transaction) Empty() bool {
	return len(t.Appends) == 0 && len(t.Results) == 0 && len(t.Writes) == 0
}

// Grows reports whether t adds jobs, or records that are more than notes of its results.
func (t *Transaction) Grows() bool { return len(t.Appends) > 0 || t.puts() }

func (t *Transaction) puts() bool {
	for i := range t.Writes {
		if w := &t.Writes[i]; w.Value != nil && !(w.Note && len(t.Results) > 0) {
			return true
		}
	}
	return false
}

// Tx collects a Transaction; it is the queue.Tx of every backend.
type Tx struct {
	now    time.Time
	get    Lookup
	route  func(*queue.Job) int
	t      Transaction
	last   int // index in t.Appends of the lane appended to last; -1 at first
	open   map[laneKey]int
	writes map[string][]byte
	notes  map[string]struct{} // the keys of writes that are notes
	read   map[string]int      // place in t.Reads
	bytes  int
	ended  bool

	steady int64 // 0 when there is no clock that lasts

	observed bool // nothing more is settled: observers are being told
}

type laneKey struct {
	part  int
	queue string
	scope queue.Scope
}

// Lookup reads committed records: of each key the value, nil when there is none. It may change the
// order of keys, and values are in the order that it leaves.
type Lookup func(keys [][]byte) (values [][]byte, err error)

// NewTx returns an empty Tx. get reads committed records; route says which partition a
// job belongs to, nil meaning 0: the jobs of one key and scope must go to one partition.
func NewTx(now time.Time, get Lookup, route func(*queue.Job) int) *Tx {
	return &Tx{now: now, get: get, route: route, last: -1}
}

var buffers = sync.Pool{New: func() any { b := Buffer(64 << 10); return &b }}

// A transaction that has many values has few jobs in each: what goes to thousands of destinations
// must not take a large buffer for each of them.
const (
	largeValues = 16      // of one transaction begin with a large buffer
	smallValue  = 1 << 10 // what the others begin with
	leastBuffer = 4 << 10 // what is smaller is not held
)

// Buffer returns n bytes that were not set to zero, to be overwritten as a whole.
func Buffer(n int) []byte {
	var b strings.Builder
	b.Grow(max(n, 1))
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), n)
}

// resultSlices holds the memory of results between transactions.
var resultSlices = sync.Pool{New: func() any { return new([]queue.Result) }}

// maxResults is the capacity beyond which a slice of results is not held.
const maxResults = 16 << 10

// Release gives the memory of t's values and results back. Nothing may use them
// afterwards. A value that is kept elsewhere must have been set to nil.
func (t *Transaction) Release() {
	if rs := t.Results; cap(rs) > 0 && cap(rs) <= maxResults {
		clear(rs) // causes must not be kept alive
		rs = rs[:0]
		resultSlices.Put(&rs)
	}
	t.Results = nil
	for i := range t.Appends {
		v := t.Appends[i].Value
		t.Appends[i].Value = nil
		Recycle(v)
	}
}

// Recycle gives the memory of one value back, as Release does.
func Recycle(v []byte) {
	if cap(v) >= leastBuffer && cap(v) <= 2*valueBytes {
		buffers.Put(&v)
	}
}

func (t *Tx) check() error {
	if t.ended {
		return fmt.Errorf("use a transaction after its Update: %w", queue.ErrClosed)
	}
	return nil
}

// grow counts n more bytes against the limit of a transaction.
func (t *Tx) grow(n int) error {
	if t.bytes += n; t.bytes > queue.MaxTxBytes {
		return fault.New(fault.Invalid, fmt.Errorf("the jobs and records of one Update have more than %d bytes: split it", queue.MaxTxBytes))
	}
	return nil
}

// Lasting gives t a steady clock that goes on over restarts. Without one, waits are times of the
// wall clock.
func (t *Tx) Lasting(steady int64) { t.steady = steady }

// Append implements queue.Tx.
func (t *Tx) Append(jobs ...queue.Job) error {
	if err := t.check(); err != nil {
		return err
	}
	for i := range jobs {
		j := &jobs[i]
		if err := j.Check(); err != nil {
			return err
		}
		if j.After > 0 {
			j = t.waiting(*j)
		}
		a := t.lane(j)
		before := len(a.Value)
		a.Value = queue.AppendRecord(a.Value, j)
		a.Count++
		if err := t.grow(len(a.Value) - before); err != nil {
			return err
		}
	}
	return nil
}

// waiting is j with the time at which its wait is over.
func (t *Tx) waiting(j queue.Job) *queue.Job {
	wait := min(j.After, longestWait)
	if t.steady != 0 {
		j.NotBefore = time.Unix(0, t.steady).Add(wait)
	} else {
		j.NotBefore, j.After = t.now.Add(wait), 0
	}
	return &j
}

// lane is the open value that j goes to.
func (t *Tx) lane(j *queue.Job) *Append {
	part := 0
	if t.route != nil {
		part = t.route(j)
	}
	if t.last >= 0 {
		if a := &t.t.Appends[t.last]; a.Part == part && a.Queue == j.Queue && a.Scope == j.Scope && !full(a) {
			return a
		}
	}
	k := laneKey{part, j.Queue, j.Scope}
	if i, ok := t.open[k]; ok && !full(&t.t.Appends[i]) {
		t.last = i
		return &t.t.Appends[i]
	}
	if t.open == nil {
		t.open = map[laneKey]int{}
	}
	var b []byte
	if len(t.t.Appends) < largeValues {
		b = *buffers.Get().(*[]byte)
	} else {
		b = make([]byte, queue.HeaderSize, smallValue)
	}
	t.t.Appends = append(t.t.Appends, Append{Part: part, Queue: j.Queue, Scope: j.Scope, Value: b[:queue.HeaderSize]})
	t.last = len(t.t.Appends) - 1
	t.open[k] = t.last
	return &t.t.Appends[t.last]
}

func full(a *Append) bool { return a.Count >= valueJobs || len(a.Value) >= valueBytes }

// Settle implements queue.Tx.
func (t *Tx) Settle(rs ...queue.Result) error {
	if err := t.check(); err != nil {
		return err
	}
	if t.observed {
		return fault.New(fault.Fatal, errors.New("an observer of a store settles jobs: it may put records and append jobs only"))
	}
	for i := range rs {
		if v := rs[i].Verdict; v < queue.Done || v > queue.Dead {
			return fault.New(fault.Fatal, fmt.Errorf("settle job %s: %d is not a verdict", rs[i].ID, v))
		}
	}
	if t.t.Results == nil {
		t.t.Results = *resultSlices.Get().(*[]queue.Result)
	}
	t.t.Results = append(t.t.Results, rs...)
	return nil
}

// Get implements queue.Tx.
func (t *Tx) Get(key []byte) ([]byte, error) {
	if err := t.checkKey(key); err != nil {
		return nil, err
	}
	if v, ok := t.known(key); ok {
		return v, nil
	}
	if err := t.look([][]byte{bytes.Clone(key)}); err != nil {
		return nil, err
	}
	v, _ := t.known(key)
	return v, nil
}

// known is what t has put in a record, or found there.
func (t *Tx) known(key []byte) (value []byte, ok bool) {
	if v, ok := t.writes[string(key)]; ok {
		return v, true
	}
	if i, ok := t.read[string(key)]; ok {
		return t.t.Reads[i].Value, true
	}
	return nil, false
}

// textOf is b as a string that shares its memory: nobody may change b any more.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// look reads records. The keys belong to t from now on.
func (t *Tx) look(keys [][]byte) error {
	values, err := t.get(keys)
	if err != nil {
		return err
	}
	if t.read == nil {
		t.read = make(map[string]int, len(keys))
		t.t.Reads = make([]Read, 0, len(keys))
	}
	for i, key := range keys {
		t.read[textOf(key)] = len(t.t.Reads)
		t.t.Reads = append(t.t.Reads, Read{Key: key, Value: values[i]})
	}
	return nil
}

// GetAll implements queue.Tx.
func (t *Tx) GetAll(keys [][]byte) ([][]byte, error) {
	ask := make([][]byte, 0, len(keys))
	asked := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		if err := t.checkKey(key); err != nil {
			return nil, err
		}
		if _, ok := t.known(key); ok {
			continue
		}
		if _, twice := asked[string(key)]; !twice {
			own := bytes.Clone(key)
			asked[textOf(own)] = struct{}{}
			ask = append(ask, own)
		}
	}
	if len(ask) > 0 {
		if err := t.look(ask); err != nil {
			return nil, err
		}
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = t.known(key)
	}
	return values, nil
}

// Put implements queue.Tx.
func (t *Tx) Put(key, value []byte) error {
	if len(value) > queue.MaxRecord {
		return fault.New(fault.Invalid, fmt.Errorf("put record %.64q: the value has %d bytes, the limit is %d", key, len(value), queue.MaxRecord))
	}
	return t.write(key, append(make([]byte, 0, len(value)), value...))
}

// Note implements queue.Noter.
func (t *Tx) Note(key, value []byte) error {
	if err := t.Put(key, value); err != nil {
		return err
	}
	if t.notes == nil {
		t.notes = map[string]struct{}{}
	}
	t.notes[string(key)] = struct{}{}
	return nil
}

// Delete implements queue.Tx.
func (t *Tx) Delete(key []byte) error { return t.write(key, nil) }

func (t *Tx) write(key, value []byte) error {
	if err := t.checkKey(key); err != nil {
		return err
	}
	if err := t.grow(len(key) + len(value)); err != nil {
		return err
	}
	if t.writes == nil {
		t.writes = map[string][]byte{}
	}
	t.writes[string(key)] = value
	return nil
}

func (t *Tx) checkKey(key []byte) error {
	if err := t.check(); err != nil {
		return err
	}
	if len(key) == 0 || len(key) > maxRecordKey {
		return fault.New(fault.Invalid, fmt.Errorf("record key of %d bytes: the limits are 1 and %d", len(key), maxRecordKey))
	}
	return nil
}

// Finish ends the Tx and returns what it collected.
func (t *Tx) Finish() *Transaction {
	t.ended = true
	for i := range t.t.Appends {
		a := &t.t.Appends[i]
		queue.PutHeader(a.Value, t.now, a.Count)
	}
	for k, v := range t.writes {
		_, note := t.notes[k]
		t.t.Writes = append(t.t.Writes, Write{Key: []byte(k), Value: v, Note: note})
	}
	slices.SortFunc(t.t.Writes, func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
	return &t.t
}
