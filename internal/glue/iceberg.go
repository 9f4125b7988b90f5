package glue

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glue/types"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
)

// Parameters of the entry of an Iceberg table, as everybody who reads one from Glue expects
// them.
const (
	tableType     = "table_type"
	icebergType   = "ICEBERG"
	location      = "metadata_location"
	locationSince = "previous_metadata_location"
)

// Parameters of a column of an Iceberg table.
const (
	columnID      = "iceberg.field.id"
	columnNull    = "iceberg.field.optional"
	columnCurrent = "iceberg.field.current"
)

// Catalog says where the metadata of Iceberg tables is.
type Catalog struct {
	*client
}

var _ iceberg.Pointer = (*Catalog)(nil)

// NewCatalog is the catalog that a leads to. It asks nothing of it.
func NewCatalog(ctx context.Context, a Access, version string) (*Catalog, error) {
	c, err := dial(ctx, a, version)
	if err != nil {
		return nil, err
	}
	return &Catalog{client: c}, nil
}

// Get implements iceberg.Pointer.
func (c *Catalog) Get(ctx context.Context, n iceberg.Name) (iceberg.Ref, error) {
	t, err := c.look(ctx, n)
	if err != nil {
		return iceberg.Ref{}, err
	}
	return iceberg.Ref{Location: t.Parameters[location], Version: *t.VersionId}, nil
}

func (c *Catalog) look(ctx context.Context, n iceberg.Name) (*types.Table, error) {
	t, err := c.table(ctx, n)
	switch {
	case err != nil:
		return nil, err
	case !isIceberg(t) || t.Parameters[location] == "":
		return nil, fault.New(fault.Setup, fmt.Errorf("the table %s in Glue is no Iceberg table: give the dataset a table of another name, or delete this entry (aws glue delete-table), which leaves its files", n))
	}
	return t, nil
}

// Create implements iceberg.Pointer.
func (c *Catalog) Create(ctx context.Context, n iceberg.Name, e iceberg.Entry) error {
	in := &types.TableInput{Name: &n[1], TableType: sdk.String(external), Parameters: map[string]string{"EXTERNAL": "TRUE"}}
	describe(in, e, "")
	return c.make(ctx, n, in)
}

// Swap implements iceberg.Pointer.
func (c *Catalog) Swap(ctx context.Context, n iceberg.Name, seen iceberg.Ref, e iceberg.Entry) error {
	t, err := c.look(ctx, n)
	if err != nil {
		return err
	}
	// The version is that of the whole entry: what this adds to is what it was read from.
	if t.Parameters[location] != seen.Location || seen.Version != "" && *t.VersionId != seen.Version {
		return iceberg.ErrConflict
	}
	in := input(t)
	describe(in, e, seen.Location)
	return c.change(ctx, n, *t.VersionId, in)
}

// describe has an entry point to metadata, and say what those who look no further want to know.
func describe(in *types.TableInput, e iceberg.Entry, before string) {
	parameters := maps.Clone(in.Parameters)
	parameters[tableType], parameters[location] = icebergType, e.Location
	if before != "" {
		parameters[locationSince] = before
	}
	in.Parameters = parameters
	storage := types.StorageDescriptor{}
	if in.StorageDescriptor != nil {
		storage = *in.StorageDescriptor
	}
	said := map[string]*string{}
	for _, c := range storage.Columns {
		said[sdk.ToString(c.Name)] = c.Comment
	}
	storage.Location, storage.Columns = &e.Table, nil
	for _, c := range e.Columns {
		storage.Columns = append(storage.Columns, types.Column{
			Name: sdk.String(c.Name), Type: sdk.String(c.Type), Comment: said[c.Name],
			Parameters: map[string]string{columnID: strconv.Itoa(c.ID), columnNull: "true", columnCurrent: "true"},
		})
	}
	in.StorageDescriptor = &storage
}
