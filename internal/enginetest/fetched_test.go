package enginetest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEngines: each engine that is installed starts beside others of its kind and answers.
func TestEngines(t *testing.T) {
	for _, f := range []*fetched{apacheKafka, kinesisLocal, kinesalite, dynalite, fauxqs, moto, azurite, versitygw, fakeGCS, icebergCatalog, eventHubs} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			shared, own := f.get(t), f.alone(t)
			if own.Address == shared {
				t.Errorf("one that is alone has the address of the shared one: %s", shared)
			}
			if v, err := f.engine().Version(t.Context(), shared); err != nil || v != f.version {
				t.Errorf("version %q, %v", v, err)
			}
			if err := own.Stop(); err != nil {
				t.Error(err)
			}
			if err := f.answers(t.Context(), own.Address); err == nil {
				t.Error("it answers after it was stopped")
			}
		})
	}
}

// TestFetched: what is not there is missing, and what could not be fetched whole is not there.
func TestFetched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
	}
	f := &fetched{name: "An Engine", variable: "WEIR_TEST_AN_ENGINE", version: "0." + strings.ToLower(t.Name()), needs: []string{"sh"}}
	dir, err := f.dir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if _, err := f.start(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("start: %v", err)
	}
	broken := errors.New("the line is cut")
	f.fetch = func(_ context.Context, dir string, _ io.Writer) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), broken)
	}
	if err := f.install(t.Context(), os.Stderr); !errors.Is(err, broken) {
		t.Errorf("install: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half of it is there: %v", err)
	}
	f.needs = []string{"no-such-program"}
	if err := f.install(t.Context(), os.Stderr); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("install: %v", err)
	}
}

// TestAWSCLI: the command that was installed is of the version that is asked for.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	path := AWSCLI(t)
	if v, err := awsVersion(t.Context(), path); err != nil || v != awsCLI.version && os.Getenv(awsCLI.variable) == "" {
		t.Errorf("version %q, %v", v, err)
	}
	if _, err := awsVersion(t.Context(), filepath.Join(t.TempDir(), "aws")); err == nil {
		t.Error("a command that is not there has a version")
	}
}
