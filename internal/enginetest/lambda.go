package enginetest

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
)

// lambdaFiles are AWS's runtime client for handlers in Python, in the machine's cache like the
// programs of a server. Handlers in JavaScript need node alone.
var lambdaFiles = &fetched{
	name: "AWS Lambda runtime", variable: "WEIR_TEST_LAMBDA", version: "4.2.2",
	needs: []string{"python3", "node"}, fetch: pip("awslambdaric==4.2.2"),
}

// lambdaRuntime is not a server: its address is a folder of Python modules.
var lambdaRuntime = Engine{
	Name: lambdaFiles.name, Variable: lambdaFiles.variable, Get: lambdaFiles.engine().Get,
	Start:   startLambda,
	Install: lambdaFiles.install,
	Version: func(context.Context, string) (string, error) { return lambdaFiles.version, nil },
}

func startLambda(context.Context) (*Running, error) {
	dir, err := lambdaFiles.dir()
	if err == nil {
		err = lambdaFiles.installed(dir)
	}
	if err != nil {
		return nil, err
	}
	return &Running{Address: filepath.Join(dir, "lib")}, nil
}

var lambdaOnDemand = sync.OnceValues(func() (*Running, error) { return startLambda(context.Background()) })

// LambdaRuntime is the folder of the Python module awslambdaric, which calls a handler as AWS
// Lambda does.
func LambdaRuntime(t testing.TB) string {
	t.Helper()
	return address(t, lambdaRuntime, lambdaOnDemand)
}
