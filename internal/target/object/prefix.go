package object

import (
	"crypto/rand"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // time zones where the machine has none, as in a container of nothing but Weir

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/firehose/prefix"
)

const (
	mostPartitions = 100_000
	mostExtension  = 128
)

// extensions are those that Firehose takes.
var extensions = regexp.MustCompile(`^(|\.[0-9a-z!\-_.*'()]+)$`)

// streamNames are those that Firehose takes.
var streamNames = regexp.MustCompile(`^[a-zA-Z0-9_.-]{0,64}$`)

// prefixProblems are those of a config with a prefix, but for the prefix itself: which kind it is
// shows when the target is made.
func (c Config) prefixProblems() (ps []connector.Problem) {
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if c.Name != defaultName {
		refuse("name", "keep one of the two", "there are both name and prefix")
	}
	if c.Existing == existingOthers {
		refuse("existing", "leave it out", "existing is of no use with a prefix, whose names are unique")
	}
	if e := c.extension(); !extensions.MatchString(e) || len(e) > mostExtension {
		refuse("extension", `write it as ".jsonl.gz"`, "extension behind a prefix begins with a dot and has at most %d lower-case letters, digits and !-_.*'(), not %q", mostExtension, e)
	}
	if !streamNames.MatchString(c.StreamName) {
		refuse("stream_name", "use letters, digits, _, - and .", "stream_name has at most 64 letters, digits, _, - and ., not %q", c.StreamName)
	}
	return ps
}

// failureBlock is the block of a config whose targets get what failed.
const failureBlock = "failure_target"

// key is the template of names.
func (c Config) key(d connector.Deps) (key, error) {
	if c.Prefix == nil {
		k, err := parseName(c.Name, c.extension())
		if err != nil {
			return nil, connector.Blame("name", connector.Remedy(err, ""), err)
		}
		return k, nil
	}
	kind, fix := prefix.Records, `write it as "logs/!{timestamp:yyyy/MM/dd/HH}/"`
	if strings.HasPrefix(d.Component, failureBlock) {
		kind, fix = prefix.Errors, `write it as "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"`
	}
	p, err := prefix.Parse(*c.Prefix, kind)
	if err != nil {
		return nil, connector.Blame("prefix", fix, fmt.Errorf("prefix: %w", err))
	}
	stream := c.StreamName
	if stream == "" {
		stream = path.Base(d.Pipeline) // the one that takes failures to their target is called failures/NAME
	}
	if stream == "." {
		stream = "default"
	}
	return key{
		{kind: isPrefix, prefix: p}, {text: stream + "-1-"}, {kind: isTime, layout: prefix.Must(prefix.SuffixLayout)},
		{text: "-"}, {kind: isUUID}, {text: c.extension()},
	}, nil
}

// exceeded is why a message fails that would need a buffer more than there may be.
func exceeded(most int) error {
	return (&firehose.Failure{Type: firehose.PartitionsExceeded, Attempts: 1, Code: "DynamicPartitioning.ActivePartitionExceeded",
		Message: fmt.Sprintf("%d partitions are filling, which is as many as may be: raise max_partitions, or set when_exceeded = \"write\"", most)}).Refuse()
}

// prefixGroup is what of a prefix a message decides.
func prefixGroup(p *prefix.Prefix, m *event.Message) (string, error) {
	var b strings.Builder
	for _, k := range p.Keys() {
		value := k.Source.Of(m, k.Name)
		if value == "" {
			return "", (&firehose.Failure{Type: firehose.ProcessingFailedType, Attempts: 1, Code: "DynamicPartitioning.MetadataNotFound",
				Message: "the record has no partition key for " + k.Expression()}).Refuse()
		}
		if value = prefix.Safe(value); len(value) > mostValue {
			return "", tooLong(value)
		}
		b.WriteString(value)
		b.WriteByte('/') // which no value has
	}
	if p.ErrorType() {
		b.WriteString(string(failures.OutputType(m.Data)))
	}
	return b.String(), nil
}

// evaluate is the prefix of an object with m in it.
func evaluate(p *prefix.Prefix, at time.Time, m *event.Message) (string, error) {
	return p.Evaluate(prefix.Values{
		At: at, ErrorType: failures.OutputType(m.Data), Random: randomString,
		Key: func(k prefix.Key) string { return k.Source.Of(m, k.Name) },
	})
}

// uuidOf is uniqueOf in the form of a UUID.
func (t *Target) uuidOf(g *group) string {
	sum := digest(g.messages)
	if sum == nil {
		sum = make([]byte, 16)
		_, _ = rand.Read(sum) // never fails
	}
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: of our own making
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:])
}
