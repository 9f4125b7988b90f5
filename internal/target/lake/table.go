package lake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/iceberg/restcatalog"
	"github.com/weirdata/weir/internal/iceberg/sqlcatalog"
	"github.com/weirdata/weir/internal/parquet"
)

// Table is the block that makes a table of the dataset's files, which other engines read.
type Table struct {
	// Name is that of the table, with its namespace: "lake.events". It is made when the catalog
	// does not have it.
	Name string `hcl:"name"`
	// Format is what the table is: "iceberg" (default), partitioned by the last of partition_by, that
	// unit of the time field, hidden; the dataset is not written to without it. Or "hive": columns and
	// folders are registered in glue, behind what lands and without holding it up, as a crawler would.
	Format string `hcl:"format,optional"`
	// ProjectionYears are the first and the last year of events, as [2024, 2034], for format "hive": Athena
	// then works out which folders there may be and does not ask Glue for them. What lies outside it
	// does not see. Empty, the default, it asks. Partitions are registered in any case, for others.
	ProjectionYears []int `hcl:"projection_years,optional"`
	// SnapshotsKept is how many snapshots are kept at least, for readers that go back in time and for
	// queries that run; 50 by default. Twice as many are there at most.
	SnapshotsKept int `hcl:"snapshots_kept,optional"`
	// SQLite is a catalog in a file.
	SQLite *SQLite `hcl:"sqlite,block"`
	// PostgreSQL is a catalog in a database.
	PostgreSQL *PostgreSQL `hcl:"postgres,block"`
	// Glue is the Data Catalog of AWS Glue, from which Athena, Redshift and EMR read tables. The name
	// is then that of a database and a table, in lower case; the database is made where there is none.
	Glue *glue.Access `hcl:"glue,block"`
	// REST is a catalog that speaks the REST protocol of Iceberg: Polaris, Lakekeeper, Unity Catalog,
	// S3 Tables and others.
	REST *restcatalog.Access `hcl:"rest,block"`
}

// SQLite is a catalog in a file: in the tables of PyIceberg's SqlCatalog, which reads it.
type SQLite struct {
	// Path is the file; it is made when it is not there. A relative path means from the folder of
	// the config file.
	Path string `hcl:"path"`
	// Catalog is the name of the catalog in it, which others open it by; "weir" by default.
	Catalog string `hcl:"catalog,optional"`
}

// PostgreSQL is a catalog in a database: in the tables of PyIceberg's SqlCatalog, which reads it.
type PostgreSQL struct {
	// DSN is where the database is, as a URL (postgres://user:password@host/database) or as
	// key=value words. Its tables are made when they are not there.
	DSN string `hcl:"dsn"`
	// Catalog is the name of the catalog in it, which others open it by; "weir" by default.
	Catalog string `hcl:"catalog,optional"`
}

const (
	defaultCatalog   = "weir"
	defaultSnapshots = 50
	mostSnapshots    = 10_000
)

// validate finds what is wrong with the table of c.
func (c Config) validateTable(refuse func(field, fix, format string, args ...any)) {
	t := c.Table
	if t == nil {
		return
	}
	if _, err := iceberg.ParseName(t.Name); err != nil {
		refuse("table.name", `write NAMESPACE.TABLE, as "lake.events"`, "%v", err)
	}
	c.validateFormat(refuse)
	if t.SnapshotsKept < 0 || t.SnapshotsKept > mostSnapshots {
		refuse("table.snapshots_kept", "leave it out to use the default", "snapshots_kept must be from 1 to %d, not %d", mostSnapshots, t.SnapshotsKept)
	}
	switch {
	case t.catalogs() != 1:
		refuse("table", "give it one of the blocks sqlite, postgres, glue and rest", "a table has one catalog")
	case t.Glue != nil:
		c.validateGlue("table.glue.", t.Name, *t.Glue, refuse)
	case t.REST != nil:
		for _, p := range t.REST.Problems() {
			refuse("table.rest."+p.Field, p.Fix, "%s", p.What)
		}
	case t.SQLite != nil && t.SQLite.Path == "":
		refuse("table.sqlite.path", "name the file of the catalog", "path must not be empty")
	case t.PostgreSQL != nil:
		if err := sqlcatalog.CheckDSN(t.PostgreSQL.DSN); err != nil {
			refuse("table.postgres.dsn", `write "postgres://USER:PASSWORD@HOST/DATABASE"`, "dsn leads to no database: %v", err)
		}
	}
	if len(c.PartitionBy) == 0 || c.iceberg() == nil {
		return
	}
	const orNone = `, or set partition_by = []`
	switch typ, declared := parquet.ParseType(c.Types[c.TimeField]); {
	case c.TimeField == "":
		refuse("table", "set time_field"+orNone, "a table is partitioned by a column, and without time_field the dataset is partitioned by when an event was read")
	case c.MissingTime != "invalid":
		refuse("missing_time", `use "invalid"`+orNone, "a table is partitioned by %s, and events without it would have no partition", c.TimeField)
	case c.timeKind() == parquet.Unknown && !declared:
		refuse("time_format", `use "epoch_us"`+orNone, "a table is partitioned by a timestamp, and none keeps what %s has", c.TimeField)
	case declared && (typ.Kind < parquet.Timestamp || typ.Kind > parquet.TimestampUs):
		refuse("types", "leave it out of types"+orNone, "a table is partitioned by a timestamp, and types declares %s as %s", c.TimeField, typ)
	}
}

// catalogs is how many catalogs the table has.
func (t *Table) catalogs() (n int) {
	for _, there := range []bool{t.SQLite != nil, t.PostgreSQL != nil, t.Glue != nil, t.REST != nil} {
		if there {
			n++
		}
	}
	return n
}

// validateGlue finds what is wrong with a table of the name in Glue.
func (c Config) validateGlue(block, called string, a glue.Access, refuse func(field, fix, format string, args ...any)) {
	for _, p := range a.Problems() {
		refuse(block+p.Field, p.Fix, "%s", p.What)
	}
	if name, err := iceberg.ParseName(called); err == nil {
		if err := glue.CheckName(name); err != nil {
			refuse("table.name", `write DATABASE.TABLE in lower case, as "lake.events"`, "%v", err)
		}
	}
	if a.CustomAWSEndpoint == "" && !strings.HasPrefix(c.Path, "s3://") {
		refuse("path", "land in s3://BUCKET/PREFIX, or use the catalog sqlite or postgres", "what reads tables from Glue reads their files from S3, and the dataset is in %s", c.Path)
	}
}

// unit is what the table is partitioned by.
func (c Config) unit() string {
	if len(c.PartitionBy) == 0 {
		return ""
	}
	return c.PartitionBy[len(c.PartitionBy)-1]
}

// timed reports whether the time of an event has to be in its column.
func (c Config) timed() bool { return c.iceberg() != nil && len(c.PartitionBy) > 0 }

// iceberg is the block of an Iceberg table; nil where there is none.
func (c Config) iceberg() *Table {
	if c.Table == nil || c.Table.Format == formatHive {
		return nil
	}
	return c.Table
}

func (c Config) tableName() string {
	if c.iceberg() == nil {
		return ""
	}
	return c.Table.Name
}

// openTable opens the catalog of the table, and with it the table.
func (t *Target) openTable(ctx context.Context, b blob.Bucket) (catalog.Table, error) {
	var c iceberg.Catalog
	var err error
	if r := t.config.Table.REST; r != nil {
		c, err = restcatalog.Open(ctx, *r, t.store.Version)
	} else {
		var p iceberg.Pointer
		if p, err = t.openCatalog(ctx); err == nil {
			c = iceberg.Pointing(p)
		}
	}
	if err != nil {
		return nil, err
	}
	table, err := t.tableIn(c, b)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return following{table}, nil
}

// tableIn is the table in a catalog.
func (t *Target) tableIn(in iceberg.Catalog, b blob.Bucket) (*iceberg.Table, error) {
	c := t.config.Table
	name, err := iceberg.ParseName(c.Name)
	if err != nil {
		return nil, connector.Blame("table.name", "write NAMESPACE.TABLE", err)
	}
	address, err := t.address()
	if err != nil {
		return nil, err
	}
	return iceberg.New(in, b, iceberg.Options{Name: name, Address: address, Unit: t.config.unit(), Time: t.config.TimeField, Snapshots: cmp.Or(c.SnapshotsKept, defaultSnapshots)})
}

func (t *Target) openCatalog(ctx context.Context) (iceberg.Pointer, error) {
	if c := t.config.Table.SQLite; c != nil {
		return sqlcatalog.SQLite(ctx, t.resolve(c.Path), orDefault(c.Catalog))
	}
	if c := t.config.Table.Glue; c != nil {
		return glue.NewCatalog(ctx, *c, t.store.Version)
	}
	c := t.config.Table.PostgreSQL
	return sqlcatalog.PostgreSQL(ctx, c.DSN, orDefault(c.Catalog))
}

// checkTable tries whether the catalog can be reached. One in a file that is not there is not made.
func (t *Target) checkTable(ctx context.Context) error {
	c := t.config.Table
	if c == nil {
		return nil
	}
	if c.Format == formatHive {
		return t.checkHive(ctx)
	}
	if c.SQLite != nil {
		path := t.resolve(c.SQLite.Path)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return connector.TryFolder(filepath.Dir(path), true)
		}
	}
	if c.REST != nil {
		return t.checkREST(ctx)
	}
	name, err := iceberg.ParseName(c.Name)
	if err != nil {
		return err
	}
	p, err := t.openCatalog(ctx)
	if err != nil {
		return err
	}
	if _, err = p.Get(ctx, name); errors.Is(err, iceberg.ErrNoTable) {
		err = nil
	}
	return errors.Join(err, p.Close())
}

// checkREST tries whether the catalog lets the table be looked up, and whether it is the dataset's.
func (t *Target) checkREST(ctx context.Context) error {
	c, err := restcatalog.Open(ctx, *t.config.Table.REST, t.store.Version)
	if err != nil {
		return err
	}
	table, err := t.tableIn(c, nil) // such a catalog has the metadata itself
	if err == nil {
		_, _, err = table.Through(ctx)
	}
	return errors.Join(err, c.Close())
}

func orDefault(name string) string {
	if name == "" {
		return defaultCatalog
	}
	return name
}

// address is the URI of the dataset, by which other engines find its files.
func (t *Target) address() (string, error) {
	if t.place.Scheme == "azblob" { // which is what nobody else calls it
		account := cmp.Or(t.place.Account, os.Getenv("AZURE_STORAGE_ACCOUNT"))
		if a := t.config.AzBlob; a != nil {
			account = cmp.Or(t.place.Account, a.Account, account)
		}
		if account == "" {
			return "", connector.Blame("azblob.account", "add azblob { account = \"NAME\" }, or set AZURE_STORAGE_ACCOUNT", errors.New("the files of a table have the storage account in their address, and none is known"))
		}
		return strings.TrimRight(fmt.Sprintf("abfss://%s@%s.dfs.core.windows.net/%s", t.place.Bucket, account, t.place.Prefix), "/"), nil
	}
	if !t.place.Local() {
		return t.path, nil
	}
	abs, err := filepath.Abs(t.place.Path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", t.place.Path, err)
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") { // a drive
		abs = "/" + abs
	}
	return "file://" + abs, nil
}

// following is a table as the catalog knows it.
type following struct{ *iceberg.Table }

// Append implements catalog.Table.
func (f following) Append(ctx context.Context, all []catalog.Published, first bool, positions func(string) string) error {
	commits := make([]iceberg.Commit, len(all))
	for i, p := range all {
		commits[i] = iceberg.Commit{Number: p.Number, Files: make([]iceberg.File, len(p.Files))}
		for k, file := range p.Files {
			commits[i].Files[k] = iceberg.File(file)
		}
	}
	return f.Table.Append(ctx, commits, first, positions)
}

// publish has the dataset's table get what it has not got. What has landed stays landed when that
// fails: it is tried again, and before the next write.
func (t *Target) publish(ctx context.Context) {
	if t.config.iceberg() == nil {
		return
	}
	err := t.dataset.Publish(ctx)
	if was := t.behind.Swap(err != nil); err != nil && !was {
		t.log.Warn("what has landed is not in the table yet; it is tried again", keyPath, t.path, keyTable, t.config.Table.Name, keyError, err)
	} else if err == nil && was {
		t.log.Info("the table has all that has landed", keyPath, t.path, keyTable, t.config.Table.Name)
	}
}
