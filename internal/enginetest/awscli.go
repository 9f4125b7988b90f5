package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// awsFiles are the command line of Amazon and what starts it, in the machine's cache like the
// programs of a server.
var awsFiles = &fetched{
	name: "AWS CLI", variable: "WEIR_TEST_AWSCLI", version: "1.46.3",
	needs: []string{"python3"},
	fetch: func(ctx context.Context, dir string, log io.Writer) error {
		// The folder gets its name when it is whole, so the command finds the rest from where it is.
		const command = `#!/bin/sh
dir=$(dirname "$(dirname "$(readlink -f "$0")")")
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$dir/lib" exec python3 "$dir/lib/bin/aws" "$@"
`
		bin := filepath.Join(dir, "bin")
		return errors.Join(
			pip("awscli==1.46.3")(ctx, dir, log),
			os.Mkdir(bin, 0o755),
			os.WriteFile(filepath.Join(bin, "aws"), []byte(command), 0o755),
		)
	},
}

// awsCLI is not a server: its address is the path of the command aws.
var awsCLI = Engine{
	Name: awsFiles.name, Variable: awsFiles.variable, Get: awsFiles.engine().Get,
	Start:   startAWS,
	Install: awsFiles.install,
	Version: awsVersion,
}

func startAWS(context.Context) (*Running, error) {
	dir, err := awsFiles.dir()
	if err == nil {
		err = awsFiles.installed(dir)
	}
	if err != nil {
		return nil, err
	}
	return &Running{Address: filepath.Join(dir, "bin", "aws")}, nil
}

func awsVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask the AWS CLI for its version: %w: %s", err, out)
	}
	first, _, _ := strings.Cut(string(out), " ")
	return strings.TrimPrefix(first, "aws-cli/"), nil
}

var awsOnDemand = sync.OnceValues(func() (*Running, error) { return startAWS(context.Background()) })

// AWSCLI is the path of the command aws.
func AWSCLI(t testing.TB) string {
	t.Helper()
	return address(t, awsCLI, awsOnDemand)
}
