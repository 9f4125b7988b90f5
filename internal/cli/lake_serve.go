package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/iceberg/restserver"
	"github.com/weirdata/weir/internal/iceberg/sqlcatalog"
	"github.com/weirdata/weir/internal/outage"
)

// tokenVariable is where the token of the server is, which no list of processes is to show.
const tokenVariable = "WEIR_LAKE_TOKEN" //nolint:gosec // the name of a variable, and no token

// serveLake is what `weir lake serve` serves, and where.
type serveLake struct {
	catalog, name, address string
	hosts                  []string
	properties             map[string]string
}

func lakeServeCommand(s Streams) *cobra.Command {
	var o serveLake
	c := &cobra.Command{
		Use: "serve CATALOG", Short: "Let engines read the tables of a catalog by the REST protocol of Iceberg",
		Long: `Let engines read the Iceberg tables of a catalog by the REST protocol of Iceberg: PyIceberg, Spark,
Trino, DuckDB and others. CATALOG is the file of the block sqlite of a table, or the DSN of its block
postgres. Nothing can be changed, and a pipeline may land in the tables meanwhile.

Engines read the files themselves, from where the tables say they are: those of a folder on this
machine only. What they need for a store is told them with --property, such as s3.endpoint. The
metadata of tables in a store is read with the credentials and the endpoint of the environment.

With a token in ` + tokenVariable + ` requests must have it (Authorization: Bearer, which clients call
"token"). Without one everybody who reaches the address can read what tables say, so it is one of
this machine unless --address says otherwise.`,
		Example: "  weir lake serve catalog.db\n  weir lake serve catalog.db --address 0.0.0.0:8181 --property s3.endpoint=http://minio:9000",
		Args:    exactly(1, "a catalog: the file of the block sqlite, or the DSN of the block postgres"),
		RunE: func(c *cobra.Command, args []string) error {
			o.catalog = args[0]
			if err := frontdoor.CheckAddress(o.address); err != nil {
				return usagef("--address: %w", err)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.serve(ctx, s.Err)
		},
	}
	c.Flags().StringVar(&o.address, "address", "127.0.0.1:8181", "where to listen")
	c.Flags().StringVar(&o.name, "catalog", "weir", "name of the catalog in the database")
	c.Flags().StringSliceVar(&o.hosts, "host-name", nil, "name by which the server is asked, besides addresses and localhost")
	c.Flags().StringToStringVar(&o.properties, "property", nil, "NAME=VALUE that engines take for their own, as s3.endpoint=URL")
	return c
}

// reading is a server that is always ready.
type reading struct{ http.Handler }

// Accepting implements frontdoor.Host.
func (reading) Accepting() bool { return true }

func (o serveLake) serve(ctx context.Context, out io.Writer) (err error) {
	catalog, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, catalog.Close()) }()
	limited := outage.Limit(logFlags{}.logger(config.Process{}, out, out, slog.LevelInfo).Handler())
	defer limited.End()
	log := slog.New(limited)
	if names, err := catalog.Names(ctx); err == nil && len(names) > 0 && !slices.Contains(names, o.name) {
		return usagef("the database has no tables of the catalog %q, but of %s; name one with --catalog", o.name, strings.Join(names, ", "))
	}
	handler := (&restserver.Server{
		Catalog: catalog, Read: readMetadata, Properties: o.properties, Token: os.Getenv(tokenVariable), Log: log,
	}).Handler()
	p, err := frontdoor.Enter(ctx, frontdoor.Door{
		Address: o.address, Log: log,
		Settings: frontdoor.Settings{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10, MaxConnections: 200},
	}, reading{frontdoor.Guard(o.hosts, handler)})
	if err != nil {
		return fault.New(fault.Setup, fmt.Errorf("serve the catalog: %w; choose another --address", err))
	}
	p.Lead()
	fmt.Fprintf(out, "the catalog is at http://%s until it is interrupted\n", p.Addr())
	select {
	case <-ctx.Done():
	case <-p.Ended():
		return p.Err()
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.Leave(leave)
}

func (o serveLake) open(ctx context.Context) (*sqlcatalog.Catalog, error) {
	if sqlcatalog.CheckDSN(o.catalog) == nil && (strings.Contains(o.catalog, "://") || strings.Contains(o.catalog, "=")) {
		return sqlcatalog.PostgreSQL(ctx, o.catalog, o.name)
	}
	if strings.Contains(o.catalog, "://") {
		return nil, usagef("CATALOG is a file, or the DSN of a PostgreSQL database")
	}
	// A catalog that is not there would be made, and serve nothing.
	if info, err := os.Stat(o.catalog); err != nil || info.IsDir() {
		return nil, fault.New(fault.Setup, fmt.Errorf("%s is not the file of a catalog: name that of the block sqlite of a table, or the DSN of its block postgres", o.catalog))
	}
	return sqlcatalog.SQLite(ctx, o.catalog, o.name)
}

// readMetadata reads the metadata of a table at its address, and nothing else.
func readMetadata(ctx context.Context, address string) ([]byte, error) {
	dir, name := path.Split(address)
	if !strings.HasSuffix(name, ".json") {
		return nil, fmt.Errorf("%s is not the address of metadata", address)
	}
	scheme, rest, ok := strings.Cut(dir, "://")
	switch {
	case !ok:
		dir = filepath.FromSlash(dir)
	case scheme == "file":
		dir = filepath.FromSlash(rest)
	case scheme == "abfss" || scheme == "abfs": // CONTAINER@ACCOUNT.dfs.core.windows.net/PATH
		u, err := url.Parse(dir)
		if err != nil || u.User == nil {
			return nil, fmt.Errorf("%s is not the address of metadata", address)
		}
		dir = "https://" + strings.Replace(u.Host, ".dfs.", ".blob.", 1) + "/" + u.User.Username() + u.Path
	case scheme == "s3a":
		dir = "s3://" + rest
	}
	p, err := place.Parse(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, err
	}
	b, err := p.Open(ctx, place.Options{Version: Version()})
	if err != nil {
		return nil, err
	}
	text, _, err := b.Get(ctx, name)
	return text, errors.Join(err, b.Close())
}
