package aggregate_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/kinesis/aggregate"
)

// encoded is an aggregate as somebody else writes one: hashes in a table that may be given
// twice, tags, fields of a later version, tables behind the records.
type encoded struct {
	keys, hashes []string
	records      []entry
	tablesLast   bool
	tags         bool
	unknown      []byte // fields that nobody knows
}

type entry struct {
	key     uint64
	hash    *uint64
	data    []byte
	omitKey bool
}

func (e encoded) bytes() []byte {
	var tables, records []byte
	for _, k := range e.keys {
		tables = protowire.AppendString(protowire.AppendTag(tables, 1, protowire.BytesType), k)
	}
	for _, h := range e.hashes {
		tables = protowire.AppendString(protowire.AppendTag(tables, 2, protowire.BytesType), h)
	}
	for _, r := range e.records {
		var m []byte
		if !r.omitKey {
			m = protowire.AppendVarint(protowire.AppendTag(m, 1, protowire.VarintType), r.key)
		}
		if r.hash != nil {
			m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), *r.hash)
		}
		if r.data != nil {
			m = protowire.AppendBytes(protowire.AppendTag(m, 3, protowire.BytesType), r.data)
		}
		if e.tags {
			tag := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "name")
			m = protowire.AppendBytes(protowire.AppendTag(m, 4, protowire.BytesType), tag)
		}
		m = append(m, e.unknown...)
		records = protowire.AppendBytes(protowire.AppendTag(records, 3, protowire.BytesType), m)
	}
	message := slices.Concat(tables, e.unknown, records)
	if e.tablesLast {
		message = slices.Concat(records, e.unknown, tables)
	}
	return sealed(message)
}

func sealed(message []byte) []byte {
	sum := md5.Sum(message)
	return slices.Concat([]byte{0xf3, 0x89, 0x9a, 0xc2}, message, sum[:])
}

func TestRead(t *testing.T) {
	t.Parallel()
	var unknown []byte
	unknown = protowire.AppendFixed64(protowire.AppendTag(unknown, 90, protowire.Fixed64Type), 7)
	unknown = protowire.AppendFixed32(protowire.AppendTag(unknown, 91, protowire.Fixed32Type), 7)
	unknown = protowire.AppendVarint(protowire.AppendTag(unknown, 92, protowire.VarintType), 7)
	unknown = protowire.AppendBytes(protowire.AppendTag(unknown, 93, protowire.BytesType), []byte("later"))
	full := encoded{
		keys: []string{"a", "b"}, hashes: []string{"340282366920938463463374607431768211455"},
		records: []entry{{key: 1, data: []byte("first")}, {key: 0, hash: new(uint64(0)), data: []byte{}}, {key: 0, data: []byte("third")}},
	}
	want := []aggregate.Record{{Key: "b", Data: []byte("first")}, {Key: "a", ExplicitHash: full.hashes[0], Data: []byte{}}, {Key: "a", Data: []byte("third")}}
	with := func(change func(*encoded)) []byte {
		e := full
		e.records = slices.Clone(full.records)
		change(&e)
		return e.bytes()
	}
	whole := full.bytes()
	for name, c := range map[string]struct {
		data []byte
		kind aggregate.Kind
	}{
		"as the library writes it":         {whole, aggregate.Aggregate},
		"tables behind the records":        {with(func(e *encoded) { e.tablesLast = true }), aggregate.Aggregate},
		"tags":                             {with(func(e *encoded) { e.tags = true }), aggregate.Aggregate},
		"fields of a later version":        {with(func(e *encoded) { e.unknown = unknown }), aggregate.Aggregate},
		"nothing":                          {nil, aggregate.Plain},
		"the magic alone":                  {whole[:4], aggregate.Plain},
		"no message":                       {sealed(nil), aggregate.Plain},
		"another magic":                    {append([]byte{0xf3, 0x89, 0x9a, 0xc3}, whole[4:]...), aggregate.Plain},
		"a wrong checksum":                 {append(slices.Clone(whole[:len(whole)-1]), whole[len(whole)-1]+1), aggregate.Plain},
		"cut":                              {whole[:len(whole)-1], aggregate.Plain},
		"a key outside its table":          {with(func(e *encoded) { e.records[2].key = 2 }), aggregate.Broken},
		"a hash outside its table":         {with(func(e *encoded) { e.records[1].hash = new(uint64(1)) }), aggregate.Broken},
		"a record without a key":           {with(func(e *encoded) { e.records[0].omitKey = true }), aggregate.Broken},
		"a record without data":            {with(func(e *encoded) { e.records[0].data = nil }), aggregate.Broken},
		"no records":                       {with(func(e *encoded) { e.records = nil }), aggregate.Broken},
		"a group":                          {with(func(e *encoded) { e.unknown = []byte{0x9b, 0x05} }), aggregate.Broken},
		"field number 0":                   {with(func(e *encoded) { e.unknown = []byte{0x00, 0x05} }), aggregate.Broken},
		"a message that is longer than it": {sealed([]byte{0x1a, 0x7f, 1}), aggregate.Broken},
		"a number without an end":          {sealed(bytes.Repeat([]byte{0xff}, 11)), aggregate.Broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := []aggregate.Record{{Key: "before"}}
			got, kind := aggregate.Read(before, c.data)
			if kind != c.kind {
				t.Fatalf("kind %d, want %d", kind, c.kind)
			}
			expect := before
			if kind == aggregate.Aggregate {
				expect = append(before, want...)
			}
			if d := cmp.Diff(expect, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestKnownBytes holds the format against bytes that were put together by hand.
func TestKnownBytes(t *testing.T) {
	t.Parallel()
	message, err := hex.DecodeString("0a016b" + "1a06" + "0800" + "1a0278" + "79" + "1a05" + "0800" + "1a017a")
	if err != nil {
		t.Fatal(err)
	}
	var b aggregate.Builder
	b.Add(aggregate.Record{Key: "k", Data: []byte("xy")})
	b.Add(aggregate.Record{Key: "k", Data: []byte("z")})
	if d := cmp.Diff(sealed(message), b.Finish()); d != "" {
		t.Error(d)
	}
}

var records = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) aggregate.Record {
	return aggregate.Record{
		Key:          rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b"}), rapid.String()).Draw(t, "key"),
		ExplicitHash: rapid.SampledFrom([]string{"", "", "0", "17"}).Draw(t, "hash"),
		Data:         append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")...),
	}
}), 0, 300)

// TestBuilder: what was written is read again, and its size is known before.
func TestBuilder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b aggregate.Builder
		for range 2 { // a builder can be used again
			want := records.Draw(t, "records")
			for i, r := range want {
				size := b.SizeWith(r)
				b.Add(r)
				if b.Len() != i+1 || b.Size() != size {
					t.Fatalf("%d records of size %d, want %d of %d", b.Len(), b.Size(), i+1, size)
				}
			}
			size, data := b.Size(), b.Finish()
			if len(data) != size {
				t.Fatalf("%d bytes, Size said %d", len(data), size)
			}
			if len(want) == 0 && data != nil {
				t.Fatalf("nothing became % x", data)
			}
			if len(want) < 2 {
				if len(want) == 1 && !bytes.Equal(data, want[0].Data) {
					t.Fatalf("one record became % x", data)
				}
				continue
			}
			got, kind := aggregate.Read(nil, data)
			if d := cmp.Diff(want, got); kind != aggregate.Aggregate || d != "" {
				t.Fatalf("kind %d: %s", kind, d)
			}
		}
	})
}

func TestHash(t *testing.T) {
	t.Parallel()
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	for _, text := range []string{"", "x", "-1", "1x", " 1", limit.String(), "999999999999999999999999999999999999999", "1000000000000000000000000000000000000000000"} {
		if h, ok := aggregate.ParseHash(text); ok {
			t.Errorf("%q is %x", text, h)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash")
		h, ok := aggregate.ParseHash(new(big.Int).SetBytes(b).String())
		if !ok || !bytes.Equal(h[:], b) {
			t.Fatalf("%x became %x", b, h)
		}
	})
}

func TestWithin(t *testing.T) {
	t.Parallel()
	middle, _ := aggregate.ParseHash("170141183460469231731687303715884105728")
	var first, last aggregate.Hash
	for i := range last {
		last[i] = 0xff
	}
	a := aggregate.Record{Key: "a"} // its MD5 begins with 0c
	for name, c := range map[string]struct {
		record      aggregate.Record
		first, last aggregate.Hash
		want        bool
	}{
		"key":                      {a, first, middle, true},
		"key of another shard":     {a, middle, last, false},
		"hash":                     {aggregate.Record{Key: "a", ExplicitHash: "170141183460469231731687303715884105728"}, middle, last, true},
		"first":                    {aggregate.Record{Key: "a", ExplicitHash: "0"}, first, middle, true},
		"last":                     {aggregate.Record{Key: "a", ExplicitHash: "340282366920938463463374607431768211455"}, middle, last, true},
		"a hash that is no number": {aggregate.Record{Key: "a", ExplicitHash: "x"}, first, last, false},
	} {
		if got := c.record.Within(c.first, c.last); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 1, 'k', 0x1a, 4, 8, 0, 0x1a, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		got, kind := aggregate.Read(nil, sealed(message))
		if (kind == aggregate.Aggregate) != (len(got) > 0) {
			t.Fatalf("kind %d with %d records", kind, len(got))
		}
		var b aggregate.Builder
		for _, r := range got {
			b.Add(r)
		}
		if len(got) > 1 {
			if again, kind := aggregate.Read(nil, b.Finish()); kind != aggregate.Aggregate || !cmp.Equal(got, again) {
				t.Fatal(cmp.Diff(got, again))
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var w aggregate.Builder
	for range 100 {
		w.Add(aggregate.Record{Key: "key", Data: make([]byte, 500)})
	}
	data := w.Finish()
	b.SetBytes(int64(len(data)))
	var records []aggregate.Record
	for b.Loop() {
		records, _ = aggregate.Read(records[:0], data)
	}
}
