package enginetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// apacheKafka is a broker of Apache Kafka that is its own controller. Its log is in its
// workspace.
var apacheKafka = &fetched{
	name: "Apache Kafka", variable: "WEIR_TEST_KAFKA", version: "4.1.2",
	needs:   []string{"mvn", "java"},
	fetch:   maven("org.apache.kafka:kafka_2.13:4.1.2", "org.slf4j:slf4j-nop:1.7.36"),
	command: kafkaCommand,
	address: plain, answers: answersTCP,
}

func kafkaCommand(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
	controller, err := freePort()
	if err != nil {
		return nil, err
	}
	settings := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]s
listeners=PLAINTEXT://127.0.0.1:%[1]s,CONTROLLER://127.0.0.1:%[2]s
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]s
controller.listener.names=CONTROLLER
log.dirs=%[3]s
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
`, port, controller, filepath.Join(w.dir, "data"))
	file := filepath.Join(w.dir, "server.properties")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		return nil, err
	}
	classes := filepath.Join(dir, "lib", "*")
	if err := w.run(ctx, "java", "-cp", classes, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", file); err != nil {
		return nil, err
	}
	return []string{"java", "-Xmx512m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "kafka.Kafka", file}, nil
}

// Kafka is host and port of a broker of Apache Kafka. Tests share it: each makes topics and
// groups with names of its own.
func Kafka(t testing.TB) string { t.Helper(); return apacheKafka.get(t) }
