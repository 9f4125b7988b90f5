package enginetest

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
)

// kclFiles are the libraries, in the machine's cache like those of a server.
var kclFiles = &fetched{
	name: "Kinesis Client Library", variable: "WEIR_TEST_KCL", version: "2.7.2",
	needs: []string{"mvn", "java"},
	fetch: maven("software.amazon.kinesis:amazon-kinesis-client:2.7.2", "org.slf4j:slf4j-simple:2.0.13"),
}

// kinesisClientLibrary is not a server: its address is a class path for Java.
var kinesisClientLibrary = Engine{
	Name: kclFiles.name, Variable: kclFiles.variable, Get: kclFiles.engine().Get,
	Start:   startKCL,
	Install: kclFiles.install,
	Version: func(context.Context, string) (string, error) { return kclFiles.version, nil },
}

func startKCL(context.Context) (*Running, error) {
	dir, err := kclFiles.dir()
	if err == nil {
		err = kclFiles.installed(dir)
	}
	if err != nil {
		return nil, err
	}
	return &Running{Address: filepath.Join(dir, "lib", "*")}, nil
}

var kclOnDemand = sync.OnceValues(func() (*Running, error) { return startKCL(context.Background()) })

// KinesisClientLibrary is a class path with Amazon's client library, version 2, of Java, whose
// workers share leases with others.
func KinesisClientLibrary(t testing.TB) string {
	t.Helper()
	return address(t, kinesisClientLibrary, kclOnDemand)
}
