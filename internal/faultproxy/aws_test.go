package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	stypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func load(t *testing.T, a aws.Access) sdk.Config {
	t.Helper()
	a.Region = "us-east-1"
	cfg, err := aws.Load(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// stream is a client behind a proxy before an engine, and a stream of its own.
func stream(t *testing.T, engine string, shards int32) (*faultproxy.AWS, *kinesis.Client, string) {
	t.Helper()
	p := faultproxy.NewAWS(t, engine)
	c := kinesis.NewFromConfig(load(t, aws.Access{Endpoint: p.URL, Streaming: true}))
	name := fmt.Sprintf("proxy-%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().UnixNano())
	if _, err := c.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	if err := kinesis.NewStreamExistsWaiter(c).Wait(t.Context(), &kinesis.DescribeStreamInput{StreamName: &name}, 2*time.Minute, func(o *kinesis.StreamExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, time.Second
	}); err != nil {
		t.Fatal(err)
	}
	return p, c, name
}

func put(t *testing.T, c *kinesis.Client, name string, n int) (*kinesis.PutRecordsOutput, error) {
	t.Helper()
	var in []ktypes.PutRecordsRequestEntry
	for i := range n {
		in = append(in, ktypes.PutRecordsRequestEntry{Data: []byte("data " + strconv.Itoa(i)), PartitionKey: sdk.String("key-" + strconv.Itoa(i))})
	}
	return c.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &name, Records: in})
}

// TestSomeRecords: an answer has all entries in their order, the engine only those that did not
// fail, and what it took is listed with its place.
func TestSomeRecords(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 1)
	p.On("PutRecords", faultproxy.Times(1, faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
		if e.Index%3 == 0 {
			return faultproxy.TooMuch
		}
		return nil
	})))
	out, err := put(t, c, name, 7)
	if err != nil {
		t.Fatal(err)
	}
	if *out.FailedRecordCount != 3 || len(out.Records) != 7 {
		t.Fatalf("%d of %d failed", *out.FailedRecordCount, len(out.Records))
	}
	for i, r := range out.Records {
		if failed := i%3 == 0; failed != (r.ErrorCode != nil) || failed == (r.SequenceNumber != nil) {
			t.Errorf("entry %d: %v %v", i, r.ErrorCode, r.SequenceNumber)
		}
	}
	got := p.Accepted()
	if len(got) != 4 {
		t.Fatalf("accepted %d", len(got))
	}
	for i, at := range []int{1, 2, 4, 5} {
		if e := got[i]; e.Index != at || string(e.Data) != "data "+strconv.Itoa(at) || e.Key != "key-"+strconv.Itoa(at) || e.Stream != name || e.Sequence != *out.Records[at].SequenceNumber || e.Shard == "" || e.Call != 1 {
			t.Errorf("accepted %+v at %d", e, at)
		}
	}
	if n := len(read(t, c, name)); n != 4 {
		t.Errorf("the stream has %d records", n)
	}
	p.On("PutRecords", faultproxy.Always(faultproxy.Some(func(faultproxy.Entry) *faultproxy.EntryError { return faultproxy.TooMuch })))
	if out, err = put(t, c, name, 2); err != nil || *out.FailedRecordCount != 2 || len(p.Accepted()) != 4 {
		t.Errorf("all failed: %v %v", out, err)
	}
}

// read is all records of a stream.
func read(t *testing.T, c *kinesis.Client, name string) []ktypes.Record {
	t.Helper()
	list, err := c.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &name})
	if err != nil {
		t.Fatal(err)
	}
	var all []ktypes.Record
	for _, s := range list.Shards {
		it, err := c.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: &name, ShardId: s.ShardId, ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon})
		if err != nil {
			t.Fatal(err)
		}
		for next := it.ShardIterator; next != nil; {
			out, err := c.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Records) == 0 {
				break
			}
			all, next = append(all, out.Records...), out.NextShardIterator
		}
	}
	return all
}

// TestUnknown: a lost answer is an error of the connection, and the engine has the records.
func TestUnknown(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 1)
	p.On("PutRecords", faultproxy.Times(1, faultproxy.Lost))
	p.On("PutRecords", faultproxy.Times(1, faultproxy.Cut))
	for want := range 2 {
		if _, err := put(t, c, name, 2); err == nil || aws.Code(err) != "" {
			t.Errorf("lost: %v", err)
		}
		if n := len(read(t, c, name)); n != 2 || len(p.Accepted()) != 2 || p.Calls("PutRecords") != want+1 {
			t.Errorf("the stream has %d records, %d were accepted in %d calls", n, len(p.Accepted()), p.Calls("PutRecords"))
		}
	}
	if _, err := put(t, c, name, 2); err != nil {
		t.Error(err)
	}
}

func TestFrozenCalls(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 1)
	for i, a := range []faultproxy.Action{faultproxy.Frozen, faultproxy.FrozenAnswer} {
		p.Heal()
		p.On("PutRecords", faultproxy.Always(a))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := c.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &name, Records: []ktypes.PutRecordsRequestEntry{{Data: []byte("x"), PartitionKey: sdk.String("k")}}})
			done <- err
		}()
		for p.Calls("PutRecords") <= i || i == 1 && len(p.Accepted()) == 0 {
			time.Sleep(time.Millisecond)
		}
		select {
		case err := <-done:
			t.Errorf("answered: %v", err)
		default:
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(p.Accepted()) != i {
			t.Errorf("accepted %d", len(p.Accepted()))
		}
	}
	open := make(chan struct{})
	p.Heal()
	p.On("PutRecords", faultproxy.Always(faultproxy.Held(open, faultproxy.Late(time.Millisecond, faultproxy.Pass))))
	time.AfterFunc(10*time.Millisecond, func() { close(open) })
	if _, err := put(t, c, name, 1); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 1)
	for _, row := range []struct {
		action faultproxy.Action
		is     func(error) bool
	}{
		{faultproxy.Throttled, is[*ktypes.ProvisionedThroughputExceededException]},
		{faultproxy.Error(0, "KMSDisabledException", "the key"), is[*ktypes.KMSDisabledException]},
		{faultproxy.Error(500, "InternalFailure", ""), func(err error) bool { return aws.Code(err) == "InternalFailure" }},
	} {
		p.Heal()
		p.On("", faultproxy.Times(1, row.action))
		if _, err := put(t, c, name, 1); !row.is(err) {
			t.Errorf("%#v: %v", row.action, err)
		}
	}
	p.On("PutRecords", func(c *faultproxy.Call) faultproxy.Action {
		if c.Text("StreamName") == name && bytes.Contains(c.Body, []byte("key-1")) {
			return faultproxy.Throttled
		}
		return nil
	})
	if _, err := put(t, c, name, 1); err != nil {
		t.Error(err)
	}
	if _, err := put(t, c, name, 2); !is[*ktypes.ProvisionedThroughputExceededException](err) {
		t.Error(err)
	}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// TestSizes: data and key count together, and only beyond the limit.
func TestSizes(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 1)
	p.Check(faultproxy.KinesisSizes)
	one := func(data, key int, hash string) error {
		e := ktypes.PutRecordsRequestEntry{Data: make([]byte, data), PartitionKey: sdk.String(strings.Repeat("k", key))}
		if hash != "" {
			e.ExplicitHashKey = &hash
		}
		_, err := c.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &name, Records: []ktypes.PutRecordsRequestEntry{e}})
		return err
	}
	if err := one(1<<20-8, 8, "340282366920938463463374607431768211455"); err != nil {
		t.Errorf("a record of 1 MiB with its key: %v", err)
	}
	for name, err := range map[string]error{"one byte more": one(1<<20-8, 9, ""), "long key": one(1, 257, ""), "hash": one(1, 1, "340282366920938463463374607431768211456"), "hash text": one(1, 1, "x")} {
		if code := aws.Code(err); code != "InvalidArgumentException" && code != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := put(t, c, name, 501); aws.Code(err) != "ValidationException" {
		t.Errorf("501 records: %v", err)
	}
}

// TestLimit: what is beyond the rate of one shard fails, and another shard takes its own.
func TestLimit(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.Kinesalite(t), 2)
	p.Limit(faultproxy.Rate{Records: 10, Bytes: 1 << 20})
	var in []ktypes.PutRecordsRequestEntry
	for i := range 40 {
		hash := "0"
		if i%4 == 0 {
			hash = "340282366920938463463374607431768211455"
		}
		in = append(in, ktypes.PutRecordsRequestEntry{Data: []byte("x"), PartitionKey: sdk.String("k"), ExplicitHashKey: &hash})
	}
	out, err := c.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &name, Records: in})
	if err != nil {
		t.Fatal(err)
	}
	shards := map[string]int{}
	for _, e := range p.Accepted() {
		shards[e.Shard]++
	}
	if *out.FailedRecordCount != 20 || len(shards) != 2 || shards["shardId-000000000000"] != 10 || shards["shardId-000000000001"] != 10 {
		t.Errorf("%d failed, accepted %v", *out.FailedRecordCount, shards)
	}
	for i, r := range out.Records {
		if r.ErrorMessage != nil && (i%4 == 0 || !strings.Contains(*r.ErrorMessage, "shardId-000000000000")) {
			t.Errorf("entry %d: %s", i, *r.ErrorMessage)
		}
	}
}

// TestSubscription: the frame that the engine leaves out is there, a frozen stream says nothing
// and goes on, a cut one ends.
func TestSubscription(t *testing.T) {
	t.Parallel()
	p, c, name := stream(t, enginetest.KinesisLocal(t), 1)
	p.InitialResponse()
	d, err := c.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := c.RegisterStreamConsumer(t.Context(), &kinesis.RegisterStreamConsumerInput{StreamARN: d.StreamDescriptionSummary.StreamARN, ConsumerName: sdk.String("c")})
	if err != nil {
		t.Fatal(err)
	}
	arn := reg.Consumer.ConsumerARN
	for status := ktypes.ConsumerStatusCreating; status != ktypes.ConsumerStatusActive; {
		out, err := c.DescribeStreamConsumer(t.Context(), &kinesis.DescribeStreamConsumerInput{ConsumerARN: arn})
		if err != nil {
			t.Fatal(err)
		}
		status = out.ConsumerDescription.ConsumerStatus
		time.Sleep(10 * time.Millisecond)
	}
	sub, err := c.SubscribeToShard(t.Context(), &kinesis.SubscribeToShardInput{ConsumerARN: arn, ShardId: sdk.String("shardId-000000000000"), StartingPosition: &ktypes.StartingPosition{Type: ktypes.ShardIteratorTypeTrimHorizon}})
	if err != nil {
		t.Fatal(err)
	}
	events := sub.GetStream()
	defer events.Close()
	next := func() bool { // waits for records
		for e := range events.Events() {
			if got, ok := e.(*ktypes.SubscribeToShardEventStreamMemberSubscribeToShardEvent); ok && len(got.Value.Records) > 0 {
				return true
			}
		}
		return false
	}
	if _, err := put(t, c, name, 1); err != nil {
		t.Fatal(err)
	}
	if !next() {
		t.Fatalf("the stream ended: %v", events.Err())
	}
	if p.Streams() != 1 || p.Freeze(func(c *faultproxy.Call) bool { return c.Text("ShardId") == "shardId-000000000000" }) != 1 {
		t.Fatalf("%d streams", p.Streams())
	}
	if _, err := put(t, c, name, 1); err != nil {
		t.Fatal(err)
	}
	p.Thaw(nil)
	if !next() {
		t.Fatalf("the stream ended: %v", events.Err())
	}
	p.CutStreams(nil)
	if next() {
		t.Error("the stream goes on")
	}
	// Whether Err is set then depends on where in a frame the cut came: a client must not take a
	// stream without an error for one that has come to its end.
	if _, err := put(t, c, name, 1); err != nil {
		t.Error(err)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	p := faultproxy.NewAWS(t, enginetest.SQS(t))
	c := sqs.NewFromConfig(load(t, aws.Access{Endpoint: p.URL}))
	q, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: sdk.String("proxy-" + strconv.FormatInt(time.Now().UnixNano(), 36))})
	if err != nil {
		t.Fatal(err)
	}
	p.On("SendMessageBatch", faultproxy.Times(1, faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
		if e.ID == "b" {
			return &faultproxy.EntryError{Code: "InternalError", Message: "no"}
		}
		return nil
	})))
	var in []stypes.SendMessageBatchRequestEntry
	for _, id := range []string{"a", "b", "c"} {
		in = append(in, stypes.SendMessageBatchRequestEntry{Id: sdk.String(id), MessageBody: sdk.String("body " + id)})
	}
	out, err := c.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: q.QueueUrl, Entries: in})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Successful) != 2 || len(out.Failed) != 1 || *out.Failed[0].Id != "b" || out.Failed[0].SenderFault {
		t.Errorf("%+v", out)
	}
	got := p.Accepted()
	if len(got) != 2 || string(got[0].Data) != "body a" || string(got[1].Data) != "body c" || got[1].Index != 2 || got[1].Sequence == "" || got[0].Stream != *q.QueueUrl {
		t.Fatalf("accepted %+v", got)
	}
	r, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 2})
	if err != nil || len(r.Messages) == 0 {
		t.Fatal(r, err)
	}
	p.On("DeleteMessageBatch", faultproxy.Times(1, faultproxy.Some(func(faultproxy.Entry) *faultproxy.EntryError {
		return &faultproxy.EntryError{Code: "ReceiptHandleIsInvalid", SenderFault: true}
	})))
	del := &sqs.DeleteMessageBatchInput{QueueUrl: q.QueueUrl, Entries: []stypes.DeleteMessageBatchRequestEntry{{Id: sdk.String("0"), ReceiptHandle: r.Messages[0].ReceiptHandle}}}
	if d, err := c.DeleteMessageBatch(t.Context(), del); err != nil || len(d.Failed) != 1 || len(p.Accepted()) != 2 {
		t.Errorf("%+v %v", d, err)
	}
	if d, err := c.DeleteMessageBatch(t.Context(), del); err != nil || len(d.Successful) != 1 || string(p.Accepted()[2].Data) != *r.Messages[0].ReceiptHandle {
		t.Errorf("%+v %v", d, err)
	}
	p.On("ReceiveMessage", faultproxy.Times(1, faultproxy.Error(403, "OverLimit", "too many in flight")))
	if _, err = c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl}); !is[*stypes.OverLimit](err) {
		t.Error(err)
	}
}

func TestDynamoDB(t *testing.T) {
	t.Parallel()
	p := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
	c := dynamodb.NewFromConfig(load(t, aws.Access{Endpoint: p.URL}))
	p.On("ListTables", faultproxy.Times(1, faultproxy.Throttled))
	if _, err := c.ListTables(t.Context(), &dynamodb.ListTablesInput{}); aws.Code(err) != "ProvisionedThroughputExceededException" {
		t.Error(err)
	}
	if _, err := c.ListTables(t.Context(), &dynamodb.ListTablesInput{}); err != nil {
		t.Error(err)
	}
}
