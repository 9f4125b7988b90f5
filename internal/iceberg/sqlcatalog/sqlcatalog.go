// Package sqlcatalog keeps where the metadata of Iceberg tables is in a database: an embedded one
// (SQLite, a file), or PostgreSQL.
//
// The tables of the database are those of the SqlCatalog of PyIceberg and the JdbcCatalog of
// Java, so that these read, and write, the same catalog:
//
//	iceberg_tables (catalog_name, table_namespace, table_name, metadata_location,
//	                previous_metadata_location, iceberg_type)
//	iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)
//
// A catalog has a name, which others must open it by. Catalogs that were made without the column
// iceberg_type are used as they are. A table's metadata is swapped by one UPDATE that asks for the
// metadata that was seen; a row that is not there any more is the conflict.
package sqlcatalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
)

// Catalog is a catalog in a database.
type Catalog struct {
	db     *sql.DB
	name   string
	where  string // for errors; without secrets
	number func(string) string
	typed  bool // there is a column iceberg_type
}

var _ iceberg.Pointer = (*Catalog)(nil)

// SQLite opens the catalog of the name in the file at path, which is made when it is not there.
func SQLite(ctx context.Context, path, name string) (*Catalog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("make the folder of the catalog: %w", err))
	}
	// What a commit says must survive power loss; who finds another commit under way waits.
	q := url.Values{"_pragma": {"busy_timeout(30000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open the catalog %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	return prepare(ctx, &Catalog{db: db, name: name, where: path, number: func(q string) string { return strings.ReplaceAll(q, "$", "?") }})
}

// CheckDSN says why a DSN leads to no database. It does not repeat it: there may be a password.
func CheckDSN(dsn string) error {
	if _, err := pgx.ParseConfig(dsn); err != nil || strings.TrimSpace(dsn) == "" {
		return errors.New("it is neither a URL (postgres://USER:PASSWORD@HOST/DATABASE) nor key=value words")
	}
	return nil
}

// PostgreSQL opens the catalog of the name in the database that the DSN leads to.
func PostgreSQL(ctx context.Context, dsn, name string) (*Catalog, error) {
	if err := CheckDSN(dsn); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read the DSN of the catalog: %w", err))
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fault.New(fault.Setup, errors.New("read the DSN of the catalog"))
	}
	where := fmt.Sprintf("in the database %s of PostgreSQL at %s", config.Database, config.Host)
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(4)
	return prepare(ctx, &Catalog{db: db, name: name, where: where, number: func(q string) string { return q }})
}

// schema makes the tables as PyIceberg does.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS iceberg_tables (
	catalog_name VARCHAR(255) NOT NULL,
	table_namespace VARCHAR(255) NOT NULL,
	table_name VARCHAR(255) NOT NULL,
	metadata_location VARCHAR(1000),
	previous_metadata_location VARCHAR(1000),
	iceberg_type VARCHAR(5),
	PRIMARY KEY (catalog_name, table_namespace, table_name)
)`,
	`CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
	catalog_name VARCHAR(255) NOT NULL,
	namespace VARCHAR(255) NOT NULL,
	property_key VARCHAR(255) NOT NULL,
	property_value VARCHAR(1000) NOT NULL,
	PRIMARY KEY (catalog_name, namespace, property_key)
)`,
}

func prepare(ctx context.Context, c *Catalog) (*Catalog, error) {
	probe := `SELECT 1 FROM iceberg_tables, iceberg_namespace_properties LIMIT 0`
	if _, err := c.db.ExecContext(ctx, probe); err != nil {
		// Somebody who may not create tables can use a catalog that is there.
		for _, q := range schema {
			if _, err := c.db.ExecContext(ctx, q); err != nil {
				if _, again := c.db.ExecContext(ctx, probe); again == nil {
					break // somebody else made them at the same time
				}
				return nil, errors.Join(c.failed("make the tables of", err), c.db.Close())
			}
		}
	}
	_, err := c.db.ExecContext(ctx, `SELECT iceberg_type FROM iceberg_tables LIMIT 0`)
	c.typed = err == nil
	return c, nil
}

func (c *Catalog) failed(what string, err error) error {
	return fmt.Errorf("%s the catalog %q %s: %w", what, c.name, c.where, err)
}

func (c *Catalog) exec(ctx context.Context, q string, args ...any) (rows int64, err error) {
	r, err := c.db.ExecContext(ctx, c.number(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Get implements iceberg.Pointer.
func (c *Catalog) Get(ctx context.Context, n iceberg.Name) (iceberg.Ref, error) {
	var location sql.NullString
	q := `SELECT metadata_location FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3`
	if c.typed {
		q += ` AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)`
	}
	err := c.db.QueryRowContext(ctx, c.number(q), c.name, n.Namespace(), n.Table()).Scan(&location)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return iceberg.Ref{}, iceberg.ErrNoTable
	case err != nil:
		return iceberg.Ref{}, c.failed("look into", err)
	case location.String == "":
		return iceberg.Ref{}, fault.New(fault.Setup, fmt.Errorf("the catalog %q %s has the table %s without metadata; drop it", c.name, c.where, n))
	}
	return iceberg.Ref{Location: location.String}, nil
}

// Create implements iceberg.Pointer.
func (c *Catalog) Create(ctx context.Context, n iceberg.Name, e iceberg.Entry) error {
	_, err := c.exec(ctx, `INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) VALUES ($1, $2, 'exists', 'true') ON CONFLICT DO NOTHING`,
		c.name, n.Namespace())
	if err != nil {
		return c.failed("make a namespace in", err)
	}
	q := `INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	if c.typed {
		q = `INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, iceberg_type) VALUES ($1, $2, $3, $4, 'TABLE') ON CONFLICT DO NOTHING`
	}
	rows, err := c.exec(ctx, q, c.name, n.Namespace(), n.Table(), e.Location)
	if err != nil {
		return c.failed("write to", err)
	}
	return conflict(rows)
}

// Swap implements iceberg.Pointer.
func (c *Catalog) Swap(ctx context.Context, n iceberg.Name, seen iceberg.Ref, e iceberg.Entry) error {
	rows, err := c.exec(ctx, `UPDATE iceberg_tables SET metadata_location = $1, previous_metadata_location = $2
		WHERE catalog_name = $3 AND table_namespace = $4 AND table_name = $5 AND metadata_location = $6`,
		e.Location, seen.Location, c.name, n.Namespace(), n.Table(), seen.Location)
	if err != nil {
		return c.failed("write to", err)
	}
	return conflict(rows)
}

func conflict(rows int64) error {
	if rows == 0 {
		return iceberg.ErrConflict
	}
	return nil
}

// Close implements iceberg.Pointer.
func (c *Catalog) Close() error { return c.db.Close() }
