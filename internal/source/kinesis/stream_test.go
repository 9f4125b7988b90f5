package kinesissource

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// longest is how long a test waits for something that has to come.
const longest = 3 * time.Minute

var (
	streams  atomic.Int64
	timeZero time.Time
)

// stream is one of its own at an engine.
type testStream struct {
	name, endpoint string
	client         *kinesis.Client
}

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"} {
		if err := setenv(name, value); err != nil {
			panic(err)
		}
	}
	exit(m.Run())
}

func makeStream(t testing.TB, endpoint string, shards int) *testStream {
	t.Helper()
	s := &testStream{
		name: fmt.Sprintf("source-%d-%d", time.Now().UnixNano(), streams.Add(1)), endpoint: endpoint,
		client: kinesis.New(kinesis.Options{Region: "eu-central-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: testClient}),
	}
	if _, err := s.client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &s.name, ShardCount: sdk.Int32(int32(shards))}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = s.client.DeleteStream(context.Background(), &kinesis.DeleteStreamInput{StreamName: &s.name, EnforceConsumerDeletion: sdk.Bool(true)})
	})
	s.active(t)
	return s
}

// active waits until the stream can be used.
func (s *testStream) active(t testing.TB) {
	t.Helper()
	eventually(t, "the stream to be active", func() bool {
		out, err := s.client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &s.name})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
	})
}

// remove deletes the stream.
func (s *testStream) remove(t testing.TB) {
	t.Helper()
	if _, err := s.client.DeleteStream(t.Context(), &kinesis.DeleteStreamInput{StreamName: &s.name}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream to be gone", func() bool {
		_, err := s.client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &s.name})
		return err != nil
	})
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(longest); !f(); {
		if time.Now().After(until) {
			t.Fatalf("waited %s for %s", longest, what)
		}
		if err := pause(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// put puts payloads in their order, all with one key unless key says otherwise.
func (s *testStream) put(t testing.TB, key func(i int) string, payloads ...[]byte) {
	t.Helper()
	for from := 0; from < len(payloads); from += 500 {
		var entries []types.PutRecordsRequestEntry
		for i := from; i < min(from+500, len(payloads)); i++ {
			k := "key"
			if key != nil {
				k = key(i)
			}
			entries = append(entries, types.PutRecordsRequestEntry{Data: payloads[i], PartitionKey: &k})
		}
		out, err := s.client.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &s.name, Records: entries})
		if err != nil {
			t.Fatal(err)
		}
		if n := sdk.ToInt32(out.FailedRecordCount); n > 0 {
			t.Fatalf("%d records failed", n)
		}
	}
}

// source is one that reads s with leases at d.
func (s *testStream) source(d *desk, change func(*Config)) *Source {
	c := defaults()
	c.StreamName, c.Region, c.AppName, c.CustomAWSEndpoint = s.name, "eu-central-1", "app", s.endpoint
	c.ReadThrottleDelayMs, c.IdleDelayMs, c.CheckpointIntervalMs = 20, 50, 20 // engines have no limits
	if change != nil {
		change(&c)
	}
	src := newSource(connector.Deps{Log: slog.New(slog.DiscardHandler)}, c)
	src.coordinate = d.coordinate
	return src
}

// opened opens src until the end of the test.
func opened(t testing.TB, src *Source) *Source {
	t.Helper()
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return src
}

// read is one read with its ack.
type readOf struct {
	batch event.Batch
	ack   connector.Ack
}

// reads reads until n messages came.
func reads(t testing.TB, src connector.Source, n int) (rs []readOf) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), longest)
	defer stop()
	for got := 0; got < n; {
		b, ack, err := src.Read(ctx, connector.Room{Messages: n - got})
		if err != nil {
			t.Fatalf("read after %d of %d messages: %v", got, n, err)
		}
		got += len(b)
		rs = append(rs, readOf{b, ack})
	}
	return rs
}

// ackAll settles reads.
func ackAll(t testing.TB, rs []readOf) {
	t.Helper()
	for _, r := range rs {
		if err := r.ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func payloadsOf(rs []readOf) (ps []string) {
	for _, r := range rs {
		for _, m := range r.batch {
			ps = append(ps, string(m.Data))
		}
	}
	return ps
}

func texts(prefix string, n int) [][]byte {
	ps := make([][]byte, n)
	for i := range ps {
		ps[i] = fmt.Appendf(nil, "%s %05d", prefix, i)
	}
	return ps
}

func joined(ps [][]byte) string {
	var b strings.Builder
	for _, p := range ps {
		b.Write(p)
		b.WriteByte('\n')
	}
	return b.String()
}
