package catalog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/parquet"
)

// Record is what is known of a file without reading it.
type Record struct {
	Rows   int64     `json:"rows"`
	Bytes  int64     `json:"bytes"`   // of the file
	Events int64     `json:"events"`  // payload bytes that the rows were made from
	Schema int       `json:"schema"`  // version
	First  time.Time `json:"first"`   // earliest time of an event
	Last   time.Time `json:"last"`    // latest
	At     time.Time `json:"written"` // when the file was written
	// Seen is when a file of others was written that this was found out of: another one of the
	// name is another file.
	Seen time.Time `json:"seen,omitzero"`
	// Distinct is the field whose values occur once in the partition, this file and those
	// written before it; empty where nobody has looked.
	Distinct string `json:"distinct,omitempty"`
	IDs      int    `json:"ids"` // how many follow
	Sum      string `json:"sum"` // SHA-256 of the ids
}

// ID is the fingerprint of an event's id: the first 128 bits of its SHA-256.
type ID [16]byte

// File is a file to commit.
type File struct {
	Partition string // folder, with slashes, relative to the dataset
	Name      string // without its suffix; equal for equal content
	Record    Record // Bytes, IDs and Sum are filled in
	IDs       []ID
	Write     func(io.Writer) error
	// Summary, if set, says after Write what the file says of its columns.
	Summary func() *parquet.Summary
	// Encoded, if set, is called when Write has returned: what follows waits for the place of
	// the file and needs no processor.
	Encoded func()
}

// encode writes the data of the file.
func (f *File) encode(w io.Writer) error {
	counted := &counter{to: w}
	err := f.Write(counted)
	f.Record.Bytes = counted.n
	if f.Encoded != nil {
		f.Encoded()
	}
	return err
}

// Commit makes f a part of the dataset. When it returns nil the file survives kill -9 and
// power loss. fresh is false when a file of that name was there already.
func (d *Dataset) Commit(ctx context.Context, f File) (fresh bool, err error) {
	fresh, err = d.commit(ctx, f)
	if err != nil {
		return false, fmt.Errorf("commit %s%s to %s: %w", f.Name, suffix, at(d.path, f.Partition), err)
	}
	return fresh, nil
}

func (d *Dataset) commit(ctx context.Context, f File) (fresh bool, err error) {
	if d.follower != nil {
		return false, errors.New("files of a dataset with a table land by a plan")
	}
	name := fileName(f.Partition, f.Name)
	done, err := d.claim(ctx, name)
	if err != nil {
		return false, err
	}
	defer done()
	if _, err := d.bucket.Head(ctx, name); !errors.Is(err, blob.ErrNotFound) {
		return false, err // committed before, perhaps by a process that was not told
	}
	if _, err := d.bucket.Head(ctx, oldName(name)); !errors.Is(err, blob.ErrNotFound) {
		return false, err // and its rows are in another file since
	}
	return d.write(ctx, f, func() error { return nil })
}

// write creates the file and its record. Before the file is seen by anybody, ready says that
// it may be. fresh is false when it was there already.
func (d *Dataset) write(ctx context.Context, f File, ready func() error) (fresh bool, err error) {
	name := fileName(f.Partition, f.Name)
	w, err := d.bucket.Writer(ctx, name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Abort()) }() // nothing once it is committed
	if err := f.encode(w); err != nil {
		return false, err
	}
	if err := d.record(ctx, recordName(f.Partition, f.Name), f.Record.encode(f.IDs)); err != nil {
		return false, fmt.Errorf("write its record: %w", err)
	}
	d.step("recorded")
	if err := ready(); err != nil {
		return false, err
	}
	return d.finish(ctx, w, name)
}

// finish makes the file be there. fresh is false when it was there already.
func (d *Dataset) finish(ctx context.Context, w blob.Writer, name string) (fresh bool, err error) {
	switch err := w.Commit(ctx); {
	case err == nil:
		return true, nil
	case errors.Is(err, blob.ErrExists):
		return false, nil
	default:
		// The answer may have been lost: who is told of a failure writes the events again.
		if _, headErr := d.bucket.Head(context.WithoutCancel(ctx), name); headErr == nil {
			return true, nil
		}
		return false, err
	}
}

// writeBeside is write for a planned file of a store, where each request takes its time: the
// record is on its way beside the data. Neither counts before the plan is committed.
func (d *Dataset) writeBeside(ctx context.Context, f File, ready func() error) (err error) {
	name := fileName(f.Partition, f.Name)
	w, err := d.bucket.Writer(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Abort()) }() // nothing once it is committed
	if err := f.encode(w); err != nil {
		return err
	}
	recorded := make(chan error, 1)
	go func() { recorded <- d.record(ctx, recordName(f.Partition, f.Name), f.Record.encode(f.IDs)) }()
	if err = ready(); err == nil {
		_, err = d.finish(ctx, w, name)
	}
	if recErr := <-recorded; recErr != nil {
		err = errors.Join(err, fmt.Errorf("write its record: %w", recErr))
	}
	return err
}

// record writes the record of a file that is not there. A record that is was left by a commit
// that did not end.
func (d *Dataset) record(ctx context.Context, name string, text []byte) error {
	return createAnew(ctx, d.bucket, name, text)
}

// createAnew creates an object in place of one that counts for nothing.
func createAnew(ctx context.Context, b blob.Bucket, name string, text []byte) error {
	_, err := b.Create(ctx, name, text)
	if errors.Is(err, blob.ErrExists) {
		if err = b.Delete(ctx, name); err == nil {
			_, err = b.Create(ctx, name, text)
		}
	}
	return err
}

// counter counts what goes through it.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// encode is the record as it is in its file: a line of JSON, then the ids in order.
func (r Record) encode(ids []ID) []byte {
	body := make([]byte, 0, len(ids)*len(ID{}))
	for _, id := range sorted(ids) {
		body = append(body, id[:]...)
	}
	sum := sha256.Sum256(body)
	r.IDs, r.Sum = len(ids), hex.EncodeToString(sum[:])
	head, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("a record has a JSON form: %v", err))
	}
	return append(append(head, '\n'), body...)
}

// sorted is the ids in order. Fingerprints are spread evenly: each begins near its place.
func sorted(ids []ID) []ID {
	if len(ids) == 0 {
		return nil
	}
	near := func(id ID) int { return int(uint64(binary.BigEndian.Uint32(id[:])) * uint64(len(ids)) >> 32) }
	ends := make([]int, len(ids)+1)
	for _, id := range ids {
		ends[near(id)+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	out := make([]ID, len(ids))
	for _, id := range ids {
		k := near(id)
		out[ends[k]] = id
		ends[k]++ // the end of k, once all are placed
	}
	from := 0
	for _, end := range ends[:len(ids)] {
		if end-from > 1 {
			slices.SortFunc(out[from:end], func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
		}
		from = end
	}
	return out
}

// readRecord reads the record of the given name, with its ids when they are asked for.
// Errors call it by its path.
func readRecord(ctx context.Context, b blob.Bucket, name, path string, withIDs bool) (Record, []ID, error) {
	var r Record
	f, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return r, nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text := bufio.NewReader(f)
	head, err := text.ReadBytes('\n')
	if err != nil {
		return r, nil, fmt.Errorf("read %s: it ends within its first line", path)
	}
	if err := json.Unmarshal(head, &r); err != nil {
		return r, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !withIDs {
		return r, nil, nil
	}
	body, err := io.ReadAll(text)
	if err != nil {
		return r, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != r.Sum || len(body) != r.IDs*len(ID{}) {
		return r, nil, fmt.Errorf("read %s: the ids are damaged", path)
	}
	ids := make([]ID, r.IDs)
	for i := range ids {
		copy(ids[i][:], body[i*len(ID{}):])
	}
	return r, ids, nil
}
