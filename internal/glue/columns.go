package glue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glue"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
)

// Latest is the version of a table that is in force.
const Latest = "LATEST"

// Column is one that a table declares, with its type as Hive has it.
type Column struct{ Name, Type string }

// Columns are those that a version of a table declares, without the keys of its partitions, which are
// in the names of folders. An empty version is the latest.
func Columns(ctx context.Context, a Access, product string, n iceberg.Name, version string) (_ []Column, err error) {
	c, err := dial(ctx, a, product)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	missing := func() error {
		return fault.New(fault.Setup, fmt.Errorf("look for the columns of %s: Glue has no such table, or no version %q of it", n, version))
	}
	t, err := c.table(ctx, n)
	switch {
	case errors.Is(err, iceberg.ErrNoTable):
		return nil, missing()
	case err != nil:
		return nil, err
	}
	if version != "" && version != Latest && version != sdk.ToString(t.VersionId) {
		out, err := c.getTableVersion(ctx, &glue.GetTableVersionInput{CatalogId: c.id, DatabaseName: &n[0], TableName: &n[1], VersionId: &version})
		if aws.Code(err) == codeMissing {
			return nil, missing()
		}
		if err != nil {
			return nil, aws.Fault("look for a version of the table "+n.String()+" in Glue", err)
		}
		if out.TableVersion == nil || out.TableVersion.Table == nil {
			return nil, missing()
		}
		t = out.TableVersion.Table
	}
	if t.StorageDescriptor == nil || len(t.StorageDescriptor.Columns) == 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("look for the columns of %s in Glue: the table declares none", n))
	}
	columns := make([]Column, len(t.StorageDescriptor.Columns))
	for i, x := range t.StorageDescriptor.Columns {
		columns[i] = Column{strings.ToLower(sdk.ToString(x.Name)), sdk.ToString(x.Type)}
	}
	return columns, nil
}
