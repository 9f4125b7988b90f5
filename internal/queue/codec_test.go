package queue

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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
			m.Meta.Headers = rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "headers")
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
		for i := range jobs {
			rec, err := rs.Next()
			if err != nil {
				t.Fatal(err)
			}
			var got Job
			if err := ReadRecord(rec, &got, &event.Message{}); err != nil {
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
	var headers []string
	for k, v := range j.Msg.Meta.Headers {
		headers = append(headers, k+"="+v)
	}
	ordered := j.Ordered && j.Msg.Key != ""
	slices.Sort(headers)
	return fmt.Sprintf("%q %v %q %q %q %q %v %v %v %v", j.Msg.Data, j.Msg.Data == nil, j.Msg.Raw(), j.Msg.Key, j.Msg.Meta.ID,
		strings.Join(headers, "\x00"), j.Msg.Times.Created, j.Msg.Times.Read, ordered, j.NotBefore)
}

// FuzzValue reads any bytes as a value: an error or jobs, never a panic, and what was
// read is written back as jobs that read the same.
func FuzzValue(f *testing.F) {
	m := event.New([]byte("payload"))
	m.Key, m.Meta.ID, m.Meta.Headers = "key", "id", map[string]string{"a": "b"}
	f.Add(value(time.Unix(1, 2), Job{Msg: m, Ordered: true, NotBefore: time.Unix(5, 0)}, Job{Msg: event.New(nil)}))
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
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%v is not ErrCorrupt", err)
		}
	})
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
