package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/connector"
)

// Where the files are, from the root of the repository.
const (
	embeddedFile = "internal/reference/reference.json"
	pagesDir     = "docs/reference"
	schemaFile   = "docs/weir.schema.json"
)

// Generate makes every file of the reference from the connectors in set and the source
// below root. With write it writes them, and removes those it no longer makes; without,
// it only looks. The result names the files that are stale, slashed, from root.
func Generate(root string, set connector.Set, write bool) (stale []string, err error) {
	ps, err := Build(root, set)
	if err != nil {
		return nil, err
	}
	if err := guides(root, ps); err != nil {
		return nil, err
	}
	files, err := render(ps)
	if err != nil {
		return nil, err
	}
	left, err := leftovers(root, files)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		onDisk := filepath.Join(root, filepath.FromSlash(path))
		old, err := os.ReadFile(onDisk)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if err == nil && bytes.Equal(old, files[path]) {
			continue
		}
		stale = append(stale, path)
		if !write {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(onDisk), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(onDisk, files[path], 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
	}
	for _, path := range left {
		stale = append(stale, path)
		if !write {
			continue
		}
		if err := os.Remove(filepath.Join(root, filepath.FromSlash(path))); err != nil {
			return nil, fmt.Errorf("remove %s: %w", path, err)
		}
	}
	return stale, nil
}

// render is every file of the reference by its path.
func render(ps []Page) (map[string][]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(ps); err != nil {
		return nil, fmt.Errorf("write the embedded reference: %w", err)
	}
	s, err := schema(ps)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{embeddedFile: b.Bytes(), schemaFile: s, pagesDir + "/README.md": index(ps), metricsFile: metricsPage()}
	for _, p := range ps {
		path := pagesDir + "/" + fileOf(p)
		if _, twice := files[path]; twice {
			return nil, fmt.Errorf("two pages are %s: a kind has two connectors of one name", path)
		}
		files[path] = markdown(p)
	}
	return files, nil
}

// leftovers lists the Markdown files with our mark that are no longer made.
func leftovers(root string, files map[string][]byte) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(pagesDir)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", pagesDir, err)
	}
	var left []string
	for _, e := range entries {
		path := pagesDir + "/" + e.Name()
		if _, made := files[path]; made || !strings.HasSuffix(path, ".md") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if bytes.HasPrefix(src, []byte(mark)) {
			left = append(left, path)
		}
	}
	return left, nil
}
