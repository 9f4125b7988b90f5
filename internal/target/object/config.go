package object

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob/azure"
	"github.com/weirdata/weir/internal/blob/gcs"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/connector"
)

// Config is the HCL of the object target.
type Config struct {
	// Path is where objects go: the path of a folder, "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX",
	// "azblob://CONTAINER/PREFIX" or "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX". A
	// relative path of a folder means from the folder of the config file.
	Path string `hcl:"path"`
	// Name is that of an object behind the prefix, with expressions in it: "!{timestamp:yyyy/MM/dd/HH}"
	// (time of the oldest message in the object, in UTC, in the letters of Java and Firehose; also
	// "!{yyyy}", "!{MM}", "!{dd}", "!{HH}", "!{mm}"), "!{field:order.id}" (a text or number of a JSON
	// payload), "!{stream}" and "!{partition}" (where the source read it), "!{source}" and "!{workspace}"
	// (of the workspace config, whose event it is), "!{first}" and "!{last}" (times of the oldest and the
	// newest message in the object, in seconds since 1970), "!{unique}" (see unique
	// below), "!{firehose:random-string}" (11 new characters), and "!{extension}". By default
	// "!{timestamp:yyyy/MM/dd/HH}/!{unique}!{extension}". A message that lacks a field in it is invalid. "!{unique}" is the
	// same whenever the same messages are delivered again, where the source says which they are, so
	// that they are not there twice; otherwise it is new each time, and grows with time. Times are then
	// those of the source, where it knows them.
	Name string `hcl:"name,optional"`
	// Prefix is what Amazon Data Firehose calls so, in the place of name: "logs/!{timestamp:yyyy}/".
	// Expressions are "!{timestamp:PATTERN}" (arrival of the oldest message in the object, in the letters of
	// Java's DateTimeFormatter), "!{firehose:random-string}", and the partition keys that the
	// transforms lambda and jqPartitionKeys note: "!{partitionKeyFromLambda:NAME}" and
	// "!{partitionKeyFromQuery:NAME}"; a message without one is invalid. Behind a prefix without an
	// expression stands "yyyy/MM/dd/HH/". In a failure target it is an error prefix, with
	// "!{firehose:error-output-type}" in it, or without any expression. What is behind the prefix is
	// the name of the stream, "-1-", the time and a UUID, and the extension. At most 1024 bytes, and
	// 512 as it becomes.
	Prefix *string `hcl:"prefix,optional"`
	// StreamName is how names behind a prefix begin; the name of the pipeline by default.
	StreamName string `hcl:"stream_name,optional"`
	// CustomTimeZone is the one of times in names, as "Asia/Tokyo"; "UTC" by default.
	CustomTimeZone string `hcl:"custom_time_zone,optional"`
	// MaxPartitions is the most buffers that fill at once, where values of messages are in names: 500
	// by default, as Firehose's active partitions. It counts with each = "batch".
	MaxPartitions int `hcl:"max_partitions,optional"`
	// WhenExceeded says what becomes of a message that would need one buffer more: "write" (default)
	// writes the buffer that began first, whatever its size, so that nothing is refused; "fail" has
	// the message fail, as Firehose does (activePartitionExceeded).
	WhenExceeded string `hcl:"when_exceeded,optional"`
	// FirehoseLimits says what becomes of settings beside a prefix that Firehose would refuse, and that
	// work here: "warn" (default), a warning for each, or "ignore".
	FirehoseLimits string `hcl:"firehose_limits,optional"`
	// Each says what becomes an object: "batch" (default), all messages of a write whose name
	// is the same but for its unique part, or "message".
	Each string `hcl:"each,optional"`
	// Existing says what becomes of an object whose name is taken by another one: "refuse" (default),
	// its messages are invalid, or "replace". Only a name without a unique part meets one.
	Existing string `hcl:"existing,optional"`
	// Delimiter stands behind every message of a batch; a line end by default, which makes JSON
	// lines of JSON. "" joins payloads as they are.
	Delimiter *string `hcl:"delimiter,optional"`
	// AllowDelimiters writes payloads that hold the delimiter too. Otherwise such a message is
	// invalid, because a reader would take it for several.
	AllowDelimiters bool `hcl:"allow_delimiters,optional"`
	// Compression of objects: "none" (default), "gzip", "zstd", "zip" (an archive of one file),
	// "snappy" (in the frames of snappy-java, as Firehose's Snappy) or "hadoop_snappy" (in those of
	// Hadoop).
	Compression string `hcl:"compression,optional"`
	// Extension is what "!{extension}" stands for; by default ".jsonl", or ".json" with each =
	// "message", and ".gz", ".zst", ".zip" or ".snappy" behind it; behind a prefix only the latter, as
	// with Firehose. Objects of a format_conversion end in ".parquet", those of a csv block in ".csv"
	// and what compression adds, behind a prefix too.
	Extension *string `hcl:"extension,optional"`
	// ContentType of objects in a store; by default "application/x-ndjson", or
	// "application/json" with each = "message", "text/csv" of a csv block,
	// "application/vnd.apache.parquet" of a format_conversion, and "application/octet-stream" behind a
	// prefix.
	ContentType string `hcl:"content_type,optional"`
	// ContentEncoding of objects in a store; none by default, and behind a prefix what Firehose
	// writes: "gzip", "zip", "snappy-java" or "hadoop-snappy". With "gzip" most readers unpack by
	// themselves.
	ContentEncoding string `hcl:"content_encoding,optional"`
	// Metadata of objects in a store. Names are lower-case letters, digits and _.
	Metadata map[string]string `hcl:"metadata,optional"`
	// FormatConversion makes Parquet of JSON records. Batches should be large then: a file of a few
	// records costs its readers more than it holds.
	FormatConversion *FormatConversion `hcl:"format_conversion,block"`
	// CSV makes lines of comma-separated values of JSON objects. The delimiter is their line end: "\n" by
	// default, or "\r\n".
	CSV *CSV `hcl:"csv,block"`
	// S3 is how a bucket of Amazon S3 is reached; the environment's credentials and region by default.
	S3 *s3.Access `hcl:"s3,block"`
	// GCS is how a bucket of Google Cloud Storage is reached.
	GCS *gcs.Access `hcl:"gcs,block"`
	// AzBlob is how a container of Azure Blob storage is reached.
	AzBlob *azure.Access `hcl:"azblob,block"`
	// Batching is how messages are grouped: a batch becomes an object when it is full, or its
	// oldest message flush_period_millis old. Half of the pipeline's in_flight is the most that
	// fills.
	Batching *connector.Batching `hcl:"batching,block"`
}

const (
	eachBatch, eachMessage         = "batch", "message"
	existingRefuse, existingOthers = "refuse", "replace"
	plain, gzipped, zstandard      = "none", "gzip", "zstd"
	zipped, snappy, hadoopSnappy   = "zip", "snappy", "hadoop_snappy"
	exceededWrite, exceededFail    = "write", "fail"
	defaultName                    = "!{timestamp:yyyy/MM/dd/HH}/!{unique}!{extension}"
)

func defaults() Config {
	return Config{
		Name: defaultName, Each: eachBatch, Existing: existingRefuse, Compression: plain,
		CustomTimeZone: "UTC", MaxPartitions: 500, WhenExceeded: exceededWrite, FirehoseLimits: limitsWarn,
		Batching: &connector.Batching{MaxBatchMessages: 5000, MaxBatchBytes: 16 << 20, MaxMessageBytes: 16 << 20, MaxConcurrentBatches: 4, FlushPeriodMillis: 60_000},
	}
}

func (c Config) access() place.Access { return place.Access{S3: c.S3, GCS: c.GCS, AzBlob: c.AzBlob} }

func (c Config) delimiter() string {
	switch {
	case c.Each == eachMessage:
		return ""
	case c.Delimiter != nil:
		return *c.Delimiter
	}
	return "\n"
}

func (c Config) extension() string {
	if c.Extension != nil {
		return *c.Extension
	}
	e := ".jsonl"
	switch {
	case c.FormatConversion != nil:
		return ".parquet"
	case c.CSV != nil:
		e = ".csv"
	case c.Prefix != nil:
		e = ""
	case c.Each == eachMessage:
		e = ".json"
	}
	return e + map[string]string{gzipped: ".gz", zstandard: ".zst", zipped: ".zip", snappy: ".snappy", hadoopSnappy: ".snappy"}[c.Compression]
}

func (c Config) properties() remote.Properties {
	p := remote.Properties{ContentType: c.ContentType, ContentEncoding: c.ContentEncoding, Metadata: c.Metadata}
	if c.Prefix != nil && p.ContentEncoding == "" {
		p.ContentEncoding = map[string]string{gzipped: "gzip", zstandard: "zstd", zipped: "zip", snappy: "snappy-java", hadoopSnappy: "hadoop-snappy"}[c.Compression]
	}
	switch {
	case p.ContentType != "":
	case c.Prefix != nil:
		p.ContentType = "application/octet-stream"
	case c.FormatConversion != nil:
		p.ContentType = "application/vnd.apache.parquet"
	case c.CSV != nil:
		p.ContentType = "text/csv"
	case c.Each == eachMessage:
		p.ContentType = "application/json"
	default:
		p.ContentType = "application/x-ndjson"
	}
	return p
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := append(c.access().Problems("path", c.Path), connector.Under("batching", c.Batching.Validate())...)
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	oneOf := func(field, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			refuse(field, "use one of "+strings.Join(allowed, ", "), "%s must not be %q", field, value)
		}
	}
	oneOf("each", c.Each, eachBatch, eachMessage)
	oneOf("existing", c.Existing, existingRefuse, existingOthers)
	oneOf("compression", c.Compression, plain, gzipped, zstandard, zipped, snappy, hadoopSnappy)
	oneOf("when_exceeded", c.WhenExceeded, exceededWrite, exceededFail)
	oneOf("firehose_limits", c.FirehoseLimits, limitsWarn, limitsIgnore)
	if c.MaxPartitions < 1 || c.MaxPartitions > mostPartitions {
		refuse("max_partitions", "leave it out for 500", "max_partitions must be from 1 to %d, not %d", mostPartitions, c.MaxPartitions)
	}
	if _, err := time.LoadLocation(c.CustomTimeZone); err != nil || c.CustomTimeZone == "" || c.CustomTimeZone == "Local" {
		refuse("custom_time_zone", `write a name of the IANA's list, as "Europe/Berlin", or leave it out for "UTC"`, "there is no time zone %q", c.CustomTimeZone)
	}
	if c.Each == eachMessage && c.Delimiter != nil {
		refuse("delimiter", "leave it out", "delimiter is of no use with each = \"message\"")
	}
	ps = append(ps, c.formProblems()...)
	if c.Prefix != nil {
		ps = append(ps, c.prefixProblems()...)
	} else {
		ps = append(ps, c.nameProblems()...)
	}
	for name, value := range c.Metadata {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name[0] >= '0' && name[0] <= '9' {
			refuse("metadata", "use lower-case letters, digits and _, a letter first", "metadata has the name %q", name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || len(value) > 1024 {
			refuse("metadata", "use at most 1024 characters of ASCII", "metadata has a value that no header can hold, of %q", name)
		}
	}
	return ps
}

// formProblems are those of what objects hold.
func (c Config) formProblems() (ps []connector.Problem) {
	refuse := func(field, fix, what string) { ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix}) }
	var form string
	switch f, v := c.FormatConversion, c.CSV; {
	case f != nil && v != nil:
		refuse("csv", "keep one of the two", "there are both a format_conversion and a csv block")
		return ps
	case f != nil:
		form, ps = "a format_conversion", connector.Under("format_conversion", f.problems())
		if c.Compression != plain {
			refuse("compression", "leave it out", "compression is of no use with a format_conversion: columns are compressed within the file")
		}
		if c.Delimiter != nil {
			refuse("delimiter", "leave it out", "delimiter is of no use with a format_conversion")
		}
	case v != nil:
		form, ps = "a csv block", connector.Under("csv", v.problems())
		if d := c.delimiter(); c.Each == eachBatch && d != "\n" && d != "\r\n" {
			refuse("delimiter", `use "\n", or "\r\n"`, "delimiter is the line end of a csv block")
		}
	default:
		return nil
	}
	if c.Each == eachMessage {
		refuse("each", "leave it out", "each = \"message\" is of no use with "+form)
	}
	if c.AllowDelimiters {
		refuse("allow_delimiters", "leave it out", "allow_delimiters is of no use with "+form)
	}
	return ps
}

func (c Config) nameProblems() (ps []connector.Problem) {
	refuse := func(field, fix, what string) { ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix}) }
	k, err := parseName(c.Name, c.extension())
	switch {
	case err != nil:
		refuse("name", connector.Remedy(err, "write it as \""+defaultName+"\""), "name: "+err.Error())
	case c.Each == eachBatch && !k.unique():
		refuse("name", `add "!{unique}", or set each = "message"`, "name has no unique part, so that the second batch would have the name of the first")
	case c.Each == eachMessage && !k.unique() && len(k.fields()) == 0:
		refuse("name", `add "!{unique}" or "!{field:NAME}"`, "name is the same for every message")
	case c.Existing == existingOthers && k.unique():
		refuse("existing", "leave it out", "existing is of no use with a name that has a unique part")
	}
	if c.StreamName != "" {
		refuse("stream_name", "take it out, or write prefix instead of name", "stream_name stands behind a prefix, and there is none")
	}
	return ps
}
