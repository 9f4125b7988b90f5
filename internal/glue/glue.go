// Package glue keeps tables in the Data Catalog of AWS Glue, for Athena and whatever else reads
// it: where the metadata of Iceberg tables is ([Catalog]), and the columns and folders of
// datasets of plain Parquet ([Registry]).
//
// # Changes
//
// Every change of a table asks for the version that was seen (VersionId), so that of two that
// change one version one fails. Whatever else the entry says, such as descriptions and parameters
// of others, stays. A table has versions without end otherwise, and so no change of this package
// keeps the one before (SkipArchive): the history of an Iceberg table is in its metadata, and
// columns of other tables are only added.
//
// An answer that was lost says nothing: who asked looks at what is there.
//
// # Names
//
// A database is a namespace of one level, and is made when it is not there. Glue keeps names in
// lower case; others are refused, so that nobody looks for a table under a name that it has not.
package glue

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glue"
	"github.com/aws/aws-sdk-go-v2/service/glue/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
)

// Access is how the catalog is reached.
type Access struct {
	// Region is the AWS region of the catalog; the one of the environment or profile by default.
	Region string `hcl:"region,optional"`
	// RoleARN is a role to assume; none by default.
	RoleARN string `hcl:"role_arn,optional"`
	// ExternalID goes with the role, where its owner asks for one.
	ExternalID string `hcl:"external_id,optional"`
	// CatalogID is the account whose catalog it is; the one of the credentials by default.
	CatalogID string `hcl:"catalog_id,optional"`
	// CustomAWSEndpoint is the URL of what speaks the protocol of Glue in place of Amazon; none by
	// default.
	CustomAWSEndpoint string `hcl:"custom_aws_endpoint,optional"`
}

// nameForm is what Athena takes for names of databases and tables without quotes.
var nameForm = regexp.MustCompile(`^[a-z0-9_]{1,255}$`)

// CheckName says why a table of Glue cannot have the name.
func CheckName(n iceberg.Name) error {
	if len(n) != 2 {
		return fmt.Errorf("%q has %d parts, and a table of Glue has two: DATABASE.TABLE", n, len(n))
	}
	for _, part := range n {
		if !nameForm.MatchString(part) {
			return fmt.Errorf("%q is not a name that Glue and Athena take for a database or a table: use a-z, 0-9 and _", part)
		}
	}
	return nil
}

// Problems are what is wrong, as far as can be known without a network. Fields are those of the
// block.
func (a Access) Problems() []connector.Problem {
	ps := aws.Access{Region: a.Region, RoleARN: a.RoleARN, Endpoint: a.CustomAWSEndpoint}.Problems()
	if a.ExternalID != "" && a.RoleARN == "" {
		ps = append(ps, connector.Problem{Field: "external_id", What: "external_id goes with a role, and there is none", Fix: "set role_arn, or leave out external_id"})
	}
	return ps
}

// client is a connection to a catalog.
type client struct {
	config sdk.Config
	calls
	id *string // of the catalog; nil for the account's own
}

// calls are the calls of Glue that are made. They are not held as the SDK's client: a linker that
// sees it behind an interface keeps all of its three hundred calls, which are 7 MB.
type calls struct {
	getTable         call[glue.GetTableInput, glue.GetTableOutput]
	getTableVersion  call[glue.GetTableVersionInput, glue.GetTableVersionOutput]
	createTable      call[glue.CreateTableInput, glue.CreateTableOutput]
	updateTable      call[glue.UpdateTableInput, glue.UpdateTableOutput]
	createDatabase   call[glue.CreateDatabaseInput, glue.CreateDatabaseOutput]
	getPartitions    call[glue.GetPartitionsInput, glue.GetPartitionsOutput]
	createPartitions call[glue.BatchCreatePartitionInput, glue.BatchCreatePartitionOutput]
}

type call[In, Out any] func(context.Context, *In, ...func(*glue.Options)) (*Out, error)

func dial(ctx context.Context, a Access, version string) (*client, error) {
	cfg, err := aws.Load(ctx, aws.Access{Region: a.Region, RoleARN: a.RoleARN, ExternalID: a.ExternalID, Endpoint: a.CustomAWSEndpoint, Version: version})
	if err != nil {
		return nil, fmt.Errorf("reach the catalog of Glue: %w", err)
	}
	api := glue.NewFromConfig(cfg)
	c := &client{config: cfg, calls: calls{
		getTable: api.GetTable, getTableVersion: api.GetTableVersion, createTable: api.CreateTable, updateTable: api.UpdateTable, createDatabase: api.CreateDatabase,
		getPartitions: api.GetPartitions, createPartitions: api.BatchCreatePartition,
	}}
	if a.CatalogID != "" {
		c.id = &a.CatalogID
	}
	return c, nil
}

// Close closes idle connections.
func (c *client) Close() error {
	aws.Close(c.config)
	return nil
}

// Names of errors.
const (
	codeMissing    = "EntityNotFoundException"
	codeThere      = "AlreadyExistsException"
	codeConcurrent = "ConcurrentModificationException"
	codeVersion    = "VersionMismatchException"
)

// table is the entry of a table; iceberg.ErrNoTable when there is none.
func (c *client) table(ctx context.Context, n iceberg.Name) (*types.Table, error) {
	out, err := c.getTable(ctx, &glue.GetTableInput{CatalogId: c.id, DatabaseName: &n[0], Name: &n[1]})
	if aws.Code(err) == codeMissing {
		return nil, iceberg.ErrNoTable
	}
	if err != nil {
		return nil, aws.Fault("look for the table "+n.String()+" in Glue", err)
	}
	if out.Table == nil || sdk.ToString(out.Table.VersionId) == "" {
		return nil, fault.New(fault.Setup, fmt.Errorf("look for the table %s in Glue: the answer has no VersionId, by which changes of others are noticed; what answers at custom_aws_endpoint is no catalog for several writers", n))
	}
	return out.Table, nil
}

// make enters a table, and its database where there is none; iceberg.ErrConflict when it is
// there.
func (c *client) make(ctx context.Context, n iceberg.Name, in *types.TableInput) error {
	doing := "create the table " + n.String() + " in Glue"
	for made := false; ; made = true {
		_, err := c.createTable(ctx, &glue.CreateTableInput{CatalogId: c.id, DatabaseName: &n[0], TableInput: in})
		switch code := aws.Code(err); {
		case err == nil:
			return nil
		case code == codeThere:
			return iceberg.ErrConflict
		case code != codeMissing || made:
			return aws.Fault(doing, err)
		}
		_, err = c.createDatabase(ctx, &glue.CreateDatabaseInput{CatalogId: c.id, DatabaseInput: &types.DatabaseInput{Name: &n[0]}})
		if err != nil && aws.Code(err) != codeThere {
			return aws.Fault("create the database "+n[0]+" in Glue", err)
		}
	}
}

// change replaces the entry of a table that is at a version; iceberg.ErrConflict when it is at
// another, or not there any more.
func (c *client) change(ctx context.Context, n iceberg.Name, version string, in *types.TableInput) error {
	skip := true
	_, err := c.updateTable(ctx, &glue.UpdateTableInput{CatalogId: c.id, DatabaseName: &n[0], TableInput: in, VersionId: &version, SkipArchive: &skip})
	switch aws.Code(err) {
	case codeConcurrent, codeVersion, codeMissing:
		return iceberg.ErrConflict
	}
	return aws.Fault("change the table "+n.String()+" in Glue", err)
}

// input is what an entry says, as a change says it.
func input(t *types.Table) *types.TableInput {
	return &types.TableInput{
		Name: t.Name, Description: t.Description, LastAccessTime: t.LastAccessTime, LastAnalyzedTime: t.LastAnalyzedTime, Owner: t.Owner,
		Parameters: t.Parameters, PartitionKeys: t.PartitionKeys, Retention: t.Retention, StorageDescriptor: t.StorageDescriptor, TableType: t.TableType,
		TargetTable: t.TargetTable, ViewExpandedText: t.ViewExpandedText, ViewOriginalText: t.ViewOriginalText,
	}
}

// external is the type of tables whose files the catalog does not own.
const external = "EXTERNAL_TABLE"

// isIceberg reports whether the entry is of an Iceberg table.
func isIceberg(t *types.Table) bool {
	return strings.EqualFold(t.Parameters[tableType], icebergType)
}
