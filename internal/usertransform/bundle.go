package usertransform

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/evanw/esbuild/pkg/api"
)

const (
	// userModule is what a transformation is called in stack traces and messages.
	userModule = "transformation"
	entryName  = "weirTransformation"
	space      = "weir"
)

// entries are the functions that a module may export to be called, by the form of the call.
var entries = []string{"transformEvent", "transformBatch"}

// bundle is a module with what it imports as one script.
type bundle struct {
	text string
	from []byte // source map
	// batch says that the entry takes the events of a call together.
	batch bool
}

// bundled makes a script of a module of code version 1, whose libraries find names.
func bundled(code string, find func(name string) (text string, ok bool)) (bundle, error) {
	if strings.Contains(code, entryName) {
		return bundle{}, fmt.Errorf("the name %s is reserved: call it something else", entryName)
	}
	out, err := build("export * from '"+userModule+"'", code, find)
	if err != nil {
		return bundle{}, err
	}
	entry, err := entryOf(out.Metafile)
	if err != nil {
		return bundle{}, err
	}
	out, err = build(fmt.Sprintf("import {%s as weirCalled} from '%s'; export function %s(x) { return weirCalled(x, weirMetadata) }", entry, userModule, entryName), code, find)
	if err != nil {
		return bundle{}, err
	}
	b := bundle{batch: entry == entries[1]}
	for _, f := range out.OutputFiles {
		if strings.HasSuffix(f.Path, ".map") {
			b.from = f.Contents
		} else {
			b.text = string(f.Contents)
		}
	}
	var whole bool
	if b.text, whole = strings.CutSuffix(b.text, "export {\n  "+entryName+"\n};\n"); !whole {
		return bundle{}, errors.New("the code cannot be put together with its libraries: a name of the two is the same")
	}
	return b, nil
}

// entryOf is the function that is called, of those that a module exports.
func entryOf(metafile string) (string, error) {
	var meta struct {
		Outputs map[string]struct {
			Exports []string `json:"exports"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(metafile), &meta); err != nil {
		return "", fmt.Errorf("read what the code exports: %w", err)
	}
	var found []string
	for _, o := range meta.Outputs {
		for _, name := range o.Exports {
			if slices.Contains(entries, name) {
				found = append(found, name)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return slices.Index(entries, a) - slices.Index(entries, b) })
	if len(found) != 1 {
		return "", fmt.Errorf("Expected one of %s. Found %s: export exactly one of them", strings.Join(entries, ","), strings.Join(found, ","))
	}
	return found[0], nil
}

func build(entry, code string, find func(string) (string, bool)) (api.BuildResult, error) {
	plugin := api.Plugin{Name: "libraries", Setup: func(b api.PluginBuild) {
		b.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
			if a.Path == userModule && a.Namespace == "" || a.Path == userModule && a.Importer == "<stdin>" {
				return api.OnResolveResult{Path: userModule, Namespace: space}, nil
			}
			if _, ok := find(a.Path); !ok {
				return api.OnResolveResult{Errors: []api.Message{{Text: fmt.Sprintf("import from %s failed. Module not found.", a.Path)}}}, nil
			}
			return api.OnResolveResult{Path: a.Path, Namespace: space + "-library"}, nil
		})
		b.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: space}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
			return api.OnLoadResult{Contents: &code, Loader: api.LoaderJS}, nil
		})
		b.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: space + "-library"}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
			text, _ := find(a.Path)
			return api.OnLoadResult{Contents: &text, Loader: api.LoaderJS}, nil
		})
	}}
	out := api.Build(api.BuildOptions{
		Stdin: &api.StdinOptions{Contents: entry, Loader: api.LoaderJS}, Bundle: true, Format: api.FormatESModule,
		Target: api.ESNext, Platform: api.PlatformNeutral, Charset: api.CharsetUTF8, LegalComments: api.LegalCommentsNone, LogLevel: api.LogLevelSilent,
		Supported: notInGoja, Sourcemap: api.SourceMapExternal, SourcesContent: api.SourcesContentExclude, Outdir: "/", Metafile: true,
		Plugins: []api.Plugin{plugin}, AbsWorkingDir: "/",
	})
	if len(out.Errors) == 0 {
		return out, nil
	}
	e := out.Errors[0]
	if e.Location != nil && !strings.Contains(e.Text, "Module not found") {
		file := strings.TrimPrefix(strings.TrimPrefix(e.Location.File, space+"-library:"), space+":")
		return out, fmt.Errorf("SyntaxError: %s:%d:%d: %s", file, e.Location.Line, e.Location.Column+1, e.Text)
	}
	return out, errors.New(e.Text)
}

// notInGoja is the syntax that is written in other words, since the interpreter does not know it.
var notInGoja = map[string]bool{
	"async-generator": false, "for-await": false, "using": false, "import-meta": false, "top-level-await": false,
	"decorators": false, "regexp-set-notation": false, "regexp-match-indices": false, "import-attributes": false, "hashbang": false,
}

// camelCase is the name that a library is imported by.
func camelCase(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, w := range words {
		r := []rune(w)
		if strings.IndexFunc(w, unicode.IsLower) < 0 { // an abbreviation is a word as others are
			r = []rune(strings.ToLower(w))
		}
		if i == 0 {
			r[0] = unicode.ToLower(r[0])
		} else {
			r[0] = unicode.ToUpper(r[0])
		}
		words[i] = string(r)
	}
	return strings.Join(words, "")
}
