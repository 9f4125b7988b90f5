package sqlcatalog

import (
	"context"
	"fmt"
	"strings"
)

// Namespaces are all namespaces of the catalog, by their levels, in order.
func (c *Catalog) Namespaces(ctx context.Context) ([][]string, error) {
	all, err := c.column(ctx, `SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = $1
		UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = $2 ORDER BY 1`, c.name, c.name)
	if err != nil {
		return nil, c.failed("list the namespaces of", err)
	}
	out := make([][]string, len(all))
	for i, n := range all {
		out[i] = strings.Split(n, ".")
	}
	return out, nil
}

// Tables are all tables of a namespace, by their own names, in order; known is false when
// there is no such namespace.
func (c *Catalog) Tables(ctx context.Context, namespace []string) (names []string, known bool, err error) {
	n := strings.Join(namespace, ".")
	q := `SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2`
	if c.typed {
		q += ` AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)`
	}
	if names, err = c.column(ctx, q+` ORDER BY 1`, c.name, n); err != nil {
		return nil, false, c.failed("list the tables of", err)
	}
	if len(names) > 0 {
		return names, true, nil
	}
	there, err := c.column(ctx, `SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = $1 AND namespace = $2`, c.name, n)
	if err != nil {
		return nil, false, c.failed("look for a namespace in", err)
	}
	return nil, len(there) > 0, nil
}

// Names are the names of the catalogs that the database has tables of, in order.
func (c *Catalog) Names(ctx context.Context) ([]string, error) {
	all, err := c.column(ctx, `SELECT DISTINCT catalog_name FROM iceberg_tables ORDER BY 1`)
	if err != nil {
		return nil, c.failed("list what is beside", err)
	}
	return all, nil
}

// column is the one column of a query's rows.
func (c *Catalog) column(ctx context.Context, q string, args ...any) (all []string, err error) {
	rows, err := c.db.QueryContext(ctx, c.number(q), args...)
	if err != nil {
		return nil, fmt.Errorf("ask the database: %w", err)
	}
	defer func() { _ = rows.Close() }() // the error is that of Err
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
