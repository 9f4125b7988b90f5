package enginetest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
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
	return kafkaWith(ctx, w, dir, kafkaListeners{{name: "PLAINTEXT", port: port, protocol: "PLAINTEXT"}}, "")
}

// kafkaListener is where a broker listens. Clients are sent to the advertised address, which is
// that of the port unless it says otherwise.
type kafkaListener struct{ name, port, protocol, advertised string }

type kafkaListeners []kafkaListener

// settings are those of the listeners; the brokers talk through the first.
func (ls kafkaListeners) settings(controller string) string {
	var listen, advertise, protocols []string
	for _, l := range ls {
		at := l.name + "://127.0.0.1:" + l.port
		listen = append(listen, at)
		if l.advertised != "" {
			at = l.name + "://" + l.advertised
		}
		advertise = append(advertise, at)
		protocols = append(protocols, l.name+":"+l.protocol)
	}
	return fmt.Sprintf("listeners=%s,CONTROLLER://127.0.0.1:%s\nadvertised.listeners=%s\nlistener.security.protocol.map=%s,CONTROLLER:PLAINTEXT\ninter.broker.listener.name=%s\n",
		strings.Join(listen, ","), controller, strings.Join(advertise, ","), strings.Join(protocols, ","), ls[0].name)
}

// kafkaWith formats a log and is the command line of a broker on it. More settings are added to
// its own; format are more arguments of the tool that formats.
func kafkaWith(ctx context.Context, w *workspace, dir string, on kafkaListeners, more string, format ...string) ([]string, error) {
	controller, err := freePort()
	if err != nil {
		return nil, err
	}
	settings := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%s
controller.listener.names=CONTROLLER
log.dirs=%s
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
%s%s`, controller, filepath.Join(w.dir, "data"), on.settings(controller), more)
	file := filepath.Join(w.dir, "server.properties")
	if err := give(file, []byte(settings)); err != nil {
		return nil, err
	}
	classes := filepath.Join(dir, "lib", "*")
	args := append([]string{"-cp", classes, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", file}, format...)
	if err := w.run(ctx, "java", args...); err != nil {
		return nil, err
	}
	return []string{"java", "-Xmx512m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "kafka.Kafka", file}, nil
}

// Kafka is host and port of a broker of Apache Kafka. Tests share it: each makes topics and
// groups with names of its own.
func Kafka(t testing.TB) string { t.Helper(); return apacheKafka.get(t) }
