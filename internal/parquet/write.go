package parquet

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const magic = "PAR1"

// SchemaKey is the key of a file's metadata that holds its [Schema] as JSON.
const SchemaKey = "weir.schema"

// tools is what writing a file needs and the next file can use again. It is costly to make,
// above all the compressors.
type tools struct {
	fast, thorough *zstd.Encoder
	page           []byte // the page that is made
	packed         []byte // and compressed
	sample         []byte
	runs           []byte
	levels         levels
	dictionary     dictionary
	scratch        scratch
}

// idle are tools that nobody uses, at most one for each processor.
var idle = make(chan *tools, runtime.GOMAXPROCS(0))

// keep is the most bytes of a page that idle tools hold on to.
const keep = 8 * pageBytes

func takeTools() *tools {
	select {
	case t := <-idle:
		return t
	default:
		return &tools{fast: compressor(zstd.SpeedFastest), thorough: compressor(zstd.SpeedDefault)}
	}
}

func (t *tools) release() {
	if cap(t.page)+cap(t.packed)+cap(t.scratch.packed) > keep || cap(t.levels.def)+cap(t.levels.rep)+4*cap(t.dictionary.index)+4*cap(t.scratch.lengths) > keep {
		return
	}
	t.levels.way = nil
	select {
	case idle <- t:
	default:
	}
}

// compressor is a zstd encoder that looks back as far as a page is long, and shortens what has
// no matches by its letters: the fast one would leave that out.
func compressor(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(pageBytes), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// Write writes a file of the rows, with a column for every field of s, which must be the
// schema of the decoder the rows came from or a later one. metadata is added to the file's.
func (r *Rows) Write(w io.Writer, s *Schema, metadata map[string]string) error {
	_, err := r.write(w, s, metadata, nil)
	return err
}

// WriteTable is Write for a file of a table that tells columns by ids: ids has that of every
// column, group and list element of s, by its [FullName]. It also says what is in the file.
// Columns of any JSON are plain text there, as the table has it.
func (r *Rows) WriteTable(w io.Writer, s *Schema, ids map[string]int32) (*Summary, error) {
	if ids == nil {
		ids = map[string]int32{}
	}
	return r.write(w, s, nil, ids)
}

func (r *Rows) write(w io.Writer, s *Schema, metadata map[string]string, ids map[string]int32) (*Summary, error) {
	f, err := newWriter(w, s, metadata, ids)
	if err != nil {
		return nil, err
	}
	f.Write(r)
	if err := f.Close(); err != nil || ids == nil {
		return nil, err
	}
	return summaryOf(&f.f.meta)
}

// Writer writes a file of several row groups.
type Writer struct {
	f      *fileWriter
	fields []*Field
}

// NewWriter begins a file with a column for every field of s.
func NewWriter(w io.Writer, s *Schema, metadata map[string]string) (*Writer, error) {
	return newWriter(w, s, metadata, nil)
}

func newWriter(w io.Writer, s *Schema, metadata map[string]string, ids map[string]int32) (*Writer, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	f := &fileWriter{w: w, ids: ids, tools: takeTools()}
	f.write([]byte(magic))
	f.meta = format.FileMetaData{
		Version: 1, CreatedBy: "weir",
		KeyValueMetadata: thrift.Slice[format.KeyValue]{{Key: SchemaKey, Value: string(text)}},
	}
	for k, v := range metadata {
		f.meta.KeyValueMetadata = append(f.meta.KeyValueMetadata, format.KeyValue{Key: k, Value: v})
	}
	return &Writer{f, s.Columns()}, nil
}

// Write writes the rows as the next row group. Close says what went wrong.
func (w *Writer) Write(r *Rows) {
	f := w.f
	f.rows, f.chunks, f.total, f.described = r.n, nil, 0, len(f.meta.RowGroups) > 0
	start := f.at
	f.element("weir", nil, len(w.fields), "")
	f.fields(w.fields, chain{{c: r.root, kind: Object}}, nil, "")
	f.endGroup(start)
}

// Close ends the file, and the use of w.
func (w *Writer) Close() error {
	if len(w.f.meta.RowGroups) == 0 {
		w.Write(&Rows{root: &column{}})
	}
	err := w.f.finish()
	w.f.release()
	return err
}

// Columns are the fields at the top that have a column in every file: of events without any
// field one that is always null, since readers want a column to count.
func (s *Schema) Columns() []*Field {
	if fields := columnsOf(s.Fields); len(fields) > 0 {
		return fields
	}
	return []*Field{{Name: "_", Kind: Bool}}
}

// columnsOf are the fields that have a column.
func columnsOf(fields []*Field) []*Field {
	out := make([]*Field, 0, len(fields))
	for _, f := range fields {
		if f.Kind != Unknown {
			out = append(out, f)
		}
	}
	return out
}

// fileWriter writes one file. The first error of the output stays.
type fileWriter struct {
	w         io.Writer
	rows      int  // of the row group
	described bool // the schema is complete
	at        int64
	err       error
	meta      format.FileMetaData
	ids       map[string]int32 // of the columns, by full name; nil: they have none
	chunks    thrift.Slice[format.ColumnChunk]
	total     int64         // bytes of the row group before compression
	zstd      *zstd.Encoder // of the column that is written; nil until a page shows which is right
	*tools
}

// chain is the way from the top to a leaf: what levels are made of.
type chain []link

type link struct {
	c    *column // nil when no row has anything of it
	kind Kind
}

func (f *fileWriter) write(p []byte) {
	if f.err != nil {
		return
	}
	n, err := f.w.Write(p)
	f.at += int64(n)
	f.err = err
}

// fields writes the columns of a group and their part of the schema.
func (f *fileWriter) fields(fields []*Field, up chain, path []string, full string) {
	for _, x := range columnsOf(fields) {
		f.field(x, x.Name, up, append(slices.Clip(path), x.Name), FullName(full, x.Name))
	}
}

func (f *fileWriter) field(x *Field, name string, up chain, path []string, full string) {
	var c *column
	if parent := up[len(up)-1]; parent.c != nil {
		if place := x.columnPlace(parent); place >= 0 && place < len(parent.c.kids) {
			if c = parent.c.kids[place]; c != nil && c.field == nil {
				c = nil
			}
		}
	}
	way := append(slices.Clip(up), link{c, x.Kind})
	switch x.Kind {
	case Object:
		f.element(name, x, len(columnsOf(x.Fields)), full)
		f.fields(x.Fields, way, path, full)
	case List:
		f.element(name, x, 1, full)
		if !f.described {
			f.meta.Schema = append(f.meta.Schema, format.SchemaElement{
				Name: "list", RepetitionType: thrift.New(format.Repeated), NumChildren: thrift.New(int32(1))})
		}
		f.field(x.Elem, Element, way, append(slices.Clip(path), "list", Element), FullName(full, Element))
	default:
		f.element(name, x, 0, full)
		if f.err == nil {
			f.leaf(x, way, path)
		}
	}
}

// columnPlace is the place of f among the columns of its parent. The schema that is written
// and the one that the rows were decoded with are different trees: the name joins them.
func (f *Field) columnPlace(parent link) int {
	if parent.kind == List {
		return 0
	}
	for i, k := range parent.c.kids {
		if k != nil && k.field != nil && k.field.Name == f.Name {
			return i
		}
	}
	return -1
}

// element adds one node to the file's schema; a nil field is the top.
func (f *fileWriter) element(name string, x *Field, kids int, full string) {
	if f.described {
		return
	}
	e := format.SchemaElement{Name: name}
	if x != nil {
		e.RepetitionType = thrift.New(format.Optional)
	}
	if x == nil || kids > 0 {
		e.NumChildren = thrift.New(int32(kids))
	}
	if x != nil {
		kind := x.Kind
		if f.ids != nil {
			if e.FieldID = f.ids[full]; e.FieldID == 0 && f.err == nil {
				f.err = fmt.Errorf("write column %s: the table has no id for it", full)
			}
			if kind == JSON {
				kind = String
			}
		}
		annotate(&e, x, kind)
	}
	f.meta.Schema = append(f.meta.Schema, e)
}

func annotate(e *format.SchemaElement, x *Field, k Kind) {
	if k < Object || x.Width > 0 {
		e.Type = thrift.New(physical(x))
	}
	switch k {
	case String:
		e.ConvertedType = thrift.New(deprecated.UTF8)
		e.LogicalType.Value = &format.StringType{}
	case JSON:
		e.ConvertedType = thrift.New(deprecated.Json)
		e.LogicalType.Value = &format.JsonType{}
	case Timestamp, TimestampS, TimestampMs, TimestampUs:
		e.ConvertedType = thrift.New(deprecated.TimestampMicros)
		e.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}
	case TimestampNs:
		e.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.NanoSeconds{}}}
	case LocalTime:
		e.LogicalType.Value = &format.TimestampType{Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}
	case Date:
		e.ConvertedType = thrift.New(deprecated.Date)
		e.LogicalType.Value = &format.DateType{}
	case UUID:
		e.TypeLength = thrift.New(int32(x.Width))
		e.LogicalType.Value = &format.UUIDType{}
	case Decimal:
		e.ConvertedType, e.Scale, e.Precision = thrift.New(deprecated.Decimal), thrift.New(int32(x.Scale)), thrift.New(int32(x.Digits))
		e.LogicalType.Value = &format.DecimalType{Scale: int32(x.Scale), Precision: int32(x.Digits)}
		if physical(x) == format.FixedLenByteArray {
			e.TypeLength = thrift.New(int32(x.Width))
		}
	case List:
		e.ConvertedType = thrift.New(deprecated.List)
		e.LogicalType.Value = &format.ListType{}
	}
}

// physical is the type of the values of f in a file.
func physical(f *Field) format.Type {
	switch f.Kind {
	case Bool:
		return format.Boolean
	case Double:
		return format.Double
	case String, JSON:
		return format.ByteArray
	}
	switch f.Width {
	case 0, 8:
		return format.Int64
	case 4:
		return format.Int32
	}
	return format.FixedLenByteArray
}

// endGroup adds the row group, which begins at start, to the footer.
func (f *fileWriter) endGroup(start int64) {
	size := int64(0)
	for i := range f.chunks {
		size += f.chunks[i].MetaData.TotalCompressedSize
	}
	f.meta.NumRows += int64(f.rows)
	f.meta.RowGroups = append(f.meta.RowGroups, format.RowGroup{
		Columns: f.chunks, NumRows: int64(f.rows), TotalByteSize: f.total, TotalCompressedSize: size, FileOffset: start,
		Ordinal: int16(len(f.meta.RowGroups)),
	})
}

func (f *fileWriter) finish() error {
	f.meta.ColumnOrders = make([]format.ColumnOrder, len(f.chunks))
	for i := range f.meta.ColumnOrders {
		f.meta.ColumnOrders[i].Value = &format.TypeDefinedOrder{}
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &f.meta)
	if err != nil {
		return fmt.Errorf("write the footer: %w", err)
	}
	f.write(footer)
	f.write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))), magic...))
	return f.err
}

// pageBytes is about how many bytes of values a page holds.
const pageBytes = 1 << 20

// leaf writes the pages of one column.
func (f *fileWriter) leaf(x *Field, way chain, path []string) {
	c := way[len(way)-1].c
	if c == nil {
		c = &column{field: x, kind: x.Kind}
	}
	if c.kind == Int && x.Kind == Double { // widened after its last value
		c.widenTo(Double)
	}
	l := &f.levels
	l.of(way, f.rows)
	v := newValues(x, c, &f.dictionary, &f.scratch)
	f.zstd = nil
	chunk := format.ColumnMetaData{
		Type: v.physical, PathInSchema: path, Codec: format.Zstd, NumValues: int64(l.n),
		Encoding: thrift.Slice[format.Encoding]{format.RLE, v.encoding}, Statistics: v.statistics(int64(l.n - v.n)),
	}
	start := f.at
	if v.encoding == format.RLEDictionary {
		chunk.Encoding = append(chunk.Encoding, format.Plain)
		chunk.DictionaryPageOffset = f.at
		f.page = v.dictionary(f.page[:0])
		f.put(&chunk, &format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{
			NumValues: int32(len(v.d.distinct)), Encoding: format.Plain})})
	}
	chunk.DataPageOffset = f.at
	for first, value := 0, 0; ; {
		last, values := l.cut(first, v.perPage())
		f.data(&chunk, l, first, last, &v, value, value+values)
		if value += values; last >= l.n {
			break
		}
		first = last
	}
	chunk.TotalCompressedSize = f.at - start
	f.total += chunk.TotalUncompressedSize
	f.chunks = append(f.chunks, format.ColumnChunk{MetaData: chunk})
}

// data writes one data page: the levels from first to last, the values from a to b.
func (f *fileWriter) data(chunk *format.ColumnMetaData, l *levels, first, last int, v *values, a, b int) {
	page := f.page[:0]
	if l.maxRep > 0 {
		page = f.levelRuns(page, l.rep[first:last], l.maxRep)
	}
	if l.full {
		page = oneRun(page, last-first, l.maxDef)
	} else {
		page = f.levelRuns(page, l.def[first:last], l.maxDef)
	}
	page, err := v.encode(page, a, b)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("encode column %v: %w", chunk.PathInSchema, err)
	}
	f.page = page
	f.put(chunk, &format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{
		NumValues: int32(last - first), Encoding: v.encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		Statistics: format.Statistics{NullCount: int64(last - first - (b - a))},
	})})
}

// oneRun appends n times the same level, with the length before it.
func oneRun(page []byte, n int, level uint8) []byte {
	at := len(page)
	page = binary.AppendUvarint(append(page, 0, 0, 0, 0), uint64(n)<<1)
	page = append(page, level)
	binary.LittleEndian.PutUint32(page[at:], uint32(len(page)-at-4))
	return page
}

// levelRuns appends levels, with their length before them.
func (f *fileWriter) levelRuns(page []byte, l []uint8, highest uint8) []byte {
	e := rle.Encoding{BitWidth: bitWidth(int(highest))}
	at := len(page)
	packed, err := e.EncodeLevels(f.runs, l)
	f.runs = packed
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("encode levels: %w", err)
	}
	page = append(append(page, 0, 0, 0, 0), packed...)
	binary.LittleEndian.PutUint32(page[at:], uint32(len(packed)))
	return page
}

// put compresses and writes the page in f.page.
func (f *fileWriter) put(chunk *format.ColumnMetaData, h *format.PageHeader) {
	if len(f.page) > math.MaxInt32 && f.err == nil {
		f.err = fmt.Errorf("a page of column %v has %d bytes, more than a file can hold", chunk.PathInSchema, len(f.page))
	}
	f.packed = f.compressorFor(f.page).EncodeAll(f.page, f.packed[:0])
	h.UncompressedPageSize, h.CompressedPageSize = int32(len(f.page)), int32(len(f.packed))
	header, err := thrift.Marshal(new(thrift.CompactProtocol), h)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("write a page header: %w", err)
	}
	chunk.TotalUncompressedSize += int64(len(header) + len(f.page))
	f.write(header)
	f.write(f.packed)
}

// A page from worthwhile bytes on is compressed fast where the thorough way gains less than
// a fiftieth on a sample of it: it takes three times as long to find matches that are not
// there, as in a column of random ids.
const (
	worthwhile  = 96 << 10
	sampleBytes = 32 << 10
)

// compressorFor is the compressor for a page; the first large one of a column decides for all.
func (f *fileWriter) compressorFor(page []byte) *zstd.Encoder {
	if len(page) < worthwhile {
		return f.thorough
	}
	if f.zstd == nil {
		middle := (len(page) - sampleBytes) / 2
		sample := page[middle : middle+sampleBytes]
		f.sample = f.thorough.EncodeAll(sample, f.sample[:0])
		best := len(f.sample)
		f.sample = f.fast.EncodeAll(sample, f.sample[:0])
		if f.zstd = f.thorough; len(f.sample) <= best+best/50 {
			f.zstd = f.fast
		}
	}
	return f.zstd
}

// bitWidth is how many bits numbers up to highest need.
func bitWidth(highest int) int {
	n := 0
	for ; highest > 0; highest >>= 1 {
		n++
	}
	return n
}
