package kinesissource

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
)

// TestLeasesInDynamoDB: the source with its real leases; what was settled is not read again.
func TestLeasesInDynamoDB(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 3)
	want := texts("payload", 300)
	s.put(t, func(i int) string { return fmt.Sprint(i) }, want...)
	another := func() *Source {
		src := s.source(nil, func(c *Config) { c.AppName, c.CustomDynamoDBEndpoint = "app-"+s.name, enginetest.DynamoDB(t) })
		src.coordinate = src.coordinator
		return src
	}
	if err := another().Check(t.Context()); err != nil {
		t.Errorf("Check before the table is made: %v", err)
	}
	src := opened(t, another())
	rs := reads(t, src, len(want))
	got := payloadsOf(rs)
	slices.Sort(got)
	if d := cmp.Diff(joined(want), strings.Join(got, "\n")+"\n"); d != "" {
		t.Error(d)
	}
	ackAll(t, rs)
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := another().Check(t.Context()); err != nil {
		t.Errorf("Check of the table that was made: %v", err)
	}
	more := texts("more", 50)
	s.put(t, func(i int) string { return fmt.Sprint(i) }, more...)
	got = payloadsOf(reads(t, opened(t, another()), len(more)))
	slices.Sort(got)
	if d := cmp.Diff(joined(more), strings.Join(got, "\n")+"\n"); d != "" {
		t.Error(d)
	}
}

// TestCheck: what is missing is said, with what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 1)
	tables := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
	src := s.source(nil, func(c *Config) { c.AppName, c.CustomDynamoDBEndpoint = "check-"+s.name, tables.URL })
	src.coordinate = src.coordinator
	opened(t, src) // the table is there now
	for _, c := range []struct {
		at        *faultproxy.AWS
		operation string
		want      string
	}{
		{p, "DescribeStreamSummary", "allow kinesis:DescribeStreamSummary"},
		{p, "ListShards", "allow kinesis:ListShards"},
		{p, "GetShardIterator", "allow kinesis:GetShardIterator"},
		{p, "GetRecords", "allow kinesis:GetRecords"},
		{tables, "DescribeTable", "allow dynamodb:DescribeTable"},
		{tables, "Scan", "allow dynamodb:Scan"},
		{tables, "GetItem", "allow dynamodb:GetItem"},
		{tables, "PutItem", "allow dynamodb:PutItem"},
		{tables, "UpdateItem", "allow dynamodb:UpdateItem"},
		{tables, "DeleteItem", "allow dynamodb:DeleteItem"},
	} {
		c.at.On(c.operation, func(call *faultproxy.Call) faultproxy.Action {
			if strings.HasSuffix(c.operation, "Item") && !strings.Contains(string(call.Body), "weir check") {
				return nil
			}
			return denied
		})
		eventually(t, "a check without "+c.operation, func() bool {
			err := src.Check(t.Context())
			return fault.Of(err) == fault.Setup && strings.Contains(err.Error(), c.want)
		})
		c.at.Heal()
	}
	if err := src.Check(t.Context()); err != nil {
		t.Errorf("with everything in order: %v", err)
	}
	p.On("GetRecords", faultproxy.Always(faultproxy.Throttled))
	if err := src.Check(t.Context()); err != nil {
		t.Errorf("while others read the shard: %v", err)
	}
}

// TestNoTable: leases that cannot be had are said at the start, and nothing is left behind.
func TestNoTable(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	tables := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
	tables.On("", faultproxy.Always(denied))
	for _, leases := range []string{leasesAuto, leasesDynamoDB, leasesSnowbridge} {
		src := s.source(nil, func(c *Config) { c.AppName, c.CustomDynamoDBEndpoint, c.Leases = "none-"+s.name, tables.URL, leases })
		src.coordinate = src.coordinator
		if err := src.Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "allow dynamodb:DescribeTable") {
			t.Errorf("leases = %q: Open: %v", leases, err)
		}
		if err := src.Close(t.Context()); err != nil {
			t.Errorf("leases = %q: Close: %v", leases, err)
		}
	}
}

// TestTakeOver: the tables of a Snowbridge that has stopped are found, and read on from.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	s, app := makeStream(t, enginetest.Kinesalite(t), 1), ""
	want := texts("payload", 20)
	s.put(t, nil, want...)
	var at string
	for _, r := range reads(t, opened(t, s.source(newDesk(), nil)), 8) {
		at = r.batch[len(r.batch)-1].Meta.ID
	}
	src := s.source(nil, func(c *Config) {
		c.CustomDynamoDBEndpoint, c.PartitionKey, c.ShardCheckFreqSeconds = enginetest.DynamoDB(t), keySource, 1
		app = c.AppName + s.name
		c.AppName = app
	})
	src.coordinate = src.coordinator
	n, err := src.newSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer n.hangUp()
	tables := n.dynamo()
	for name, key := range map[string]string{"clients": "ID", "checkpoints": "Shard", "metadata": "Key"} {
		if _, err := tables.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName: sdk.String(app + "_" + name), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: &key, KeyType: types.KeyTypeHash}},
		}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "table "+name, func() bool {
			out, err := tables.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: sdk.String(app + "_" + name)})
			return err == nil && out.Table.TableStatus == types.TableStatusActive
		})
	}
	text := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	if _, err := tables.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: sdk.String(app + "_checkpoints"), Item: map[string]types.AttributeValue{
		"Shard": text(onlyShard), "SequenceNumber": text(at), "LastUpdate": &types.AttributeValueMemberN{Value: "1600000000000000000"},
		"OwnerName": &types.AttributeValueMemberNULL{Value: true}, "OwnerID": &types.AttributeValueMemberNULL{Value: true},
	}}); err != nil {
		t.Fatal(err)
	}
	opened(t, src)
	rs := reads(t, src, 12)
	if d := cmp.Diff(joined(want[8:]), strings.Join(payloadsOf(rs), "\n")+"\n"); d != "" {
		t.Error(d)
	}
	ackAll(t, rs)
	last := rs[len(rs)-1].batch
	eventually(t, "the position in Snowbridge's column", func() bool {
		out, err := tables.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: sdk.String(app + "_checkpoints"), Key: map[string]types.AttributeValue{"Shard": text(onlyShard)}})
		if err != nil {
			return false
		}
		v, ok := out.Item["SequenceNumber"].(*types.AttributeValueMemberS)
		return ok && v.Value == last[len(last)-1].Meta.ID
	})
}

// TestTroubleWithLeases: a table that is away for longer than the fail-over time is trouble of the
// source, and none any more when it is back; reading goes on then.
func TestTroubleWithLeases(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	tables := faultproxy.NewAWS(t, enginetest.DynamoDB(t))
	src := s.source(nil, func(c *Config) {
		c.AppName, c.CustomDynamoDBEndpoint, c.FailoverSeconds = "trouble-"+s.name, tables.URL, 3
	})
	src.coordinate = src.coordinator
	if err := src.Trouble(); err != nil {
		t.Errorf("before Open: %v", err)
	}
	opened(t, src)
	s.put(t, nil, []byte("before"))
	ackAll(t, reads(t, src, 1))
	if err := src.Trouble(); err != nil {
		t.Errorf("while the table answers: %v", err)
	}
	tables.On("", faultproxy.Always(faultproxy.Error(500, "InternalServerError", "away")))
	eventually(t, "trouble", func() bool {
		err := src.Trouble()
		return err != nil && strings.Contains(err.Error(), "look at the leases of stream "+s.name) && fault.Of(err) == fault.Transient
	})
	tables.Heal()
	eventually(t, "no more trouble", func() bool { return src.Trouble() == nil })
	s.put(t, nil, []byte("after"))
	for !slices.Contains(payloadsOf(reads(t, src, 1)), "after") { // what was not written as delivered comes again
	}
	if err := src.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := src.Trouble(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}
