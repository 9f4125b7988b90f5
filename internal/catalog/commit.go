package catalog

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	IDs    int       `json:"ids"`     // how many follow
	Sum    string    `json:"sum"`     // SHA-256 of the ids
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
}

// Commit makes f a part of the dataset. When it returns nil the file survives kill -9 and
// power loss. fresh is false when a file of that name was there already.
func (d *Dataset) Commit(f File) (fresh bool, err error) {
	fresh, err = d.commit(f)
	if err != nil {
		return false, classify(fmt.Errorf("commit %s%s to %s: %w", f.Name, suffix, filepath.Join(d.path, f.Partition), err))
	}
	return fresh, nil
}

func (d *Dataset) commit(f File) (fresh bool, err error) {
	home := filepath.Join(d.path, filepath.FromSlash(f.Partition))
	final := filepath.Join(home, f.Name+suffix)
	if _, err := os.Stat(final); err == nil {
		return false, d.settle(final) // committed before, perhaps by a process that was killed before step 4
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	staged, size, err := d.stage(f.Write)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(staged) // what cannot be removed now is at the next Open
		}
	}()
	d.step("staged")
	recFolder := filepath.Join(folder, records, filepath.FromSlash(f.Partition))
	if err := d.folder(recFolder); err != nil {
		return false, err
	}
	f.Record.Bytes = size
	if err := d.place(filepath.Join(recFolder, f.Name+recSuffix), f.Record.encode(f.IDs)); err != nil {
		return false, fmt.Errorf("write its record: %w", err)
	}
	d.step("recorded")
	if err := d.folder(filepath.FromSlash(f.Partition)); err != nil {
		return false, err
	}
	if err := os.Rename(staged, final); err != nil {
		return false, err
	}
	d.step("renamed")
	if err := syncFolder(home); err != nil {
		// Nobody knows whether the name would survive: the caller commits again.
		return false, errors.Join(fmt.Errorf("sync the folder: %w", err), os.Remove(final))
	}
	d.step("synced")
	return true, nil
}

// settle makes a file that is there survive power loss.
func (d *Dataset) settle(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncFolder(filepath.Dir(path)))
}

// stage writes a file into staging, durably.
func (d *Dataset) stage(write func(io.Writer) error) (path string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(d.path, folder, staging), "*.tmp")
	if err != nil {
		return "", 0, err
	}
	b := bufio.NewWriterSize(f, 1<<18)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	d.step("written")
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return "", 0, errors.Join(fmt.Errorf("write %s: %w", f.Name(), err), os.Remove(f.Name()))
	}
	return f.Name(), info.Size(), nil
}

// place writes a small file, relative to the dataset, so that it is there whole or not at all.
func (d *Dataset) place(name string, text []byte) error {
	staged, _, err := d.stage(func(w io.Writer) error { _, err := w.Write(text); return err })
	if err != nil {
		return err
	}
	final := filepath.Join(d.path, name)
	if err := os.Rename(staged, final); err != nil {
		return errors.Join(err, os.Remove(staged))
	}
	return syncFolder(filepath.Dir(final))
}

// folder makes a folder, relative to the dataset, that survives power loss.
func (d *Dataset) folder(name string) error {
	if name == "" || name == "." {
		return nil
	}
	d.foldersMu.Lock()
	defer d.foldersMu.Unlock()
	if d.folders[name] {
		if _, err := os.Stat(filepath.Join(d.path, name)); err == nil {
			return nil
		}
	}
	at := d.path
	for part := range strings.SplitSeq(name, string(filepath.Separator)) {
		above := at
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncFolder(above); err != nil {
			return err
		}
	}
	if len(d.folders) > maxFolders {
		clear(d.folders)
	}
	d.folders[name] = true
	return nil
}

// maxFolders is how many folders are remembered as synced.
const maxFolders = 4096

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

// readRecord reads the record of a file, with its ids when they are asked for.
func readRecord(path string, withIDs bool) (Record, []ID, error) {
	var r Record
	f, err := os.Open(path)
	if err != nil {
		return r, nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b := bufio.NewReader(f)
	head, err := b.ReadBytes('\n')
	if err != nil {
		return r, nil, fmt.Errorf("read %s: it ends within its first line", path)
	}
	if err := json.Unmarshal(head, &r); err != nil {
		return r, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !withIDs {
		return r, nil, nil
	}
	body, err := io.ReadAll(b)
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
