package enginetest

import "testing"

// kinesisClientLibrary is a class path for Java.
var kinesisClientLibrary = &fetched{
	name: "Kinesis Client Library", variable: "WEIR_TEST_KCL", version: "2.7.2", files: "lib/*",
	needs: []string{"mvn", "java"},
	fetch: maven("software.amazon.kinesis:amazon-kinesis-client:2.7.2", "org.slf4j:slf4j-simple:2.0.13"),
}

// KinesisClientLibrary is a class path with Amazon's client library, version 2, of Java, whose
// workers share leases with others.
func KinesisClientLibrary(t testing.TB) string {
	t.Helper()
	return kinesisClientLibrary.get(t)
}
