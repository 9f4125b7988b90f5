package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by release builds with -ldflags "-X".
var version = ""

// developmentVersion is what builds without a release version call themselves. It has
// three numbers because the schemas of failure payloads ask for them.
const developmentVersion = "0.1.0-dev"

// Version is the version of this binary.
func Version() string {
	if version != "" {
		return version
	}
	return developmentVersion
}

func versionCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version, the commit and the platform",
		Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(s.Out, versionLine())
			return err
		},
	}
}

// versionLine is the version, the commit and the platform.
func versionLine() string {
	return fmt.Sprintf("weir %s (commit %s, %s, %s/%s)\n", Version(), commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit is the commit that this binary was built from.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, kv := range info.Settings {
			if kv.Key == "vcs.revision" {
				return kv.Value
			}
		}
	}
	return "unknown"
}
