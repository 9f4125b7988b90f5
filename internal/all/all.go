// Package all is the one list of every connector Weir has. Only package app and tests
// import it; a connector that is not listed here does not exist.
package all

import (
	"github.com/weirdata/weir/internal/connector"
	eventhubsource "github.com/weirdata/weir/internal/source/eventhub"
	filesource "github.com/weirdata/weir/internal/source/file"
	gatewaysource "github.com/weirdata/weir/internal/source/gateway"
	generatesource "github.com/weirdata/weir/internal/source/generate"
	httpsource "github.com/weirdata/weir/internal/source/http"
	kafkasource "github.com/weirdata/weir/internal/source/kafka"
	kinesissource "github.com/weirdata/weir/internal/source/kinesis"
	pubsubsource "github.com/weirdata/weir/internal/source/pubsub"
	queuesource "github.com/weirdata/weir/internal/source/queue"
	sqssource "github.com/weirdata/weir/internal/source/sqs"
	"github.com/weirdata/weir/internal/source/stdin"
	embeddedstore "github.com/weirdata/weir/internal/store/embedded"
	postgresstore "github.com/weirdata/weir/internal/store/postgres"
	"github.com/weirdata/weir/internal/target/directory"
	eventhubtarget "github.com/weirdata/weir/internal/target/eventhub"
	filetarget "github.com/weirdata/weir/internal/target/file"
	httptarget "github.com/weirdata/weir/internal/target/http"
	kafkatarget "github.com/weirdata/weir/internal/target/kafka"
	kinesistarget "github.com/weirdata/weir/internal/target/kinesis"
	"github.com/weirdata/weir/internal/target/lake"
	machinetarget "github.com/weirdata/weir/internal/target/machine"
	"github.com/weirdata/weir/internal/target/object"
	pubsubtarget "github.com/weirdata/weir/internal/target/pubsub"
	queuetarget "github.com/weirdata/weir/internal/target/queue"
	"github.com/weirdata/weir/internal/target/silent"
	sqstarget "github.com/weirdata/weir/internal/target/sqs"
	"github.com/weirdata/weir/internal/target/stdout"
	"github.com/weirdata/weir/internal/target/webhook"
	"github.com/weirdata/weir/internal/transform/archive"
	"github.com/weirdata/weir/internal/transform/base64"
	"github.com/weirdata/weir/internal/transform/conversion"
	"github.com/weirdata/weir/internal/transform/fanout"
	"github.com/weirdata/weir/internal/transform/gtmss"
	"github.com/weirdata/weir/internal/transform/jq"
	"github.com/weirdata/weir/internal/transform/js"
	"github.com/weirdata/weir/internal/transform/lambda"
	"github.com/weirdata/weir/internal/transform/lua"
	"github.com/weirdata/weir/internal/transform/processor"
	"github.com/weirdata/weir/internal/transform/spenriched"
	webhooktransform "github.com/weirdata/weir/internal/transform/webhook"
)

// Connectors returns every connector, in the order they are documented.
func Connectors() connector.Set {
	return connector.Set{
		Sources: []connector.Entry[connector.Source]{
			stdin.Entry,
			filesource.Entry,
			httpsource.Entry,
			gatewaysource.Entry,
			queuesource.Entry,
			eventhubsource.Entry,
			kinesissource.Entry,
			sqssource.Entry,
			pubsubsource.Entry,
			generatesource.Entry,
			kafkasource.Entry,
		},
		Transforms: []connector.Entry[connector.Transform]{
			js.Entry,
			lua.Entry,
			jq.JQ,
			jq.Filter,
			jq.PartitionKeys,
			base64.Decode,
			base64.Encode,
			spenriched.ToJSON,
			spenriched.Filter,
			spenriched.FilterContext,
			spenriched.FilterUnstruct,
			spenriched.SetPk,
			gtmss.Entry,
			lambda.Entry,
			processor.Decompress,
			processor.CloudWatchLogs,
			processor.Deaggregate,
			conversion.Entry,
			archive.Entry,
			fanout.Entry,
			webhooktransform.Entry,
		},
		Targets: []connector.Entry[connector.Target]{
			stdout.Entry,
			filetarget.Entry,
			directory.Entry,
			object.Entry,
			httptarget.Entry,
			kafkatarget.Entry,
			kinesistarget.Entry,
			webhook.Entry,
			eventhubtarget.Entry,
			pubsubtarget.Entry,
			queuetarget.Entry,
			sqstarget.Entry,
			machinetarget.Entry,
			lake.Entry,
			silent.Entry,
		},
		Stores: []connector.Entry[connector.StoreOpener]{
			embeddedstore.Entry,
			postgresstore.Entry,
		},
	}
}
