package glue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glue"
	"github.com/aws/aws-sdk-go-v2/service/glue/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/parquet"
)

// What the service takes in one call.
const (
	mostCreated = 100
	pageSize    = 1000
)

// parquetStorage is how files of Parquet are read.
func parquetStorage(address string) *types.StorageDescriptor {
	return &types.StorageDescriptor{
		Location: &address, InputFormat: sdk.String("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"),
		OutputFormat: sdk.String("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"),
		SerdeInfo: &types.SerDeInfo{
			SerializationLibrary: sdk.String("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"),
			Parameters:           map[string]string{"serialization.format": "1"},
		},
	}
}

// changes is how often a change of an entry is tried that others change at the same time.
const changes = 20

// describe has the catalog's entry have the columns of s.
func (r *Registry) describe(ctx context.Context, s *parquet.Schema) error {
	columns := hiveFields(s.Columns())
	var err error
	for range changes {
		err = r.describeOnce(ctx, columns)
		if !errors.Is(err, iceberg.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("change the table %s in Glue: %w, %d times", r.f.Name, err, changes)
}

func (r *Registry) describeOnce(ctx context.Context, columns []hiveMember) error {
	t, err := r.client.table(ctx, r.f.Name)
	if errors.Is(err, iceberg.ErrNoTable) {
		return r.client.make(ctx, r.f.Name, r.f.entry(columns))
	}
	if err != nil {
		return err
	}
	if err := r.f.same(t); err != nil {
		return err
	}
	in := input(t)
	changed, err := r.grow(in, columns)
	if err != nil {
		return err
	}
	parameters := maps.Clone(in.Parameters)
	if parameters == nil {
		parameters = map[string]string{}
	}
	maps.Copy(parameters, r.f.projection())
	if !changed && maps.Equal(parameters, in.Parameters) {
		return nil
	}
	in.Parameters = parameters
	return r.client.change(ctx, r.f.Name, *t.VersionId, in)
}

// entry is that of a new table.
func (f Folders) entry(columns []hiveMember) *types.TableInput {
	in := &types.TableInput{
		Name: &f.Name[1], TableType: sdk.String(external), PartitionKeys: []types.Column{},
		Parameters:        map[string]string{"classification": "parquet", "EXTERNAL": "TRUE", "typeOfData": "file"},
		StorageDescriptor: parquetStorage(f.Address + "/"),
	}
	for _, key := range f.Keys {
		in.PartitionKeys = append(in.PartitionKeys, types.Column{Name: sdk.String(key), Type: sdk.String("string")})
	}
	for _, c := range columns {
		in.StorageDescriptor.Columns = append(in.StorageDescriptor.Columns, types.Column{Name: sdk.String(c.name), Type: sdk.String(c.typ.String())})
	}
	maps.Copy(in.Parameters, f.projection())
	return in
}

// projection is how Athena works out which folders there may be.
func (f Folders) projection() map[string]string {
	if len(f.Years) == 0 {
		return nil
	}
	p := map[string]string{"projection.enabled": "true", "storage.location.template": f.Address}
	bounds := map[string]string{"year": fmt.Sprintf("%d,%d", f.Years[0], f.Years[len(f.Years)-1]), "month": "1,12", "day": "1,31", "hour": "0,23"}
	for _, key := range f.Keys {
		digits := 2
		if key == "year" {
			digits = 4
		}
		p["projection."+key+".type"], p["projection."+key+".range"] = "integer", bounds[key]
		p["projection."+key+".digits"] = strconv.Itoa(digits)
		p["storage.location.template"] += "/" + key + "=${" + key + "}"
	}
	p["storage.location.template"] += "/"
	return p
}

// same refuses an entry of something else.
func (f Folders) same(t *types.Table) error {
	at := ""
	if t.StorageDescriptor != nil {
		at = strings.TrimRight(sdk.ToString(t.StorageDescriptor.Location), "/")
	}
	var keys []string
	for _, k := range t.PartitionKeys {
		keys = append(keys, sdk.ToString(k.Name))
	}
	var what string
	switch {
	case isIceberg(t):
		what = "an Iceberg table"
	case at != strings.TrimRight(f.Address, "/"):
		what = "of the files in " + at
	case !slices.Equal(keys, f.Keys):
		what = fmt.Sprintf("partitioned by %q", keys)
	default:
		return nil
	}
	return fault.New(fault.Setup, fmt.Errorf("the table %s in Glue is %s, and the dataset is in folders by %q in %s: give the dataset a table of another name, or delete this entry (aws glue delete-table), which leaves its files",
		f.Name, what, f.Keys, f.Address))
}

// Check finds out whether the table can be looked up, and whether it is of the dataset where it is
// there.
func (f Folders) Check(ctx context.Context, a Access, version string) error {
	c, err := dial(ctx, a, version)
	if err != nil {
		return err
	}
	t, err := c.table(ctx, f.Name)
	if err == nil {
		err = f.same(t)
	} else if errors.Is(err, iceberg.ErrNoTable) {
		err = nil
	}
	return errors.Join(err, c.Close())
}

// grow adds the columns that an entry does not have.
func (r *Registry) grow(in *types.TableInput, columns []hiveMember) (changed bool, err error) {
	storage := *in.StorageDescriptor
	storage.Columns = slices.Clone(storage.Columns)
	for _, c := range columns {
		i := slices.IndexFunc(storage.Columns, func(h types.Column) bool { return strings.EqualFold(sdk.ToString(h.Name), c.name) })
		if i < 0 {
			storage.Columns = append(storage.Columns, types.Column{Name: sdk.String(c.name), Type: sdk.String(c.typ.String())})
			changed = true
			continue
		}
		said := sdk.ToString(storage.Columns[i].Type)
		have, err := parseHive(said)
		if err != nil {
			return false, fault.New(fault.Setup, fmt.Errorf("the table %s in Glue declares the column %s as what is no type: %w; correct it there", r.f.Name, c.name, err))
		}
		if now := grown(have, c.typ).String(); now != have.String() {
			storage.Columns[i].Type = &now
			changed = true
		}
	}
	in.StorageDescriptor = &storage
	return changed, nil
}

// partitions are the values of all partitions of a table.
func (c *client) partitions(ctx context.Context, n iceberg.Name) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		most, without := int32(pageSize), true
		in := &glue.GetPartitionsInput{CatalogId: c.id, DatabaseName: &n[0], TableName: &n[1], MaxResults: &most, ExcludeColumnSchema: &without}
		for {
			out, err := c.getPartitions(ctx, in)
			if err != nil {
				yield(nil, aws.Fault("list the partitions of the table "+n.String()+" in Glue", err))
				return
			}
			for _, p := range out.Partitions {
				if !yield(p.Values, nil) {
					return
				}
			}
			if in.NextToken = out.NextToken; sdk.ToString(in.NextToken) == "" {
				return
			}
		}
	}
}

// create registers folders as partitions: at most mostCreated. It says which were refused; those
// that are there already are not.
func (c *client) create(ctx context.Context, f Folders, folders []string, values func(string) ([]string, bool)) (refused map[string]error, err error) {
	doing := "register partitions of the table " + f.Name.String() + " in Glue"
	in := &glue.BatchCreatePartitionInput{CatalogId: c.id, DatabaseName: &f.Name[0], TableName: &f.Name[1]}
	of := map[string]string{}
	for _, folder := range folders {
		v, _ := values(folder)
		of[strings.Join(v, "/")] = folder
		in.PartitionInputList = append(in.PartitionInputList, types.PartitionInput{Values: v, StorageDescriptor: parquetStorage(f.Address + "/" + folder + "/")})
	}
	out, err := c.createPartitions(ctx, in)
	if err != nil {
		return nil, aws.Fault(doing, err) // none of them, or nobody knows which
	}
	refused = map[string]error{}
	for _, e := range out.Errors {
		var said types.ErrorDetail
		if e.ErrorDetail != nil {
			said = *e.ErrorDetail
		}
		if sdk.ToString(said.ErrorCode) != codeThere {
			folder := of[strings.Join(e.PartitionValues, "/")]
			refused[folder] = aws.Entry(doing+" ("+folder+")", sdk.ToString(said.ErrorCode), sdk.ToString(said.ErrorMessage))
		}
	}
	return refused, nil
}
