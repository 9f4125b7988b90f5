package lake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob/azure"
	"github.com/weirdata/weir/internal/blob/gcs"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/parquet"
)

// Config is the HCL of the lake target.
type Config struct {
	// Path is where the dataset is: a folder, which is made when it is not there,
	// "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX", "azblob://CONTAINER/PREFIX" or
	// "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX". A relative path of a folder means
	// from the folder of the config file. One process at a time writes to a dataset; others wait.
	Path string `hcl:"path"`

	// TimeField is the field that holds the time of an event, as keys with dots between
	// ("payload.created_at"). Without it, the default, an event's time is when it was read.
	TimeField string `hcl:"time_field,optional"`
	// TimeFormat is how the time is written: "rfc3339" (default), or as seconds,
	// milliseconds, microseconds or nanoseconds since 1970: "epoch_s", "epoch_ms",
	// "epoch_us", "epoch_ns", with or without a fraction. A time in another form makes the event
	// invalid. The column of the field is a timestamp, kept to the microsecond, where the dataset
	// does not have it yet and types says nothing else; with "epoch_ns" it stays a number.
	TimeFormat string `hcl:"time_format,optional"`
	// MissingTime is what happens to an event whose time field is absent or null: "invalid"
	// (default) sends it to the failure target, "read_time" uses the time it was read.
	MissingTime string `hcl:"missing_time,optional"`
	// PartitionBy is the levels of folders, by the time of the event in UTC: the first one,
	// two, three or, the default, all of ["year", "month", "day", "hour"]; an empty list
	// puts all files into one folder. It cannot change once the dataset exists.
	PartitionBy []string `hcl:"partition_by,optional"`

	// DedupField is a field with a unique id of the event ("event_uuid"). An event whose id,
	// a string or a whole number of any size, is in its partition already is not written again, however
	// the source groups what it delivers again, nor when its producer sends it twice. Without
	// it, the default, what a source delivers again lands once if the source gives positions
	// (queue, file, kafka, kinesis, eventhub); of other sources only a file that is delivered
	// again as a whole is recognised, by the ids that they give.
	DedupField string `hcl:"dedup_field,optional"`
	// DedupMaxIDs is the most ids kept in memory, at about 40 bytes each; 2000000 by default.
	// In a partition with more, only the newest events are recognised, at least half as many.
	DedupMaxIDs int `hcl:"dedup_max_ids,optional"`

	// PositionsKept is the most messages that are recognised by where their source read them
	// when it delivers them again, so that each lands once without a dedup_field; 1000000 by
	// default, at about 30 bytes of memory and 16 on disk each. At least half as many are: more
	// than what is in flight, and than what the source reads until it has stored its position.
	PositionsKept int `hcl:"positions_kept,optional"`

	// Types declares the types of columns that inference would give another one, by the
	// field's keys with dots between: "bool", "int64", "double", "string", "json" (any value,
	// as text; right for objects whose keys vary), "timestamp" (from RFC 3339 text of any zone),
	// "timestamp_s", "timestamp_ms" or "timestamp_us" (from numbers), these four kept to
	// the microsecond, "timestamp_ns" (from whole numbers, all digits kept; not in Iceberg tables),
	// "timestamp_local" (from text without a zone, to the microsecond), "date" ("2025-11-29"),
	// "decimal(12,2)" (up to 38 digits, here 2 of them behind the point, from numbers and from text
	// that is one, exactly) and "uuid" (from its 36 characters; it comes back in small letters). A value
	// that is not of the type goes beside the column, whole. A field of the objects in a list is
	// "items.price", an element of a list of plain values "tags[]". Only columns that the dataset
	// does not have yet.
	Types map[string]string `hcl:"types,optional"`
	// Columns is where columns come from: "infer" (default) makes one for each field that an event
	// has, "add" only those of types, which are added to a dataset that does not have them yet, and "strict"
	// those of types when the dataset is made, and none afterwards. With "add" and "strict" the time_field has its
	// column too, and types must name the dedup_field; a field of the objects in a list is "items[].price" there.
	Columns string `hcl:"columns,optional"`
	// Misfits is what becomes of a field without a column and of a value that is not of its
	// column's type: "column" (default) keeps it whole in a column of JSON text, with "infer" one
	// beside the column, otherwise the column _rest; "invalid" sends the event to the failure target.
	Misfits string `hcl:"misfits,optional"`

	// BufferMaxEvents is the most events in one write, which becomes one file for each
	// partition it touches; 5000 by default, half of what a pipeline holds in flight by
	// default. A larger one makes larger files and needs in_flight.messages of the pipeline
	// to be at least twice as much: what is in flight bounds what can be buffered, and a
	// buffer that cannot fill is written when it is buffer_max_age_seconds old.
	BufferMaxEvents int `hcl:"buffer_max_events,optional"`
	// BufferMaxBytes is the most payload bytes in one write; 16777216 (16 MiB) by default,
	// 1073741824 at most, and no more than the 32nd part of the memory limit. in_flight.bytes
	// should be at least twice as much. Memory in use is about three times as much.
	BufferMaxBytes int `hcl:"buffer_max_bytes,optional"`
	// BufferMaxAgeSeconds is the longest time, in seconds, that an event waits for the buffer
	// to fill; 60 by default. The source is told that an event is done after it is written.
	BufferMaxAgeSeconds int `hcl:"buffer_max_age_seconds,optional"`
	// Buffer gives each partition a buffer of its own, as Firehose has one for each prefix: the
	// few events of one that is cold wait for others, and become one file. It takes the place of
	// buffer_max_events, buffer_max_bytes and buffer_max_age_seconds. What waits in all buffers is in
	// flight: in_flight of the pipeline bounds it, and when that is full the buffers that began
	// first are written. So raise in_flight to what 500 partitions shall hold, and positions_kept
	// to what is read within interval_seconds: as long as one event waits, a source that commits
	// positions in order may deliver again all that it has read since. Without it, the default,
	// every write makes a file for each partition that it has events of.
	Buffer *Buffer `hcl:"buffer,block"`
	// MaxMessageBytes is the largest payload in bytes; 1048576 (1 MiB) by default.
	MaxMessageBytes int `hcl:"max_message_bytes,optional"`
	// MaxConcurrentBatches is the most writes in progress at once; 2 by default. With
	// dedup_field they take turns.
	MaxConcurrentBatches int `hcl:"max_concurrent_batches,optional"`

	// MaxFileBytes is the most payload bytes that become one file, before columns and
	// compression, which leave about an eighth; 536870912 (512 MiB) by default.
	MaxFileBytes int `hcl:"max_file_bytes,optional"`
	// MaxOpenPartitions is the most partitions that are filled at once; when one write has
	// events of more, their files are closed early. 256 by default.
	MaxOpenPartitions int `hcl:"max_open_partitions,optional"`
	// MaxDepth is how deep objects and arrays may nest in an event, which counts as 1; a
	// deeper event is invalid. 16 by default.
	MaxDepth int `hcl:"max_depth,optional"`
	// MaxColumns is the most columns of the dataset, groups included; an event that would
	// need more is invalid. 1000 by default.
	MaxColumns int `hcl:"max_columns,optional"`

	// S3 is how a bucket of Amazon S3 is reached; the environment's credentials and region by default.
	S3 *s3.Access `hcl:"s3,block"`
	// GCS is how a bucket of Google Cloud Storage is reached.
	GCS *gcs.Access `hcl:"gcs,block"`
	// AzBlob is how a container of Azure Blob storage is reached.
	AzBlob *azure.Access `hcl:"azblob,block"`

	// Table makes a table of the files, for engines that read tables: Spark, Trino, Snowflake, Athena,
	// PyIceberg. Events without positions then land at least once in an Iceberg table.
	Table *Table `hcl:"table,block"`
}

func (c Config) access() place.Access { return place.Access{S3: c.S3, GCS: c.GCS, AzBlob: c.AzBlob} }

// Entry is the lake target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "lake",
	Summary:   "Lands JSON events as Parquet files in folders by time, each event once.",
	Stability: connector.Experimental,
	Default: func() Config {
		return Config{
			TimeFormat: "rfc3339", MissingTime: "invalid", Columns: "infer", Misfits: "column", PartitionBy: []string{"year", "month", "day", "hour"},
			DedupMaxIDs: 2_000_000, PositionsKept: 1_000_000, BufferMaxEvents: 5000, BufferMaxBytes: 16 << 20, BufferMaxAgeSeconds: 60,
			MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 2, MaxFileBytes: 512 << 20, MaxOpenPartitions: 256, MaxDepth: 16, MaxColumns: 1000,
		}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) { return New(d, c) },
})

// Limits of the settings.
const (
	mostBytes   = 1 << 30
	mostDepth   = 500
	mostColumns = 100_000
)

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.access().Problems("path", c.Path)
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	oneOf := func(field, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			refuse(field, "use one of "+strings.Join(allowed, ", "), "%s must not be %q", field, value)
		}
	}
	oneOf("time_format", c.TimeFormat, "rfc3339", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
	oneOf("missing_time", c.MissingTime, "invalid", "read_time")
	oneOf("columns", c.Columns, "infer", columnsAdd, columnsStrict)
	oneOf("misfits", c.Misfits, "column", "invalid")
	c.validateColumns(refuse)
	units := catalog.Units()
	for i, u := range c.PartitionBy {
		if i >= len(units) || string(units[i]) != u {
			refuse("partition_by", `use the first levels of ["year", "month", "day", "hour"], in that order`, "partition_by has %q in place %d", u, i+1)
			break
		}
	}
	for _, name := range sortedKeys(c.Types) {
		declared, ok := parquet.ParseType(c.Types[name])
		if !ok {
			refuse("types", "use one of "+strings.Join(parquet.Declarable(), ", "), "types gives %q the type %q", name, c.Types[name])
		}
		if ok && name == c.TimeField && !slices.Contains(clockKinds, declared.Kind) {
			refuse("time_field", "declare a timestamp, or leave it out of types", "time_field is a column of type %s by types, which is no time", declared)
		}
		if declared.Kind == parquet.TimestampNs && c.iceberg() != nil {
			refuse("types", `use "timestamp_us" or "int64"`, "types gives %q the type %s, which Iceberg tables of version 2 do not have", name, declared)
		}
		for field, path := range map[string]string{"time_field": c.TimeField, "dedup_field": c.DedupField} {
			if path != "" && declared.Kind == parquet.JSON && (path == name || strings.HasPrefix(path, name+".")) {
				refuse(field, "declare another type, or none", "%s is in %q, which types makes text that is not looked into", field, name)
			}
		}
	}
	if c.TimeField != "" && c.TimeField == c.DedupField {
		refuse("dedup_field", "name a field with an id that no other event has", "dedup_field and time_field are both %q", c.DedupField)
	}
	if kind := c.Types[c.DedupField]; c.DedupField != "" && kind != "" && kind != "string" && kind != "int64" && kind != "uuid" {
		refuse("dedup_field", "use string, uuid or int64", "dedup_field is a column of type %s by types", kind)
	}
	between := func(field string, v, most int) {
		if v < 1 || v > most {
			refuse(field, "leave it out to use the default", "%s must be from 1 to %d, not %d", field, most, v)
		}
	}
	between("dedup_max_ids", c.DedupMaxIDs, mostBytes)
	between("positions_kept", c.PositionsKept, mostBytes)
	between("buffer_max_events", c.BufferMaxEvents, mostBytes)
	between("buffer_max_bytes", c.BufferMaxBytes, mostBytes)
	between("buffer_max_age_seconds", c.BufferMaxAgeSeconds, 24*3600)
	between("max_message_bytes", c.MaxMessageBytes, mostBytes)
	between("max_concurrent_batches", c.MaxConcurrentBatches, 1000)
	between("max_file_bytes", c.MaxFileBytes, mostBytes)
	between("max_open_partitions", c.MaxOpenPartitions, 100_000)
	between("max_depth", c.MaxDepth, mostDepth)
	between("max_columns", c.MaxColumns, mostColumns)
	c.validateTable(refuse)
	if c.Buffer != nil {
		ps = append(ps, c.Buffer.problems(c)...)
	} else if c.MaxMessageBytes > c.BufferMaxBytes {
		refuse("max_message_bytes", "lower max_message_bytes or raise buffer_max_bytes",
			"max_message_bytes (%d) must not be greater than buffer_max_bytes (%d)", c.MaxMessageBytes, c.BufferMaxBytes)
	}
	return ps
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c Config) layout() catalog.Layout {
	l := make(catalog.Layout, len(c.PartitionBy))
	for i, u := range c.PartitionBy {
		l[i] = catalog.Unit(u)
	}
	return l
}

// The taps of the decoder.
const (
	tapTime = iota
	tapID
)

func (c Config) decoding() parquet.Options {
	o := parquet.Options{MaxDepth: c.MaxDepth, MaxColumns: c.MaxColumns, Types: map[string]parquet.Type{}, Taps: []string{c.TimeField, c.DedupField}}
	for name, kind := range c.Types {
		o.Types[name], _ = parquet.ParseType(kind)
	}
	if kind := c.timeKind(); kind != parquet.Unknown {
		o.Expected = map[string]parquet.Kind{c.TimeField: kind}
	}
	o.Reserved = append(o.Reserved, c.PartitionBy...)
	o.Closed, o.Refuse = c.closed(), c.Misfits == "invalid"
	return o
}

// timeKind is the type of the column of the time field, unless it is declared or there
// already; Unknown where no timestamp keeps what the field has.
func (c Config) timeKind() parquet.Kind {
	if c.TimeField == "" {
		return parquet.Unknown
	}
	return map[string]parquet.Kind{"rfc3339": parquet.Timestamp, "epoch_s": parquet.TimestampS,
		"epoch_ms": parquet.TimestampMs, "epoch_us": parquet.TimestampUs}[c.TimeFormat]
}

// bufferPart is the part of the memory limit that the payloads of one write take at the most: what
// is made of them takes several times as much, in each write that is in progress.
const bufferPart = 32

func (c Config) limits() connector.Limits {
	if c.Buffer != nil {
		return c.Buffer.limits(c)
	}
	bytes := int(memorylimit.Share(int64(c.BufferMaxBytes), bufferPart, int64(min(c.MaxMessageBytes, c.BufferMaxBytes))))
	return connector.Limits{
		MaxBatchMessages: c.BufferMaxEvents, MaxBatchBytes: bytes, MaxMessageBytes: c.MaxMessageBytes,
		MaxConcurrentBatches: c.MaxConcurrentBatches, FlushPeriod: time.Duration(c.BufferMaxAgeSeconds) * time.Second,
	}
}
