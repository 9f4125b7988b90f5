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
	"testing"
)

// awsCLI is the command line of Amazon and what starts it.
var awsCLI = &fetched{
	name: "AWS CLI", variable: "WEIR_TEST_AWSCLI", version: "1.46.3", files: "bin/aws", says: awsVersion,
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

func awsVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask the AWS CLI for its version: %w: %s", err, out)
	}
	first, _, _ := strings.Cut(string(out), " ")
	return strings.TrimPrefix(first, "aws-cli/"), nil
}

// AWSCLI is the path of the command aws.
func AWSCLI(t testing.TB) string {
	t.Helper()
	return awsCLI.get(t)
}
