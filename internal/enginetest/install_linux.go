package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// clusterConfig tells Debian's packages not to make a cluster of their own, which would
// be started as a service: tests start the servers they need.
const (
	clusterConfig = "/etc/postgresql-common/createcluster.conf"
	noCluster     = "create_main_cluster = false\n"
)

// installPostgres installs Debian's or Ubuntu's package; it needs root and apt-get.
func installPostgres(ctx context.Context, log io.Writer) error {
	if err := aptUsable(); err != nil {
		return err
	}
	if _, err := os.Stat(clusterConfig); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(clusterConfig), 0o755); err != nil {
			return fmt.Errorf("prepare the installation of PostgreSQL: %w", err)
		}
		if err := os.WriteFile(clusterConfig, []byte(noCluster), 0o644); err != nil {
			return fmt.Errorf("prepare the installation of PostgreSQL: %w", err)
		}
	}
	return aptInstall(ctx, log, "postgresql")
}

// InstallCompiler installs the C compiler that the race detector needs.
func InstallCompiler(ctx context.Context, log io.Writer) error {
	if err := aptUsable(); err != nil {
		return err
	}
	return aptInstall(ctx, log, "gcc", "libc6-dev")
}

func aptUsable() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can install packages")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("only systems with apt-get are installed on without asking")
	}
	return nil
}

func aptInstall(ctx context.Context, log io.Writer, packages ...string) error {
	install := append([]string{"install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"}, packages...)
	for _, args := range [][]string{{"update"}, install} {
		c := exec.CommandContext(ctx, "apt-get", args...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		c.Stdout, c.Stderr = log, log
		if err := c.Run(); err != nil {
			return fmt.Errorf("run apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
