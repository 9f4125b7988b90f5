package lake

import (
	"context"
	"iter"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/parquet"
)

// The formats of tables.
const (
	formatIceberg = "iceberg"
	formatHive    = "hive"
)

// The years that a projection may have.
const (
	firstYear = 1
	lastYear  = 9999
)

// validateFormat finds what does not go with the format of the table.
func (c Config) validateFormat(refuse func(field, fix, format string, args ...any)) {
	t := c.Table
	years := t.ProjectionYears
	switch {
	case t.Format != "" && t.Format != formatIceberg && t.Format != formatHive:
		refuse("table.format", "use one of iceberg, hive", "format must not be %q", t.Format)
	case t.Format != formatHive && len(years) > 0:
		refuse("table.projection_years", `set format = "hive", or leave it out`, "projection_years is of use with format = \"hive\" only: an Iceberg table has no folders to look for")
	case t.Format == formatHive && t.Glue == nil:
		refuse("table", "give it the block glue, and no other catalog", "a table of format \"hive\" is registered in Glue")
	case t.Format == formatHive && t.SnapshotsKept != 0:
		refuse("table.snapshots_kept", "leave it out", "a table of format \"hive\" has no snapshots")
	case len(years) == 0:
	case len(years) != 2 || years[0] > years[1] || years[0] < firstYear || years[1] > lastYear:
		refuse("table.projection_years", "write the first and the last year, as [2024, 2034]", "projection_years must be two years, and not %v", years)
	case len(c.PartitionBy) == 0:
		refuse("table.projection_years", "leave it out, or set partition_by", "projection_years is of use with folders by time, and partition_by is empty")
	}
}

// openHive starts to register the dataset's columns and folders; nil where nobody asks for it.
// It does not wait for the catalog.
func (t *Target) openHive(s *parquet.Schema) (*glue.Registry, error) {
	c := t.config.Table
	if c == nil || c.Format != formatHive {
		return nil, nil
	}
	name, err := iceberg.ParseName(c.Name)
	if err != nil {
		return nil, err
	}
	address, err := t.address()
	if err != nil {
		return nil, err
	}
	return glue.NewRegistry(*c.Glue, t.store.Version, t.log, glue.Folders{
		Name: name, Address: address, Keys: t.config.PartitionBy, Years: c.ProjectionYears, All: t.folders,
	}, s), nil
}

// folders are those of the partitions that the dataset has.
func (t *Target) folders(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		b, err := t.place.Open(ctx, t.store)
		if err != nil {
			yield("", err)
			return
		}
		defer func() { _ = b.Close() }() // only read
		t.below(ctx, b, "", t.config.PartitionBy, yield)
	}
}

// below yields the folders of the units below one.
func (t *Target) below(ctx context.Context, b blob.Bucket, folder string, units []string, yield func(string, error) bool) bool {
	if len(units) == 0 {
		return folder == "" || yield(strings.TrimSuffix(folder, "/"), nil)
	}
	for e, err := range blob.All(ctx, b, blob.Query{Prefix: folder, Folders: true}) {
		switch {
		case err != nil:
			yield("", err)
			return false
		case !e.Folder() || !strings.HasPrefix(strings.TrimPrefix(e.Name, folder), units[0]+"="):
		case !t.below(ctx, b, e.Name, units[1:], yield):
			return false
		}
	}
	return true
}

// register has the folders of what has landed registered.
func (w *write) register(r *round, s *parquet.Schema, errs []error) {
	if w.t.registry == nil {
		return
	}
	var folders []string
	for i, p := range r.all {
		if errs[i] == nil {
			folders = append(folders, p.folder.partition)
		}
	}
	if len(folders) > 0 {
		w.t.registry.Landed(folders, s)
	}
}

// checkHive tries whether the table can be looked up, and is of this dataset.
func (t *Target) checkHive(ctx context.Context) error {
	c := t.config.Table
	name, err := iceberg.ParseName(c.Name)
	if err != nil {
		return err
	}
	address, err := t.address()
	if err != nil {
		return err
	}
	return glue.Folders{Name: name, Address: address, Keys: t.config.PartitionBy}.Check(ctx, *c.Glue, t.store.Version)
}
