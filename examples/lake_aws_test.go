package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/enginetest"
)

// TestLakeAWS has events go from a stream through a Lambda function into a lake in a bucket as the
// page says, twice, and finds each once.
func TestLakeAWS(t *testing.T) {
	t.Parallel()
	r := newReader(t, "AWS_ENDPOINT_URL_KINESIS="+enginetest.KinesisLocal(t), "AWS_ENDPOINT_URL_DYNAMODB="+enginetest.DynamoDB(t),
		"AWS_ENDPOINT_URL_S3="+enginetest.S3(t), "AWS_ACCESS_KEY_ID="+enginetest.S3Key, "AWS_SECRET_ACCESS_KEY="+enginetest.S3Secret,
		"AWS_DEFAULT_REGION=us-east-1", "AWS_REGION=us-east-1", "AWS_CONFIG_FILE="+os.DevNull, "AWS_PAGER=", "ENVIRONMENT=local")
	r.program("aws", enginetest.AWSCLI(t))
	lay(t, filepath.Join(r.bin, "pip"), strings.Replace(pip, "%s", enginetest.LambdaRuntime(t), 1), 0o755)
	if err := os.CopyFS(filepath.Join(r.dir, "examples"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	r.follow("lake-aws/README.md")
}
