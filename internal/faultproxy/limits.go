package faultproxy

import (
	"context"
	"crypto/md5" //nolint:gosec // how Kinesis finds the shard of a key
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Sizes are the limits that Kinesis has on what is put, which no engine keeps whole.
type Sizes struct {
	// Record is the most bytes of a record, its data and its key; Request those of all records
	// of a call; Records is how many there may be.
	Record, Request, Records int
}

// KinesisSizes are the limits of a stream that nobody has changed.
var KinesisSizes = Sizes{Record: 1 << 20, Request: 10 << 20, Records: 500}

// Check refuses, from now on, calls that are beyond the sizes. A call fails whole, as with the
// real service.
func (p *AWS) Check(s Sizes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = &s
}

var hashEnd = new(big.Int).Lsh(big.NewInt(1), 128)

func (s *Sizes) check(c *Call) Action {
	if c.Operation != "PutRecords" && c.Operation != "PutRecord" {
		return nil
	}
	_, _, entries := parse(c, c.Body)
	if len(entries) > s.Records {
		return Error(0, "ValidationException", fmt.Sprintf("1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to %d", s.Records))
	}
	total := 0
	for i, e := range entries {
		n := len(e.Data) + len(e.Key)
		total += n
		switch keyed := len([]rune(e.Key)); {
		case n > s.Record:
			return Error(0, "InvalidArgumentException", fmt.Sprintf("record %d has %d bytes with its partition key, more than %d", i, n, s.Record))
		case keyed < 1 || keyed > 256:
			return Error(0, "ValidationException", fmt.Sprintf("1 validation error detected: Value at 'records.%d.member.partitionKey' failed to satisfy constraint: Member must have length between 1 and 256", i+1))
		}
		if e.Hash != "" {
			if h, ok := new(big.Int).SetString(e.Hash, 10); !ok || h.Sign() < 0 || h.Cmp(hashEnd) >= 0 {
				return Error(0, "InvalidArgumentException", fmt.Sprintf("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", e.Hash))
			}
		}
	}
	if total > s.Request {
		return Error(0, "InvalidArgumentException", fmt.Sprintf("Records size exceeds %d bytes", s.Request))
	}
	return nil
}

// Rate is what a shard takes.
type Rate struct {
	Records int // in a second
	Bytes   int // in a second, of data and keys
}

// KinesisRate is what a shard of Kinesis takes.
var KinesisRate = Rate{Records: 1000, Bytes: 1 << 20}

// Limit throttles puts from now on by shard, with a bucket of one second's worth for each: the entries
// beyond it fail, alone. Where a record goes follows from the hash ranges of the stream's
// open shards, which are asked for every second.
func (p *AWS) Limit(r Rate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buckets = &buckets{rate: r, streams: map[string]*shards{}, now: time.Now}
}

type buckets struct {
	rate Rate
	now  func() time.Time

	mu      sync.Mutex
	streams map[string]*shards
}

// shards are the open ones of a stream, as they were at a time.
type shards struct {
	at      time.Time
	buckets []*bucket
}

// bucket is a shard with what it has left.
type bucket struct {
	shard          string
	from, to       *big.Int
	records, bytes float64
	at             time.Time
}

func (b *buckets) check(p *AWS, c *Call) Action {
	if c.Operation != "PutRecords" && c.Operation != "PutRecord" {
		return nil
	}
	_, _, entries := parse(c, c.Body)
	if len(entries) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.open(p, c, entries[0].Stream)
	over := map[int]*EntryError{}
	for i, e := range entries {
		for _, s := range open {
			if hash := hashOf(e); s.from.Cmp(hash) <= 0 && hash.Cmp(s.to) <= 0 {
				if !s.take(b.rate, b.now(), len(e.Data)+len(e.Key)) {
					over[i] = &EntryError{Code: TooMuch.Code, Message: fmt.Sprintf("Rate exceeded for shard %s in stream %s under account 000000000000.", s.shard, e.Stream)}
				}
				break
			}
		}
	}
	switch {
	case len(over) == 0:
		return nil
	case c.Operation == "PutRecord":
		return Error(0, over[0].Code, over[0].Message)
	}
	return Some(func(e Entry) *EntryError { return over[e.Index] })
}

func hashOf(e Entry) *big.Int {
	if e.Hash != "" {
		h, _ := new(big.Int).SetString(e.Hash, 10)
		if h == nil {
			h = new(big.Int)
		}
		return h
	}
	sum := md5.Sum([]byte(e.Key)) //nolint:gosec // see above
	return new(big.Int).SetBytes(sum[:])
}

func (s *bucket) take(r Rate, now time.Time, bytes int) bool {
	passed := now.Sub(s.at).Seconds()
	s.at = now
	s.records = min(s.records+passed*float64(r.Records), float64(r.Records))
	s.bytes = min(s.bytes+passed*float64(r.Bytes), float64(r.Bytes))
	if s.records < 1 || s.bytes < float64(bytes) {
		return false
	}
	s.records--
	s.bytes -= float64(bytes)
	return true
}

// open asks the engine for a stream's open shards, with the client's own headers. A shard that
// was known keeps what it has left.
func (b *buckets) open(p *AWS, c *Call, stream string) []*bucket {
	now := b.now()
	known := b.streams[stream]
	if known != nil && now.Sub(known.at) < time.Second {
		return known.buckets
	}
	header := http.Header{"Content-Type": c.Header["Content-Type"], "Authorization": c.Header["Authorization"], "X-Amz-Date": c.Header["X-Amz-Date"]}
	header.Set("X-Amz-Target", "Kinesis_20131202.ListShards")
	by := "StreamName"
	if strings.HasPrefix(stream, "arn:") {
		by = "StreamARN"
	}
	a, err := p.whole(context.Background(), header, encode(map[string]string{by: stream}))
	if err != nil || a.status != http.StatusOK {
		return nil
	}
	var list struct {
		Shards []struct {
			ShardID      string `json:"ShardId"`
			HashKeyRange struct {
				StartingHashKey string `json:"StartingHashKey"`
				EndingHashKey   string `json:"EndingHashKey"`
			} `json:"HashKeyRange"`
			SequenceNumberRange struct {
				EndingSequenceNumber string `json:"EndingSequenceNumber"`
			} `json:"SequenceNumberRange"`
		} `json:"Shards"`
	}
	if json.Unmarshal(a.body, &list) != nil {
		return nil
	}
	fresh := &shards{at: now}
	for _, s := range list.Shards {
		from, ok := new(big.Int).SetString(s.HashKeyRange.StartingHashKey, 10)
		to, ok2 := new(big.Int).SetString(s.HashKeyRange.EndingHashKey, 10)
		if !ok || !ok2 || s.SequenceNumberRange.EndingSequenceNumber != "" {
			continue
		}
		next := &bucket{s.ShardID, from, to, float64(b.rate.Records), float64(b.rate.Bytes), now}
		if known != nil {
			for _, old := range known.buckets {
				if old.shard == next.shard {
					next = old
				}
			}
		}
		fresh.buckets = append(fresh.buckets, next)
	}
	b.streams[stream] = fresh
	return fresh.buckets
}
