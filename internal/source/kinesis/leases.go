package kinesissource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

var _ connector.Recorder = (*Source)(nil)

// Records implements connector.Recorder.
func (s *Source) Records() bool { return s.config.Leases == leasesStore }

// leases is a coordinator of package lease as the source sees it.
type leases struct{ *lease.Coordinator }

func (l leases) Next(ctx context.Context) (holding, error) {
	h, err := l.Coordinator.Next(ctx)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// coordinator gives out the shards by the table that the config names.
func (s *Source) coordinator(ctx context.Context, n *session) (coordinator, error) {
	table, err := s.table(ctx, n)
	if err != nil {
		return nil, err
	}
	name := s.config.ClientName
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			name = "weir"
		}
	}
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	c, err := lease.New(lease.Settings{
		Table: table, Stream: n, Name: name, Start: n.start, Log: s.log,
		Failover: seconds(s.config.FailoverSeconds), Sync: seconds(s.config.LeaderActionFreqSeconds),
	})
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("leases of stream %s: %w", s.config.StreamName, err))
	}
	s.log.Info("sharing the stream by leases", "stream", s.config.StreamName, "leases", table.String(), "worker", c.Worker())
	return leases{c}, nil
}

// dynamo is how the tables are reached.
func (n *session) dynamo() *dynamodb.Client {
	return dynamodb.NewFromConfig(n.cfg, func(o *dynamodb.Options) {
		if n.config.CustomDynamoDBEndpoint != "" {
			o.BaseEndpoint = &n.config.CustomDynamoDBEndpoint
		}
	})
}

func (c *Config) kinsumer() lease.KinsumerOptions {
	return lease.KinsumerOptions{Name: c.AppName, Client: c.ClientName, Stale: 6 * time.Duration(c.ShardCheckFreqSeconds) * time.Second, Fault: aws.Fault}
}

// snowbridge reports whether the leases are in the tables of a Snowbridge.
func (n *session) snowbridge(ctx context.Context) (bool, error) {
	if n.config.Leases != leasesAuto {
		return n.config.Leases == leasesSnowbridge, nil
	}
	there, err := lease.HasKinsumer(ctx, n.dynamo(), n.config.kinsumer())
	if err != nil {
		return false, fmt.Errorf("look for the tables of a Snowbridge called %s (leases = %q needs no such look): %w", n.config.AppName, leasesDynamoDB, err)
	}
	return there, nil
}

// table is where the leases are.
func (s *Source) table(ctx context.Context, n *session) (lease.Table, error) {
	if s.config.Leases == leasesStore {
		return lease.NewStore(s.deps.Store, s.config.AppName+"/"+s.config.StreamName), nil
	}
	old, err := n.snowbridge(ctx)
	if err != nil {
		return nil, err
	}
	if old {
		return lease.NewKinsumer(n.dynamo(), s.config.kinsumer()), nil
	}
	return lease.NewKCL(n.dynamo(), lease.KCLOptions{Name: s.config.AppName, Fault: aws.Fault}), nil
}

// checkLeases proves that the tables are there, or can be made at the start, and may be read and
// written. It writes nothing: what it writes stands under a condition that never holds.
func (s *Source) checkLeases(ctx context.Context, n *session) error {
	if s.config.Leases == leasesStore {
		return nil // the store is checked by itself
	}
	old, err := n.snowbridge(ctx)
	if err != nil {
		return err
	}
	if !old {
		return n.checkTable(ctx, s.config.AppName, "leaseKey", true)
	}
	return errors.Join(n.checkTable(ctx, s.config.AppName+"_checkpoints", "Shard", false), n.checkTable(ctx, s.config.AppName+"_clients", "ID", false))
}

func (n *session) checkTable(ctx context.Context, name, key string, made bool) error {
	client, doing := n.dynamo(), "use DynamoDB table "+name
	out, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if aws.Code(err) == notFound {
		if made {
			return nil // it is made at the start
		}
		return fault.New(fault.Setup, fmt.Errorf("there is no DynamoDB table %q: make it with the key %s (text), or set leases = %q", name, key, leasesDynamoDB))
	}
	if err != nil {
		return aws.Fault(doing, err)
	}
	if t := out.Table; t == nil || len(t.KeySchema) != 1 || sdk.ToString(t.KeySchema[0].AttributeName) != key {
		return fault.New(fault.Setup, fmt.Errorf("DynamoDB table %q has not the key %s alone, and so is none of leases: use another app_name", name, key))
	}
	row := map[string]types.AttributeValue{key: &types.AttributeValueMemberS{Value: "weir check"}}
	never, names := sdk.String("attribute_exists(#k)"), map[string]string{"#k": key}
	var missing []error
	for _, ask := range []func() error{
		func() error {
			_, err := client.Scan(ctx, &dynamodb.ScanInput{TableName: &name, Limit: sdk.Int32(1)})
			return err
		},
		func() error {
			_, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &name, Key: row})
			return err
		},
		func() error {
			_, err := client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &name, Item: row, ConditionExpression: never, ExpressionAttributeNames: names})
			return err
		},
		func() error {
			_, err := client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
				TableName: &name, Key: row, UpdateExpression: sdk.String("SET #c = :c"), ConditionExpression: never,
				ExpressionAttributeNames:  map[string]string{"#c": "weirCheck", "#k": key},
				ExpressionAttributeValues: map[string]types.AttributeValue{":c": &types.AttributeValueMemberBOOL{Value: true}},
			})
			return err
		},
		func() error {
			_, err := client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &name, Key: row, ConditionExpression: never, ExpressionAttributeNames: names})
			return err
		},
	} {
		if err := ask(); err != nil && aws.Code(err) != "ConditionalCheckFailedException" {
			missing = append(missing, aws.Fault(doing, err))
		}
	}
	return errors.Join(missing...)
}
