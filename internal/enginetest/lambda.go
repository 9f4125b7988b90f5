package enginetest

import "testing"

// lambdaRuntime is AWS's runtime client for handlers in Python, a folder of modules. Handlers in
// JavaScript need node alone.
var lambdaRuntime = &fetched{
	name: "AWS Lambda runtime", variable: "WEIR_TEST_LAMBDA", version: "4.2.2", files: "lib",
	needs: []string{"python3", "node"}, fetch: pip("awslambdaric==4.2.2"),
}

// LambdaRuntime is the folder of the Python module awslambdaric, which calls a handler as AWS
// Lambda does.
func LambdaRuntime(t testing.TB) string {
	t.Helper()
	return lambdaRuntime.get(t)
}
