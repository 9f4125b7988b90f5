package enginetest

import (
	"context"
	_ "embed"
	"path/filepath"
	"testing"
)

//go:embed IcebergCatalog.java
var icebergCatalogSource []byte

// icebergCatalog is the servlet that the project Apache Iceberg tests its clients of the REST
// protocol with, which keeps all requirements of a commit.
var icebergCatalog = &fetched{
	name: "Iceberg REST catalog", variable: "WEIR_TEST_ICEBERG_REST", version: "1.10.0",
	needs: []string{"mvn", "java"},
	fetch: maven("org.apache.iceberg:iceberg-core:1.10.0", "org.apache.iceberg:iceberg-core:1.10.0:tests",
		"org.eclipse.jetty:jetty-servlet:11.0.25", "org.xerial:sqlite-jdbc:3.46.1.3", "org.slf4j:slf4j-simple:2.0.13"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		source := filepath.Join(w.dir, "IcebergCatalog.java")
		if err := give(source, icebergCatalogSource); err != nil {
			return nil, err
		}
		return []string{
			"java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.sqlite.tmpdir=" + w.dir, "-Djava.io.tmpdir=" + w.dir,
			"-cp", filepath.Join(dir, "lib", "*"), source, port,
		}, nil
	},
	address: httpURL, answers: answersTCP,
}

// IcebergCatalog is the endpoint of a catalog that speaks the REST protocol of Iceberg. Tests share
// it: each makes namespaces of its own.
func IcebergCatalog(t testing.TB) string { t.Helper(); return icebergCatalog.get(t) }
