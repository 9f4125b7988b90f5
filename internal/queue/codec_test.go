package queue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

// value encodes jobs the way a transaction does.
func value(at time.Time, jobs ...Job) []byte {
	v := make([]byte, HeaderSize)
	for i := range jobs {
		v = AppendRecord(v, &jobs[i])
	}
	PutHeader(v, at, len(jobs))
	return v
}

// TestRoundTrip keeps every field of any job.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		blob := rapid.OneOf(rapid.Just[[]byte](nil), rapid.SliceOfN(rapid.Byte(), 0, 300))
		when := rapid.Custom(func(t *rapid.T) time.Time {
			if rapid.Bool().Draw(t, "zero") {
				return time.Time{}
			}
			return time.Unix(rapid.Int64Range(-1<<36, 1<<36).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "nsec")).UTC()
		})
		var jobs []Job
		for range rapid.IntRange(0, 5).Draw(t, "jobs") {
			m := event.New(blob.Draw(t, "raw"))
			m.Key, m.Meta.ID = rapid.String().Draw(t, "key"), rapid.String().Draw(t, "id")
			m.Keyed = rapid.SampledFrom([]event.Keyed{event.KeyOpen, event.KeyNone, event.KeyEmpty}).Draw(t, "keyed")
			for range rapid.IntRange(0, 4).Draw(t, "headers") { // names repeat
				name := rapid.SampledFrom([]string{"", "a", "A", "b", "\xff"}).Draw(t, "name")
				m.Meta.Headers = m.Meta.Headers.Add(name, blob.Draw(t, "value"))
			}
			if rapid.Bool().Draw(t, "origin") {
				m.Meta.Origin = &event.Origin{Stream: rapid.String().Draw(t, "stream"), Partition: rapid.String().Draw(t, "partition"),
					Position: blob.Draw(t, "position"), Sub: rapid.Uint64().Draw(t, "sub"), At: when.Draw(t, "origin at")}
				if rapid.Bool().Draw(t, "moved") {
					m.Meta.Origin = &event.Origin{Stream: "a queue", First: m.Meta.Origin}
				}
			}
			if rapid.Bool().Draw(t, "descriptor") {
				text := rapid.SampledFrom([]string{"", "x", "Order Completed"})
				m.Meta.Descriptor = &event.Descriptor{JobRun: text.Draw(t, "job"), TaskRun: text.Draw(t, "task"),
					Type: text.Draw(t, "type"), Name: text.Draw(t, "event name"), Transient: rapid.Bool().Draw(t, "transient")}
			}
			m.Times.Created, m.Times.Read = when.Draw(t, "created"), when.Draw(t, "read")
			if rapid.Bool().Draw(t, "same") {
				m.Times.Read = m.Times.Created
			}
			if rapid.Bool().Draw(t, "replace") {
				m.Replace(blob.Draw(t, "data"))
			}
			jobs = append(jobs, Job{Msg: m, Ordered: rapid.Bool().Draw(t, "ordered"), NotBefore: when.Draw(t, "notBefore")})
		}
		at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		rs, err := OpenValue(value(at, jobs...))
		if err != nil || !rs.At.Equal(at) || rs.Count != len(jobs) {
			t.Fatalf("OpenValue = %+v, %v", rs, err)
		}
		var d Decoder
		for i := range jobs {
			rec, err := rs.Next()
			if err != nil {
				t.Fatal(err)
			}
			if want := RecordSize(jobs[i].Msg); len(rec) > want {
				t.Fatalf("job %d takes %d bytes, RecordSize says %d", i, len(rec), want)
			}
			var got Job
			if err := d.Read(rec, &got, &event.Message{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(viewOf(&jobs[i]), viewOf(&got)); diff != "" {
				t.Fatalf("job %d (-want +got):\n%s", i, diff)
			}
			head, err := ReadHead(rec)
			if err != nil {
				t.Fatal(err)
			}
			want := Head{NotBefore: Nanos(jobs[i].NotBefore)}
			if jobs[i].Ordered && jobs[i].Msg.Key != "" {
				want.Hash = HashKey([]byte(jobs[i].Msg.Key))
			}
			if head != want {
				t.Fatalf("head of job %d = %+v, want %+v", i, head, want)
			}
		}
		if rec, err := rs.Next(); rec != nil || err != nil {
			t.Fatalf("Next at the end = %v, %v", rec, err)
		}
	})
}

func viewOf(j *Job) string {
	ordered := j.Ordered && j.Msg.Key != ""
	origin, about := "none", "none"
	if o := j.Msg.Meta.Origin.Earliest(); o != nil {
		origin = fmt.Sprintf("%q %q %q %d %v", o.Stream, o.Partition, o.Position, o.Sub, o.At)
	}
	if d := j.Msg.Meta.Descriptor; d != nil {
		about = fmt.Sprintf("%+v", *d)
	}
	nils := ""
	for _, h := range j.Msg.Meta.Headers {
		if h.Value == nil {
			nils += " nil " + h.Name
		}
	}
	if j.Msg.Key == "" && j.Msg.Keyed != event.KeyOpen {
		nils += fmt.Sprint(" keyed ", j.Msg.Keyed)
	}
	return fmt.Sprintf("%q %v %q %q %q %q %v %v %v %v %s %s"+nils, j.Msg.Data, j.Msg.Data == nil, j.Msg.Raw(), j.Msg.Key, j.Msg.Meta.ID,
		j.Msg.Meta.Headers, j.Msg.Times.Created, j.Msg.Times.Read, ordered, j.NotBefore, origin, about)
}

// FuzzValue reads any bytes as a value: an error or jobs, never a panic, and what was
// read is written back as jobs that read the same.
func FuzzValue(f *testing.F) {
	m := event.New([]byte("payload"))
	m.Key, m.Meta.ID, m.Meta.Headers = "key", "id", event.HeadersOf(map[string]string{"a": "b"})
	f.Add(value(time.Unix(1, 2), Job{Msg: m, Ordered: true, NotBefore: time.Unix(5, 0)}, Job{Msg: event.New(nil)}))
	m.Meta.Origin = &event.Origin{Stream: "s", Partition: "p", Position: []byte{1}, Sub: 2, At: time.Unix(3, 0)}
	m.Meta.Descriptor = &event.Descriptor{JobRun: "run", Type: "track", Transient: true}
	f.Add(value(time.Unix(1, 2), Job{Msg: m}))
	f.Add(firstVersion(f))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{255}, 40))
	f.Fuzz(func(t *testing.T, v []byte) {
		rs, err := OpenValue(v)
		for err == nil {
			var rec []byte
			if rec, err = rs.Next(); rec == nil {
				break
			}
			var j Job
			_, headErr := ReadHead(rec)
			if err := ReadRecord(rec, &j, &event.Message{}); err != nil {
				continue
			}
			if headErr != nil {
				t.Fatalf("a record that can be read has no head: %v", headErr)
			}
			var again Job
			if err := ReadRecord(AppendRecord(nil, &j), &again, &event.Message{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(viewOf(&j), viewOf(&again)); diff != "" {
				t.Fatalf("written back (-want +got):\n%s", diff)
			}
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%v is neither ErrCorrupt nor ErrVersion", err)
		}
	})
}

// firstVersion is a value that the release wrote whose records were of version 1.
func firstVersion(t testing.TB) []byte {
	t.Helper()
	v, err := os.ReadFile("testdata/value_v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFirstVersion reads the bytes of version 1, which stores hold that are older than
// version 2: in values, and of records on their own.
func TestFirstVersion(t *testing.T) {
	t.Parallel()
	rs, err := OpenValue(firstVersion(t))
	if err != nil || rs.Count != 5 || !rs.At.Equal(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)) {
		t.Fatalf("OpenValue = %+v, %v", rs, err)
	}
	var d Decoder
	for i, want := range []struct {
		view string
		head Head
	}{
		{view: `"{\"plain\":true}" false "{\"plain\":true}" "" "" [] 2023-11-14 22:13:20.123456789 +0000 UTC 2023-11-14 22:13:20.123456789 +0000 UTC false 0001-01-01 00:00:00 +0000 UTC none none`},
		{view: `"as it is now" false "as it was read" "key" "id-1" [{"only" "one"}] 2023-11-14 22:13:21.000000005 +0000 UTC 2023-11-14 22:13:22.000000006 +0000 UTC true 2027-01-15 08:00:00.000000007 +0000 UTC none none`,
			head: Head{Hash: HashKey([]byte("key")), NotBefore: 1800000000000000007}},
		{head: Head{NotBefore: 1e9}}, // its headers were written in the order of a map
		{view: `"" true "" "" "" [] 0001-01-01 00:00:00 +0000 UTC 0001-01-01 00:00:00 +0000 UTC false 0001-01-01 00:00:00 +0000 UTC none none`},
		{}, // made at the time of writing
	} {
		rec, err := rs.Next()
		if err != nil {
			t.Fatal(err)
		}
		var j Job
		if err := d.Read(rec, &j, &event.Message{}); err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		if got := viewOf(&j); want.view != "" && got != want.view {
			t.Errorf("job %d:\n got %s\nwant %s", i, got, want.view)
		}
		if h, err := ReadHead(rec); err != nil || h != want.head {
			t.Errorf("head of job %d is %+v, %v; want %+v", i, h, err, want.head)
		}
		switch m := j.Msg; i {
		case 2:
			h := m.Meta.Headers
			if string(m.Data) != "many headers" || len(h) != 4 || h.Text("a") != "1" || h.Text("b") != "2" || h.Text("") != "\x00" ||
				h.Text("traceparent") != "00-11111111111111111111111111111111-3333333333333333-01" || m.Times.Created.Unix() != -5 || !m.Times.Read.IsZero() {
				t.Errorf("job %d: %s", i, viewOf(&j))
			}
		case 4:
			if m.Data == nil || len(m.Data) != 0 || j.Ordered {
				t.Errorf("job %d: %s", i, viewOf(&j))
			}
		}
	}
	if rec, err := rs.Next(); rec != nil || err != nil {
		t.Fatalf("Next at the end = %v, %v", rec, err)
	}
}

// TestLaterVersion says of what a later version wrote that it is of a later version, and
// which, and not that it is damaged.
func TestLaterVersion(t *testing.T) {
	t.Parallel()
	later := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "version 3") {
			t.Errorf("error %v", err)
		}
	}
	v := value(time.Unix(1, 2), Job{Msg: event.New([]byte("x"))})
	rec := bytes.Clone(v[HeaderSize:])
	v[0] = 3
	_, err := OpenValue(v)
	later(err)
	rec[2] = 3
	_, err = ReadHead(rec)
	later(err)
	later(ReadRecord(rec, &Job{}, &event.Message{}))

	rec[2] = 0 // never was one
	for _, damaged := range [][]byte{rec, {2, versioned, 2}, {5, versioned, 2, 0xff, 0xff, 0}} {
		if err := ReadRecord(damaged, &Job{}, &event.Message{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record % x: %v", damaged, err)
		}
	}
	v[0] = 0
	if _, err := OpenValue(v); !errors.Is(err, ErrCorrupt) {
		t.Errorf("value of version 0: %v", err)
	}
}

// TestTogether: what the messages of a batch have in common costs no memory for each.
func TestTogether(t *testing.T) {
	m := event.New(make([]byte, 500))
	m.Meta.Origin = &event.Origin{Stream: "stream", Partition: "7", Position: make([]byte, 8)}
	m.Meta.Descriptor = &event.Descriptor{Type: "track"}
	rec := AppendRecord(nil, &Job{Queue: "q", Msg: m})
	const n = 640
	if got := testing.AllocsPerRun(20, func() {
		var d Decoder
		var j Job
		var into [1]event.Message
		var first *event.Descriptor
		for i := range n {
			into[0] = event.Message{}
			if err := d.Read(rec, &j, &into[0]); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = j.Msg.Meta.Descriptor
			}
			if j.Msg.Meta.Descriptor != first {
				t.Fatal("messages with one descriptor do not share it")
			}
		}
	}); got > n/20 {
		t.Errorf("reading %d jobs allocates %v times", n, got)
	}
}

// TestAllocations keeps the hot path free of an allocation for each job.
func TestAllocations(t *testing.T) {
	m := event.New(make([]byte, 500))
	m.Key, m.Meta.ID = "key", "id"
	j := Job{Queue: "q", Msg: m, Ordered: true}
	buf := make([]byte, 0, 1024)
	rec := AppendRecord(nil, &j)
	var got Job
	var msg event.Message
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendRecord(buf[:0], &j)
		if _, err := ReadHead(rec); err != nil {
			t.Fatal(err)
		}
		msg = event.Message{}
		if err := ReadRecord(rec, &got, &msg); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("writing and reading a job allocates %v times, want 0", n)
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	want := ID{Lane: 7, Seq: 4211, Index: 3}
	if got, err := ParseID(want.String()); err != nil || got != want {
		t.Errorf("ParseID(%s) = %v, %v", want, got, err)
	}
	for _, s := range []string{"", "1", "1-2", "1-2-3-4", "a-2-3", "1-2--3", "1-2-4294967296"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) was accepted", s)
		}
	}
}

// TestBytes compares what is written now with what was written when the versions of values and
// records were raised last.
func TestBytes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	m := event.New([]byte("as it was read"))
	m.Key, m.Meta.ID, m.Meta.Headers = "key", "id", event.HeadersOf(map[string]string{"a": "b"})
	m.Meta.Origin = &event.Origin{Stream: "stream", Partition: "p", Position: []byte{1, 2}, Sub: 3, At: at}
	m.Meta.Descriptor = &event.Descriptor{JobRun: "run", TaskRun: "task", Type: "track", Name: "Order Completed", Transient: true}
	m.Times.Created, m.Times.Read = at, at.Add(time.Second)
	m.Replace([]byte("as it is now"))
	bare := &event.Message{}
	bare.Times.Created, bare.Times.Read = at, at
	got := fmt.Sprintf("%x\n", value(at, Job{Msg: m, Ordered: true, NotBefore: at.Add(time.Hour)}, Job{Msg: bare}))
	want, err := os.ReadFile("testdata/value_v2.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what is written has changed: raise the versions, FORMAT (queue/log/disk) and the version of the schema (queue/postgres), go on reading the ones before, and say so in docs/compatibility.md.\n got %swant %s", got, want)
	}
}
