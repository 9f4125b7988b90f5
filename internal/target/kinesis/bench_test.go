package kinesistarget

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// taking is a service that takes every record.
func taking(b *testing.B) string {
	b.Helper()
	answers := map[int][]byte{}
	for _, n := range []int{500} {
		records := make([]map[string]string, n)
		for i := range records {
			records[i] = map[string]string{"SequenceNumber": "49600000000000000000000000000000000000000000000000000001", "ShardId": "shardId-000000000000"}
		}
		answers[n], _ = json.Marshal(map[string]any{"FailedRecordCount": 0, "Records": records})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "PutRecords") {
			_, _ = w.Write(answers[500])
			return
		}
		_, _ = io.WriteString(w, `{"StreamDescriptionSummary":{}}`)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkWrite is a write of 500 records of 1 KiB, and BenchmarkSDK the same request by the
// SDK alone.
func BenchmarkWrite(b *testing.B) {
	c := defaults()
	c.StreamName, c.Region, c.CustomAWSEndpoint = "s", "us-east-1", taking(b)
	k, err := New(b.Context(), connector.Deps{}, c)
	if err != nil {
		b.Fatal(err)
	}
	if err := k.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	batch := make(event.Batch, 500)
	for i := range batch {
		batch[i] = event.New(make([]byte, 1024))
		batch[i].Key = fmt.Sprint("key ", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSDK(b *testing.B) {
	endpoint := taking(b)
	cfg, err := aws.Load(b.Context(), aws.Access{Region: "us-east-1", Endpoint: endpoint})
	if err != nil {
		b.Fatal(err)
	}
	client, name := kinesis.NewFromConfig(cfg), "s"
	keys := make([]string, 500)
	data := make([]byte, 1024)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		in := &kinesis.PutRecordsInput{StreamName: &name, Records: make([]types.PutRecordsRequestEntry, len(keys))}
		for i := range keys {
			in.Records[i] = types.PutRecordsRequestEntry{Data: data, PartitionKey: &keys[i]}
		}
		out, err := client.PutRecords(b.Context(), in)
		if err != nil || *out.FailedRecordCount > 0 {
			b.Fatal(err)
		}
	}
}
