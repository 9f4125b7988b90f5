package lease

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/weirdata/weir/internal/fault"
)

// DynamoDB is what the tables of this package need of a client of DynamoDB.
type DynamoDB interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// Fault gives an error of a service its meaning: it failed at what doing says.
type Fault func(doing string, err error) error

func plainFault(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// table is one table of DynamoDB with a hash key.
type table struct {
	client    DynamoDB
	name, key string
	fault     Fault
}

type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue    { return &types.AttributeValueMemberS{Value: s} }
func texts(s []string) types.AttributeValue { return &types.AttributeValueMemberSS{Value: s} }
func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// textOf is a column of text; none when it is not there or NULL.
func textOf(it item, column string) (string, error) {
	switch v := it[column].(type) {
	case nil, *types.AttributeValueMemberNULL:
		return "", nil
	case *types.AttributeValueMemberS:
		return v.Value, nil
	default:
		return "", fmt.Errorf("%s is not text", column)
	}
}

func textsOf(it item, column string) ([]string, error) {
	switch v := it[column].(type) {
	case nil, *types.AttributeValueMemberNULL:
		return nil, nil
	case *types.AttributeValueMemberSS:
		return v.Value, nil
	default:
		return nil, fmt.Errorf("%s is not a set of texts", column)
	}
}

func numberOf(it item, column string) (n int64, there bool, err error) {
	switch v := it[column].(type) {
	case nil, *types.AttributeValueMemberNULL:
		return 0, false, nil
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%s is %.40q, which is no whole number", column, v.Value)
		}
		return n, true, nil
	default:
		return 0, false, fmt.Errorf("%s is not a number", column)
	}
}

func missingTable(err error) bool {
	_, none := errors.AsType[*types.ResourceNotFoundException](err)
	return none
}

// moved makes the failure of a condition ErrMoved.
func (t *table) moved(doing string, err error) error {
	if _, failed := errors.AsType[*types.ConditionalCheckFailedException](err); failed {
		return ErrMoved
	}
	return t.fault(doing, err)
}

// open waits until the table can be used, making it when there is none and creates is true.
func (t *table) open(ctx context.Context, creates bool) error {
	for {
		out, err := t.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.name})
		switch {
		case missingTable(err) && creates:
			if err := t.create(ctx); err != nil {
				return err
			}
		case err != nil:
			return t.fault("describe DynamoDB table "+t.name, err)
		case out.Table.TableStatus == types.TableStatusActive || out.Table.TableStatus == types.TableStatusUpdating:
			return t.check(out.Table.KeySchema)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return t.fault("wait for DynamoDB table "+t.name, context.Cause(ctx))
		}
	}
}

func (t *table) check(keys []types.KeySchemaElement) error {
	if len(keys) == 1 && aws.ToString(keys[0].AttributeName) == t.key {
		return nil
	}
	var got []string
	for _, k := range keys {
		got = append(got, aws.ToString(k.AttributeName))
	}
	return fault.New(fault.Setup, fmt.Errorf("DynamoDB table %s keeps something else: its key is %v, not %s alone; name another table", t.name, got, t.key))
}

func (t *table) create(ctx context.Context) error {
	_, err := t.client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: &t.name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &t.key, AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: &t.key, KeyType: types.KeyTypeHash}},
	})
	if _, made := errors.AsType[*types.ResourceInUseException](err); made {
		return nil // by another instance
	}
	return t.fault("make DynamoDB table "+t.name, err)
}

// scan calls fn with every item.
func (t *table) scan(ctx context.Context, latest bool, fn func(item)) error {
	var from item
	for {
		out, err := t.client.Scan(ctx, &dynamodb.ScanInput{TableName: &t.name, ConsistentRead: &latest, ExclusiveStartKey: from})
		if err != nil {
			return t.fault("scan DynamoDB table "+t.name, err)
		}
		for _, it := range out.Items {
			fn(it)
		}
		if from = out.LastEvaluatedKey; len(from) == 0 {
			return nil
		}
	}
}

// get is the latest state of an item; nil when there is none.
func (t *table) get(ctx context.Context, key string) (item, error) {
	out, err := t.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.name, Key: item{t.key: text(key)}, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, t.fault("read item "+key+" of DynamoDB table "+t.name, err)
	}
	return out.Item, nil
}

// put adds an item, unless there is one with its key.
func (t *table) put(ctx context.Context, it item) error {
	_, err := t.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &t.name, Item: it, ConditionExpression: aws.String("attribute_not_exists(#key)"), ExpressionAttributeNames: map[string]string{"#key": t.key},
	})
	if err := t.moved("add an item to DynamoDB table "+t.name, err); !errors.Is(err, ErrMoved) {
		return err
	}
	return nil
}

// update changes an item that fulfils a condition, and returns it as it is then.
func (t *table) update(ctx context.Context, key, change, condition string, values item) (item, error) {
	out, err := t.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &t.name, Key: item{t.key: text(key)}, ReturnValues: types.ReturnValueAllNew,
		UpdateExpression: &change, ConditionExpression: &condition, ExpressionAttributeValues: values,
	})
	if err := t.moved("update item "+key+" of DynamoDB table "+t.name, err); err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

// remove deletes an item that fulfils a condition.
func (t *table) remove(ctx context.Context, key, condition string, values item) error {
	_, err := t.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.name, Key: item{t.key: text(key)}, ConditionExpression: &condition, ExpressionAttributeValues: values,
	})
	if err := t.moved("delete item "+key+" of DynamoDB table "+t.name, err); !errors.Is(err, ErrMoved) {
		return err
	}
	return nil
}
