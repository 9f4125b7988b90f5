//go:build linux

// Only there a variable of the environment names the authorities that a process trusts.

package cli_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/enginetest"
)

// documented is the config that a chapter of a page shows.
func documented(t *testing.T, page, chapter string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	_, from, _ := strings.Cut(string(text), "\n## "+chapter+"\n")
	from, _, _ = strings.Cut(from, "\n## ")
	_, from, _ = strings.Cut(from, "```hcl\n")
	config, _, found := strings.Cut(from, "```\n")
	if !found {
		t.Fatalf("%s shows no config in its chapter %q", page, chapter)
	}
	return config
}

// TestEventHubsOverKafka: the config that the page shows for the Kafka endpoint of a namespace moves
// messages through a broker of Apache Kafka that is set up as that endpoint: TLS, and SASL PLAIN
// with the user $ConnectionString. Only the address is another.
func TestEventHubsOverKafka(t *testing.T) {
	t.Parallel()
	b := enginetest.GuardedKafka(t, "")
	const address = "acme.servicebus.windows.net:9093"
	config := documented(t, "connectors/eventhub.md", "Over Kafka")
	if n := strings.Count(config, address); n != 2 {
		t.Fatalf("the page names %s %d times, not for a source and a target:\n%s", address, n, config)
	}
	dir := files(t, "weir.hcl", strings.ReplaceAll(config, address, b.Signed))
	command := func(connection string, args ...string) *process {
		c := weir(t, dir, args...)
		c.Env = append(c.Env, "EVENTHUB_CONNECTION_STRING="+connection, "SSL_CERT_FILE="+b.Authority)
		return launch(t, c)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Plain), kgo.ConsumeTopics("landed"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, row := range []struct{ connection, want string }{
		{b.ConnectionString, "create the topic"},
		{strings.Replace(b.ConnectionString, "SharedAccessKey=", "SharedAccessKey=wrong", 1), "correct the user name, the password"},
	} {
		p := command(row.connection, "check", "--connect", "weir.hcl")
		if p.wait() == 0 || !strings.Contains(p.out.String()+p.err.String(), row.want) {
			t.Errorf("check --connect ended with %d, and does not say %q:\n%s\n%s", p.code, row.want, p.out, p.err)
		}
		if _, key, _ := strings.Cut(row.connection, "SharedAccessKey="); strings.Contains(p.out.String()+p.err.String(), key) {
			t.Errorf("it shows the key:\n%s\n%s", p.out, p.err)
		}
	}
	if _, err := kadm.NewClient(client).CreateTopics(t.Context(), 2, 1, nil, "events", "landed"); err != nil {
		t.Fatal(err)
	}
	command(b.ConnectionString, "check", "--connect", "weir.hcl").exits(0)
	var want []string
	for life := range 2 {
		for i := range 50 {
			want = append(want, fmt.Sprintf("event %d of life %d", i, life))
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Key: fmt.Append(nil, i), Value: []byte(want[len(want)-1]), Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		p := command(b.ConnectionString, "run", "weir.hcl")
		eventually(t, "all messages land", func() bool {
			ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), "landed")
			if err != nil {
				t.Fatal(err)
			}
			n := int64(0)
			ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
			return n >= int64(len(want))
		})
		p.stops(0)
		if shown := regexp.MustCompile(`(?m)^.*(level=|")(WARN|ERROR).*$`).FindString(p.err.String()); shown != "" {
			t.Errorf("it complains: %s", shown)
		}
	}
	times := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := 0; n < len(want) && ctx.Err() == nil; {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			n++
			times[string(r.Value)]++
			if len(r.Headers) != 1 || r.Headers[0].Key != "n" || time.Since(r.Timestamp) > time.Hour {
				t.Errorf("%s landed with the headers %v, and the time %s", r.Value, r.Headers, r.Timestamp)
			}
		})
	}
	for _, w := range want {
		if times[w] != 1 {
			t.Errorf("%q landed %d times", w, times[w])
		}
	}
}
