package enginetest

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// kinesisLocal knows resharding, fan-out and consumers, and is slow.
var kinesisLocal = &fetched{
	name: "kinesis-local", variable: "WEIR_TEST_KINESIS", version: "0.6.2",
	needs: []string{"npm", "node"}, fetch: npm("kinesis-local@0.6.2"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		tls, err := freePort()
		if err != nil {
			return nil, err
		}
		main := filepath.Join(dir, "node_modules", "kinesis-local")
		return []string{
			"env", "LOG_LEVEL=ERROR", "KINESIS_MOCK_PLAIN_PORT=" + port, "KINESIS_MOCK_TLS_PORT=" + tls,
			"KINESIS_MOCK_CERT_PATH=" + filepath.Join(main, "server.json"), "SHARD_LIMIT=1000",
			"node", filepath.Join(main, "main.js"),
		}, nil
	},
	address: httpURL, answers: answersTCP,
}

// aborted has a program live on when a client hangs up in the middle of a request, which the
// servers of this family take for their own end.
const aborted = `data:text/javascript,process.on("uncaughtException", (e) => { if (e.code !== "ECONNRESET") { console.error(e); process.exit(1) } })`

// kinesalite is quick, and knows neither fan-out nor the children of a shard.
var kinesalite = &fetched{
	name: "kinesalite", variable: "WEIR_TEST_KINESALITE", version: "3.3.3",
	needs: []string{"npm", "node"}, fetch: npm("kinesalite@3.3.3"),
	command: func(_ context.Context, _ *workspace, dir, port string) ([]string, error) {
		return []string{"node", "--import", aborted, filepath.Join(dir, "node_modules", "kinesalite", "cli.js"), "--port", port, "--shardLimit", "1000", "--createStreamMs", "10", "--updateStreamMs", "10", "--deleteStreamMs", "10"}, nil
	},
	address: httpURL, answers: answersTCP,
}

// dynalite is a DynamoDB with conditions, without transactions.
var dynalite = &fetched{
	name: "dynalite", variable: "WEIR_TEST_DYNAMODB", version: "4.0.0",
	needs: []string{"npm", "node"}, fetch: npm("dynalite@4.0.0"),
	command: func(_ context.Context, _ *workspace, dir, port string) ([]string, error) {
		return []string{"node", "--import", aborted, filepath.Join(dir, "node_modules", "dynalite", "cli.js"), "--port", port, "--createTableMs", "10"}, nil
	},
	address: httpURL, answers: answersTCP,
}

// withoutSQLite lets Node.js 20 load a program that names its SQLite, which is not there, and
// does not use it unless it is told to keep what it has.
const withoutSQLite = `data:text/javascript,import { register } from "node:module"; register("data:text/javascript," + encodeURIComponent(` +
	"`export async function resolve(name, context, next) { if (name === 'node:sqlite') return { url: 'data:text/javascript,export class DatabaseSync {}', shortCircuit: true }; return next(name, context) }`" + `))`

// fauxqs is an SQS. Of a group in a FIFO queue it gives out one message at a time; see moto.
var fauxqs = &fetched{
	name: "fauxqs", variable: "WEIR_TEST_SQS", version: "2.4.1",
	needs: []string{"npm", "node"}, fetch: npm("fauxqs@2.4.1"),
	command: func(_ context.Context, _ *workspace, dir, port string) ([]string, error) {
		return []string{
			"env", "FAUXQS_LOGGER=false", "FAUXQS_HOST=127.0.0.1", "FAUXQS_PORT=" + port,
			"node", "--no-warnings", "--import", withoutSQLite, filepath.Join(dir, "node_modules", "fauxqs", "dist", "server.js"),
		}, nil
	},
	address: httpURL, answers: answersTCP,
}

// nodeJS is a Node.js that has SQLite.
var nodeJS = &fetched{
	name: "Node.js", variable: "WEIR_TEST_NODE", version: "22.23.5", files: filepath.Join("node_modules", nodePackage(), "bin", "node"),
	needs: []string{"npm"}, fetch: npm(nodePackage() + "@22.23.5"),
}

func nodePackage() string {
	machine := runtime.GOARCH
	if machine == "amd64" {
		machine = "x64"
	}
	return "node-" + runtime.GOOS + "-" + machine
}

// moto is used for the FIFO queues of SQS only.
var moto = &fetched{
	name: "moto", variable: "WEIR_TEST_MOTO", version: "5.2.5",
	needs: []string{"python3"}, fetch: pip("moto[server]==5.2.5"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		w.unowned() // the interpreter may be in the home folder of the user who runs the tests
		return []string{"env", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + filepath.Join(dir, "lib"), "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", port}, nil
	},
	address: httpURL, answers: answersTCP,
}

// azurite is a Blob storage.
var azurite = &fetched{
	name: "Azurite", variable: "WEIR_TEST_AZURITE", version: "3.37.0",
	needs: []string{"npm", "node"}, fetch: npm("azurite@3.37.0"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		return []string{
			"node", filepath.Join(dir, "node_modules", "azurite", "dist", "src", "blob", "main.js"), "--silent", "--disableTelemetry",
			"--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", port, "--location", w.dir,
		}, nil
	},
	address: httpURL, answers: answersTCP,
}

//go:embed eventhubs.js
var eventHubsScript []byte

// eventHubs speaks what the official SDKs of Event Hubs speak, on an AMQP 1.0 peer that others
// wrote.
var eventHubs = &fetched{
	name: "Event Hubs stand-in", variable: "WEIR_TEST_EVENTHUBS", version: "rhea-3.0.5",
	needs: []string{"npm", "node"}, fetch: npm("rhea@3.0.5"),
	command: func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		script := filepath.Join(w.dir, "eventhubs.js")
		if err := give(script, eventHubsScript); err != nil {
			return nil, err
		}
		return []string{"env", "PORT=" + port, "NODE_PATH=" + filepath.Join(dir, "node_modules"), "node", script}, nil
	},
	address: plain, answers: answersTCP,
}

// KinesisLocal is the endpoint of a Kinesis that knows resharding and fan-out. Tests share
// it: each makes streams with names of its own.
func KinesisLocal(t testing.TB) string { t.Helper(); return kinesisLocal.get(t) }

// Kinesalite is the endpoint of a Kinesis that is quick, without fan-out. Tests share it.
func Kinesalite(t testing.TB) string { t.Helper(); return kinesalite.get(t) }

// DynamoDB is the endpoint of a DynamoDB. Tests share it: each makes tables of its own.
func DynamoDB(t testing.TB) string { t.Helper(); return dynalite.get(t) }

// SQS is the endpoint of an SQS. Tests share it: each makes queues of its own.
func SQS(t testing.TB) string { t.Helper(); return fauxqs.get(t) }

// Moto is the endpoint of an SQS that keeps the rules of FIFO groups. Tests share it.
func Moto(t testing.TB) string { t.Helper(); return moto.get(t) }

// Azurite is the endpoint of a Blob storage with the account that emulators have. Tests share it.
func Azurite(t testing.TB) string { t.Helper(); return azurite.get(t) }

// AzuriteFor is a Blob storage of this test alone, behind TLS, which takes the tokens of e. Of a
// token it looks at everything but who signed it.
func AzuriteFor(t testing.TB, e *Entra) string {
	t.Helper()
	f := &fetched{
		name: azurite.name, variable: azurite.variable, version: azurite.version, needs: azurite.needs, fetch: azurite.fetch, answers: answersTCP,
		address: func(port string) string { return "https://127.0.0.1:" + port },
		command: func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
			line, err := azurite.command(ctx, w, dir, port)
			if err != nil {
				return nil, err
			}
			var files [2]string
			for i, from := range e.ServerFiles { // the user that engines run as may not read those of the test
				text, err := os.ReadFile(from)
				if err != nil {
					return nil, err
				}
				files[i] = filepath.Join(w.dir, filepath.Base(from))
				if err := give(files[i], text); err != nil {
					return nil, err
				}
			}
			return append(line, "--oauth", "basic", "--cert", files[0], "--key", files[1]), nil
		},
	}
	return f.alone(t).Address
}

// EventHubs is host and port of a stand-in for an Event Hubs namespace. Tests share it.
func EventHubs(t testing.TB) string { t.Helper(); return eventHubs.get(t) }
