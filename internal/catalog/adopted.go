package catalog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// Adopted says of a dataset that others write its files: whatever files of its kind are in its
// folder belong to it, and a crawl (crawl.go) has found out what their columns are.
type Adopted struct {
	Files string `json:"files"` // parquet or json
	Keys  []Key  `json:"keys,omitempty"`
}

// The kinds of files that can be adopted.
const (
	parquetFiles = "parquet"
	jsonFiles    = "json"
)

// Key is a column whose values are in the names of folders: KEY=VALUE, or VALUE alone, which
// is then called partition_0, partition_1 and so on by its depth.
type Key struct {
	Name string       `json:"name"`
	Kind parquet.Kind `json:"type"` // int64 or string
}

// depth is how deep the folder lies whose name is a value alone; -1 for KEY=VALUE.
func (k Key) depth() int {
	digits, ok := strings.CutPrefix(k.Name, bareKey)
	if n, err := strconv.Atoi(digits); ok && err == nil {
		return n
	}
	return -1
}

const bareKey = "partition_"

// folderKey is the name of a folder as a column.
type folderKey struct{ name, value string }

// nullPartition is what Hive calls the folder of rows without a value.
const nullPartition = "__HIVE_DEFAULT_PARTITION__"

// keysOf are the columns in the folders of a file.
func keysOf(name string) (out []folderKey) {
	dir := folderOf(name)
	if dir == "." {
		return nil
	}
	for i, part := range strings.Split(dir, "/") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			key, value = fmt.Sprintf("%s%d", bareKey, i), part
		}
		for _, text := range []*string{&key, &value} {
			if plain, err := url.PathUnescape(*text); err == nil {
				*text = plain
			}
		}
		out = append(out, folderKey{key, value})
	}
	return out
}

// kindOfFile is what a file is by its name; "" when it is no data.
func kindOfFile(name string) string {
	name = strings.ToLower(base(name))
	switch path.Ext(name) {
	case suffix, ".parq", ".pq":
		return parquetFiles
	case ".gz", ".zst", ".zstd":
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	switch path.Ext(name) {
	case ".json", ".jsonl", ".ndjson":
		return jsonFiles
	}
	return ""
}

// data reports whether a file is data of the dataset, by its name.
func (d reading) data(name string) bool {
	if d.about.Adopted == nil {
		return strings.HasSuffix(name, suffix)
	}
	return kindOfFile(name) == d.about.Adopted.Files && !hidden(base(name))
}

// isJSON reports whether a file is JSON lines.
func (d reading) isJSON(name string) bool {
	return d.about.Adopted != nil && d.about.Adopted.Files == jsonFiles && kindOfFile(name) == jsonFiles
}

// notOwn refuses to change what others write.
func notOwn(path string) error {
	return fault.New(fault.Setup, fmt.Errorf("the files of %s are written by others, and were adopted by weir lake crawl: nothing is changed in it; weir lake rewrite makes it a dataset of Weir's own", path))
}

// reader opens a data file for its rows, whatever its format is.
func (d reading) reader(ctx context.Context, file blob.Info) (*parquet.Reader, error) {
	if d.isJSON(file.Name) {
		return d.unfold(ctx, file)
	}
	data, err := d.open(ctx, file)
	if err != nil {
		return nil, err
	}
	return parquet.NewReader(at(d.path, file.Name), data, file.Size)
}

const (
	// longestLine is the most bytes of a line of JSON.
	longestLine = 64 << 20
	// unfoldedRows is how many bytes of JSON become one row group.
	unfoldedRows = 32 << 20
	// malformed is the field of what a file of JSON lines holds that is no object.
	malformed = "_malformed"
)

// asAdopted is how adopted JSON becomes columns.
var asAdopted = parquet.Options{MaxDepth: 200, MaxColumns: 5000}

// jsonLines opens a file of JSON lines, packed or not.
func (d reading) jsonLines(ctx context.Context, file blob.Info) (io.ReadCloser, error) {
	data, err := d.open(ctx, file)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(data, 0, file.Size), 1<<20)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, data.Close())
	}
	var text io.Reader = in
	closer := data.Close
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		text, err = gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1)); err == nil {
			text, closer = z, func() error { z.Close(); return data.Close() }
		}
	default:
		err = nil
	}
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{text, closing(closer)}, nil
}

type closing func() error

func (c closing) Close() error { return c() }

// eachObject calls f with each object of a file of JSON lines: one a line, or several behind each
// other on one, as Firehose writes them. What is no object becomes one with its text in the field
// malformed, so that nothing of the file is left out; bad counts those, and those that f refuses.
func (d reading) eachObject(ctx context.Context, file blob.Info, f func(object []byte) error) (rows, bad int64, err error) {
	in, err := d.jsonLines(ctx, file)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", at(d.path, file.Name), err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 1<<20), longestLine)
	give := func(object []byte) error {
		rows++
		err := f(object)
		if err == nil || !isInvalid(err) {
			return err
		}
		bad++
		return f(wrapped(object))
	}
	for number := 0; lines.Scan(); number++ {
		if number%1024 == 0 && ctx.Err() != nil {
			return rows, bad, context.Cause(ctx)
		}
		line := lines.Bytes()
		if number == 0 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		for s := jsontext.Scan(line); s.Next() != 0; {
			start := s.At
			if line[start] == '{' && s.Value() {
				err = give(line[start:s.At])
			} else {
				bad++
				rows++
				err, s.At = f(wrapped(line[start:])), len(line)
			}
			if err != nil {
				return rows, bad, fmt.Errorf("read %s, line %d: %w", at(d.path, file.Name), number+1, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return rows, bad, fmt.Errorf("read %s: %w", at(d.path, file.Name), err)
	}
	return rows, bad, nil
}

// isInvalid reports whether an object was refused for what it is.
func isInvalid(err error) bool { return fault.Of(err) == fault.Invalid }

// wrapped is text as the object that stands for it.
func wrapped(text []byte) []byte {
	out := append([]byte(nil), `{"`+malformed+`":`...)
	return append(jsontext.AppendString(out, string(bytes.ToValidUTF8(text, []byte("\uFFFD")))), '}')
}

// temporary is a file that goes when it is closed.
type temporary struct{ *os.File }

func (t temporary) Close() error { return errors.Join(t.File.Close(), os.Remove(t.Name())) }

// unfold makes a temporary Parquet file of a file of JSON lines: with the columns that the dataset
// has, and those that the file has beyond them.
func (d reading) unfold(ctx context.Context, file blob.Info) (_ *parquet.Reader, err error) {
	schema := d.schema
	if schema == nil {
		schema = &parquet.Schema{}
	}
	decoder := parquet.NewDecoder(schema, asAdopted)
	if _, _, err := d.eachObject(ctx, file, decoder.Decode); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "weir-lake-*"+suffix)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at(d.path, file.Name), err)
	}
	out := temporary{f}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	w, err := parquet.NewWriter(out, decoder.Schema(), nil)
	if err != nil {
		return nil, err
	}
	rows := parquet.NewRows()
	defer func() { rows.Release() }()
	_, _, err = d.eachObject(ctx, file, func(object []byte) error {
		if err := decoder.Decode(object); err != nil {
			return err
		}
		rows.Append(decoder)
		if rows.Bytes() >= unfoldedRows {
			w.Write(rows)
			rows.Release()
			rows = parquet.NewRows()
		}
		return nil
	})
	if rows.Len() > 0 {
		w.Write(rows)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	size, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return parquet.NewReader(at(d.path, file.Name), out, size)
}

// values are those of the keys in the folders of a file: whole numbers, texts, or nil.
func (a *Adopted) values(name string) []any {
	out := make([]any, len(a.Keys))
	for _, k := range keysOf(name) {
		i := slices.IndexFunc(a.Keys, func(x Key) bool { return x.Name == k.name })
		if i < 0 || k.value == nullPartition {
			continue
		}
		out[i] = k.value
		if n, err := strconv.ParseInt(k.value, 10, 64); err == nil && a.Keys[i].Kind == parquet.Int {
			out[i] = n
		}
	}
	return out
}
