package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// A crawl finds the datasets in a folder that others write, and what their columns are, and adopts
// them: it describes each in its own _weir, beside files that it leaves as they are.
//
// What a dataset is, is decided by folders, never by how similar columns are: a folder with data
// files in it, or with folders called KEY=VALUE, or with numbers alone, such as 2026/11/29, is one.
// Everything else is a folder of datasets.
//
// The description comes last when a dataset is adopted, so that a crawl that dies has adopted
// nothing; later a new version of the schema is one object that is created, as ever.

// Policy is what a crawl does about columns that are not as they were.
type Policy string

// The policies.
const (
	Update Policy = "update" // the columns are those that the files have now
	Add    Policy = "add"    // new columns come, those that there are stay as they are
	Log    Policy = "log"    // nothing is written
)

// Policies are all of them.
func Policies() []string { return []string{string(Update), string(Add), string(Log)} }

// CrawlOptions are how a folder is crawled.
type CrawlOptions struct {
	Policy Policy
	DryRun bool
}

// Crawl is what was found in one dataset.
type Crawl struct {
	Path      string         `json:"path"`
	Own       bool           `json:"own,omitempty"` // Weir writes it: there is nothing to adopt
	New       bool           `json:"new,omitempty"`
	Format    string         `json:"format,omitempty"` // parquet or json
	Files     int            `json:"files"`
	More      int            `json:"files_more"` // that the last crawl did not see as they are
	Gone      int            `json:"files_gone"`
	Rows      int64          `json:"rows"`
	Bytes     int64          `json:"bytes"`
	Others    int            `json:"other_files,omitempty"`    // that are no data, by their names
	Malformed int64          `json:"malformed_rows,omitempty"` // of JSON lines that are no objects
	Keys      []Key          `json:"keys,omitempty"`
	Changes   []ColumnChange `json:"changes,omitempty"`
	Schema    int            `json:"schema_version"` // that is there now
	Written   bool           `json:"written"`
}

// ColumnChange is a column that is not as it was.
type ColumnChange struct {
	Column  string `json:"column"`
	Change  string `json:"change"` // added, changed or gone
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Applied bool   `json:"applied"` // the policy takes it over
}

// CrawlAll crawls the datasets in root, a folder or an address, and calls done with each. One that
// cannot be crawled does not keep the others from it.
func CrawlAll(ctx context.Context, root string, o CrawlOptions, done func(Crawl)) error {
	if !slices.Contains(Policies(), string(o.Policy)) {
		return fault.New(fault.Setup, fmt.Errorf("there is no policy %q: %s", o.Policy, strings.Join(Policies(), ", ")))
	}
	paths, err := foundIn(ctx, root)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fault.New(fault.Setup, fmt.Errorf("%s holds no data: no .parquet file, and no .json, .jsonl or .ndjson file, in it or up to %d folders deep", root, deepest))
	}
	var failed []error
	for _, path := range paths {
		c, err := crawlOne(ctx, path, o)
		if err != nil {
			failed = append(failed, fmt.Errorf("crawl %s: %w", path, err))
			continue
		}
		done(c)
	}
	return errors.Join(failed...)
}

// foundIn lists the folders in root that are datasets.
func foundIn(ctx context.Context, root string) (found []string, err error) {
	p, err := parse(root)
	if err != nil {
		return nil, err
	}
	if p.Local() {
		if _, err := os.Stat(root); err != nil {
			return nil, fault.New(fault.Setup, fmt.Errorf("look for data: %w", err))
		}
	}
	b, err := openToRead(ctx, root, noStore)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }() // only read
	var search func(folder string, depth int) error
	search = func(folder string, depth int) error {
		is, folders, err := isDataset(ctx, b, folder)
		switch {
		case err != nil:
			return fmt.Errorf("look for data in %s: %w", root, err)
		case is:
			found = append(found, atFolder(root, folder))
		case depth < deepest:
			for _, f := range folders {
				if err := search(f, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return found, search("", 1)
}

func atFolder(root, folder string) string {
	if folder == "" {
		return root
	}
	return at(strings.TrimSuffix(root, "/"), strings.TrimSuffix(folder, "/"))
}

// isDataset reports whether a folder is a dataset, or else what folders are in it.
func isDataset(ctx context.Context, b blob.Bucket, folder string) (is bool, folders []string, err error) {
	if _, err := b.Head(ctx, folder+description); err == nil {
		return true, nil, nil
	} else if !errors.Is(err, blob.ErrNotFound) {
		return false, nil, err
	}
	numbers, keyed := true, false
	for e, err := range blob.All(ctx, b, within(folder)) {
		name := base(e.Name)
		switch {
		case err != nil:
			return false, nil, err
		case hidden(name):
		case !e.Folder():
			if kindOfFile(name) != "" {
				return true, nil, nil
			}
		default:
			_, err := strconv.ParseUint(name, 10, 64)
			numbers = numbers && err == nil
			keyed = keyed || strings.Index(name, "=") > 0
			folders = append(folders, e.Name)
		}
	}
	return len(folders) > 0 && (numbers || keyed), folders, nil
}

// crawler crawls one dataset.
type crawler struct {
	reading
	result  Crawl
	version blob.Version    // of the description
	have    *parquet.Schema // before
	files   []blob.Info
	records []Record
	known   map[string]bool // records that there are
}

func crawlOne(ctx context.Context, path string, o CrawlOptions) (_ Crawl, err error) {
	b, err := openToRead(ctx, path, noStore)
	if err != nil {
		return Crawl{}, err
	}
	c := &crawler{reading: reading{path: path, bucket: b}, result: Crawl{Path: path}, known: map[string]bool{}}
	defer func() { err = errors.Join(err, b.Close()) }()
	c.about, c.version, err = readDescription(ctx, b, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.result.New = true
		c.about = dataset{Format: formatAlien, PartitionBy: Layout{}}
	case err != nil:
		return c.result, err
	case c.about.Adopted == nil:
		c.result.Own = true
		return c.result, nil
	}
	err = c.run(ctx, o)
	return c.result, err
}

func (c *crawler) run(ctx context.Context, o CrawlOptions) error {
	if err := c.look(ctx); err != nil {
		return err
	}
	newest, err := newestSchema(ctx, c.bucket, c.path)
	if err != nil {
		return err
	}
	if c.have = newest; c.result.New {
		c.have = &parquet.Schema{Version: newest.Version} // that of a crawl that died describes nothing
	}
	found, next, err := c.columns(ctx, o.Policy)
	if err != nil {
		return err
	}
	c.compare(found, next)
	c.result.Schema = c.have.Version
	if o.DryRun || o.Policy == Log {
		return nil
	}
	return c.write(ctx, next)
}

// look lists the files, and finds out what they are by their names.
func (c *crawler) look(ctx context.Context) error {
	kinds := map[string]int{}
	var list func(folder string) error
	list = func(folder string) error {
		for e, err := range blob.All(ctx, c.bucket, within(folder)) {
			switch name := base(e.Name); {
			case err != nil:
				return fmt.Errorf("list its files: %w", err)
			case hidden(name):
			case e.Folder():
				if err := list(e.Name); err != nil {
					return err
				}
			default:
				kinds[kindOfFile(name)]++
				c.files = append(c.files, e)
			}
		}
		return nil
	}
	if err := list(""); err != nil {
		return err
	}
	c.result.Others = kinds[""]
	want := parquetFiles
	if kinds[jsonFiles] > 0 {
		want = jsonFiles
	}
	if kinds[parquetFiles] > 0 && kinds[jsonFiles] > 0 {
		return fault.New(fault.Setup, fmt.Errorf("it has %d Parquet files and %d of JSON, which are not one dataset: move them to folders of their own, or crawl the folders that hold one kind", kinds[parquetFiles], kinds[jsonFiles]))
	}
	if a := c.about.Adopted; a != nil && kinds[want] > 0 && a.Files != want {
		return fault.New(fault.Setup, fmt.Errorf("it was adopted as a dataset of %s files, and has %s files now: remove %s to adopt it anew", a.Files, want, at(c.path, folder)))
	} else if a != nil {
		want = a.Files
	}
	c.files = slices.DeleteFunc(c.files, func(f blob.Info) bool { return kindOfFile(f.Name) != want })
	c.result.Format, c.result.Files = want, len(c.files)
	c.result.Keys = c.keys()
	c.about.Adopted = &Adopted{Files: want, Keys: c.result.Keys}
	return nil
}

// keys are the columns in the names of folders: those that there were, then new ones.
func (c *crawler) keys() (keys []Key) {
	if c.about.Adopted != nil {
		for _, k := range c.about.Adopted.Keys {
			keys = append(keys, Key{k.Name, parquet.Int})
		}
	}
	for _, f := range c.files {
		for _, k := range keysOf(f.Name) {
			i := slices.IndexFunc(keys, func(x Key) bool { return x.Name == k.name })
			if i < 0 {
				i = len(keys)
				keys = append(keys, Key{k.name, parquet.Int})
			}
			if k.value != nullPartition && !isNumber(k) {
				keys[i].Kind = parquet.String
			}
		}
	}
	return keys
}

// isNumber reports whether a folder is a number. One with zeros in front is it only where that is
// how times are written: "007" is somebody's name.
func isNumber(k folderKey) bool {
	n, err := strconv.ParseInt(k.value, 10, 64)
	if err != nil {
		return false
	}
	switch strings.ToLower(k.name) {
	case "year", "month", "day", "hour", "minute":
		return true
	}
	return strconv.FormatInt(n, 10) == k.value || strings.HasPrefix(k.name, bareKey)
}

// Differs reports whether something is not as the last crawl has described it.
func (c Crawl) Differs() bool {
	return c.New || c.More+c.Gone > 0 || slices.ContainsFunc(c.Changes, func(x ColumnChange) bool { return x.Applied })
}
