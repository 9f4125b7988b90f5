package postgres

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

func TestPartlyRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.Custom(func(t *rapid.T) partition.Partly {
			p := partition.Partly{Seq: rapid.Uint64().Draw(t, "seq"), Count: rapid.IntRange(1, 5000).Draw(t, "count"), Size: rapid.IntRange(0, 1<<30).Draw(t, "size")}
			if rapid.Bool().Draw(t, "some") {
				p.Bits = rapid.SliceOfN(rapid.Uint64(), (p.Count+63)/64, (p.Count+63)/64).Draw(t, "bits")
			}
			return p
		})).Draw(t, "list")
		got, err := decodePartly(encodePartly(list))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodePartly(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodePartly([]partition.Partly{{Seq: 7, Count: 70, Size: 900, Bits: []uint64{1, 2}}, {Seq: 8, Count: 1, Size: 20}}))
	f.Add([]byte{1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodePartly(b)
		if err != nil {
			if !errors.Is(err, queue.ErrCorrupt) {
				t.Errorf("error %v is not ErrCorrupt", err)
			}
			return
		}
		again, err := decodePartly(encodePartly(list))
		if err != nil || !cmp.Equal(list, again, cmpopts.EquateEmpty()) {
			t.Errorf("%v does not come back: %v, %v", list, again, err)
		}
	})
}

// FuzzChangeRow checks that a change in the log says who committed it, keeps its delta
// without the records, and that no bytes make its reading panic.
func FuzzChangeRow(f *testing.F) {
	f.Add(encodeChange(changeKey{process: 5, n: 9, k: 2}, &partition.Change{
		Left: []partition.Left{{Lane: 1, Seq: 2, Count: 3, Size: 40}},
		Side: []partition.Side{{ID: queue.ID{Lane: 1, Seq: 2}, State: partition.Retry, Record: []byte("record"), Size: 6, Cause: "why"}},
	}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := logRow{data: b}
		if err := r.decode(); err != nil {
			if !errors.Is(err, queue.ErrCorrupt) {
				t.Errorf("error %v is not ErrCorrupt", err)
			}
			return
		}
		again := logRow{data: encodeChange(r.key, r.change)}
		if err := again.decode(); err != nil || again.key != r.key || len(again.change.Side) != len(r.change.Side) {
			t.Errorf("a change does not come back: %v", err)
		}
		for i := range again.change.Side {
			s := &again.change.Side[i]
			if len(s.Record) != 0 || (s.Record == nil) != (r.change.Side[i].Record == nil) || s.Cause != "" {
				t.Errorf("a record or a cause is in the log: %+v", s)
			}
		}
	})
}

func TestSignedHash(t *testing.T) {
	t.Parallel()
	hashes := []uint64{0, 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64}
	for i, h := range hashes {
		if unsigned(signed(h)) != h {
			t.Errorf("hash %x comes back as %x", h, unsigned(signed(h)))
		}
		if i > 0 && signed(hashes[i-1]) >= signed(h) {
			t.Errorf("hash %x does not sort after %x", h, hashes[i-1])
		}
	}
	if signed(0) != math.MinInt64 {
		t.Error("no key is not the lowest number, which the indexes leave out")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://weir:secret-word@localhost/db"
	tests := []struct {
		name string
		o    Options
		want string // "" when the options are good
	}{
		{"defaults", Options{DSN: dsn}, ""},
		{"no DSN", Options{}, "DSN is empty"},
		{"bad DSN", Options{DSN: "postgres://weir:secret-word@local host:99999999/db"}, "cannot be read"},
		{"bad words", Options{DSN: "password=secret-word port=x"}, "cannot be read"},
		{"schema", Options{DSN: dsn, Schema: "No Good"}, `schema "No Good"`},
		{"partitions", Options{DSN: dsn, Partitions: 300}, "partitions is 300"},
		{"spread", Options{DSN: dsn, Spread: 17}, "spread is 17"},
		{"committers", Options{DSN: dsn, Committers: 99}, "committers is 99"},
		{"readers", Options{DSN: dsn, Readers: -1}, "readers is -1"},
		{"lease", Options{DSN: dsn, Lease: 1}, "lease is 1ns"},
		{"negative", Options{DSN: dsn, MaxBytes: -1}, "must not be negative"},
		{"patience", Options{DSN: dsn, Patience: -1}, "patience"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tt.o)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("New = %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || fault.Of(err) != fault.Setup):
				t.Errorf("New = %v, want a setup error with %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secret-word"):
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestNotOpened(t *testing.T) {
	t.Parallel()
	s, err := New(Options{DSN: "postgres://weir@localhost/db"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(t.Context(), queue.Query{}); fault.Of(err) != fault.Setup {
		t.Errorf("Lease of a store that was not opened = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	var a, b mask
	a.add(3)
	a.add(255)
	b.add(64)
	b.addStripe(127)
	if a.meets(&b) || !a.has(255) || a.has(64) {
		t.Errorf("masks %v and %v", a, b)
	}
	a.join(&b)
	if !a.meets(&b) {
		t.Error("joined masks do not meet")
	}
	a.remove(&b)
	if a.meets(&b) || !a.has(3) {
		t.Errorf("mask after removal: %v", a)
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent(1000)
	value := make([]byte, 100)
	for seq := range uint64(5000) {
		value[0] = byte(seq)
		r.put(1, seq, value)
	}
	if r.bytes > 1000 || len(r.byKey) != 10 || len(r.order)-r.start != 10 || len(r.order) > 2100 {
		t.Errorf("%d values of %d bytes are kept, order %d from %d", len(r.byKey), r.bytes, len(r.order), r.start)
	}
	if got := r.values(1, 4990, 350); len(got) != 3 || got[0].Seq != 4990 || got[2].Data[0] != byte(4992%256) {
		t.Errorf("values = %v", got)
	}
	if got := r.values(1, 4989, 350); len(got) != 0 {
		t.Errorf("a value that was let go is there: %v", got)
	}
	r.put(1, 6000, make([]byte, 251))
	if got := r.values(1, 6000, 350); len(got) != 0 {
		t.Error("a value of more than a quarter of the limit is kept")
	}
	newRecent(-1).put(1, 1, value)
}
