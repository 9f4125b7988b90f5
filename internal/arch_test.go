// Package internal_test keeps the shape of the code: which package may import which, who
// may settle a message, which modules may be used at all. Each failure says what the rule
// is for and what to do.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/weirdata/weir"

// floor is a package's height: imports go down, never up, and sideways only where the
// package's row says so.
type floor int

const (
	words      floor = iota // what every other package speaks of; standard library only
	contracts               // what two packages that do not know each other agree on
	formats                 // languages and formats: pure, nothing is opened
	access                  // how other machines, and this one's files, are come to
	mechanisms              // what connectors and engines stand on
	leaves                  // one connector each; only internal/all imports one
	engines                 // what runs a pipeline; knows no connector
	settings                // what a config says, who is told of it, which connectors there are
	assembly                // what turns a config into running pipelines
	commands                // what a person calls
	program                 // the binary
	testing_                // suites and engines for tests; no product package imports one
	workshop                // commands of the workshop; nothing imports one
)

func (f floor) String() string {
	return [...]string{"words", "contracts", "formats", "access", "mechanisms", "connectors", "engines", "settings", "assembly", "commands", "program", "tests only", "workshop"}[f]
}

// place is a package's row: its floor, and which packages of its own floor it may import.
// Such an exception says that one really stands on the other; see TestExceptionsAreFew.
type place struct {
	floor  floor
	beside []string
}

// places names every package. A key that ends in /* stands for one level of packages.
var places = map[string]place{
	"internal/event":       {floor: words},
	"internal/fault":       {floor: words},
	"internal/garbage":     {floor: words},
	"internal/memorylimit": {floor: words},
	"internal/jsontext":    {floor: words},
	"internal/secret":      {floor: words},
	"internal/spelling":    {floor: words},
	"internal/wire":        {floor: words},

	"internal/queue":             {floor: contracts},
	"internal/queue/log":         {floor: contracts},
	"internal/blob":              {floor: contracts},
	"internal/meter":             {floor: contracts},
	"internal/workspace":         {floor: contracts},
	"internal/connector":         {floor: contracts, beside: []string{"internal/queue", "internal/workspace"}},
	"internal/machine/jsonvalue": {floor: contracts},

	"internal/snowplow":          {floor: formats},
	"internal/parquet":           {floor: formats},
	"internal/script":            {floor: formats},
	"internal/layout":            {floor: formats},
	"internal/lines":             {floor: formats},
	"internal/sqs":               {floor: formats},
	"internal/firehose":          {floor: formats},
	"internal/machine/jsonpath":  {floor: formats},
	"internal/queue/lease":       {floor: formats},
	"internal/runs":              {floor: formats},
	"internal/queue/partition":   {floor: formats},
	"internal/kinesis/aggregate": {floor: formats},

	"internal/condition":      {floor: mechanisms},
	"internal/controlplane":   {floor: mechanisms},
	"internal/machine":        {floor: mechanisms},
	"internal/gateway":        {floor: mechanisms},
	"internal/suppression":    {floor: mechanisms},
	"internal/failures":       {floor: mechanisms},
	"internal/checkpoint":     {floor: mechanisms},
	"internal/retry":          {floor: mechanisms},
	"internal/outage":         {floor: mechanisms},
	"internal/throttle":       {floor: mechanisms},
	"internal/otlp":           {floor: mechanisms},
	"internal/trace":          {floor: mechanisms, beside: []string{"internal/otlp"}},
	"internal/frontdoor":      {floor: mechanisms},
	"internal/api":            {floor: mechanisms},
	"internal/tap":            {floor: mechanisms},
	"internal/httpclient":     {floor: access},
	"internal/tlsconfig":      {floor: access},
	"internal/lambda":         {floor: mechanisms},
	"internal/kafka":          {floor: mechanisms},
	"internal/produce":        {floor: mechanisms},
	"internal/blob/directory": {floor: access},
	"internal/blob/remote":    {floor: access},
	"internal/blob/s3":        {floor: mechanisms},
	"internal/blob/gcs":       {floor: mechanisms},
	"internal/blob/azure":     {floor: mechanisms},
	"internal/blob/place":     {floor: mechanisms, beside: []string{"internal/blob/s3", "internal/blob/gcs", "internal/blob/azure"}},
	"internal/catalog":        {floor: mechanisms, beside: []string{"internal/blob/place"}},
	"internal/iceberg":        {floor: access},
	"internal/iceberg/*":      {floor: mechanisms},
	"internal/glue":           {floor: mechanisms},
	"internal/queue/log/disk": {floor: mechanisms},
	"internal/queue/rows":     {floor: mechanisms},
	"internal/queue/order":    {floor: mechanisms},
	"internal/queue/embedded": {floor: mechanisms, beside: []string{"internal/queue/log/disk", "internal/queue/rows"}},
	"internal/queue/postgres": {floor: mechanisms},
	"internal/cloud/*":        {floor: access},
	"internal/geo":            {floor: access},
	"internal/versioned":      {floor: access},
	"internal/usertransform":  {floor: mechanisms},
	"internal/trackingplan":   {floor: mechanisms},
	"internal/enrich":         {floor: mechanisms},
	"internal/kinesis/lease":  {floor: mechanisms},

	"internal/firehose/prefix": {floor: mechanisms},
	"internal/firehose/serde":  {floor: mechanisms},

	"internal/source/*":    {floor: leaves},
	"internal/transform/*": {floor: leaves},
	"internal/target/*":    {floor: leaves},
	"internal/store/*":     {floor: leaves},

	"internal/pipeline": {floor: engines},
	"internal/executor": {floor: engines},

	"internal/config":            {floor: settings},
	"internal/config/snowbridge": {floor: settings, beside: []string{"internal/config"}},
	"internal/all":               {floor: settings},
	"internal/report":            {floor: settings},
	"internal/lakesql":           {floor: settings},
	"internal/admin":             {floor: settings},
	"internal/console":           {floor: settings},

	"internal/app":       {floor: assembly},
	"internal/reference": {floor: assembly},
	"internal/pipetest":  {floor: assembly, beside: []string{"internal/app"}}, // the user's `weir test`, so no test-only package

	"internal/cli": {floor: commands},
	"cmd/weir":     {floor: program},

	"internal/addresstest":          {floor: testing_},
	"internal/chaos":                {floor: testing_},
	"internal/conntest":             {floor: testing_},
	"internal/queue/storetest":      {floor: testing_},
	"internal/blob/blobtest":        {floor: testing_},
	"internal/queue/log/logtest":    {floor: testing_},
	"internal/enginetest":           {floor: testing_},
	"internal/snowplow/sampletest":  {floor: testing_},
	"internal/otlp/otlptest":        {floor: testing_},
	"internal/cloud/gcp/pubsubtest": {floor: testing_},
	"internal/faultproxy":           {floor: testing_},

	"internal/testrun":            {floor: workshop, beside: nil},
	"internal/bench":              {floor: workshop},
	"internal/snowplow/gensample": {floor: workshop},
}

// importers lists who may import a package that not everybody above it may.
var importers = map[string][]string{
	"internal/all":             {"internal/cli"},
	"internal/cli":             {"cmd/weir"},
	"internal/queue/embedded":  {"internal/store/embedded", "internal/app", "internal/cli", "internal/bench"},
	"internal/queue/postgres":  {"internal/store/postgres", "internal/app", "internal/cli", "internal/bench"},
	"internal/queue/log/disk":  {"internal/queue/embedded"},
	"internal/queue/rows":      {"internal/queue/embedded"},
	"internal/queue/partition": {"internal/queue/rows", "internal/queue/postgres"},
}

// moduleUsers lists who may import a module (product code; tests may where they must).
var moduleUsers = map[string][]string{
	"github.com/jackc/pgx/v5": {"internal/queue/postgres", "internal/source/postgres", "internal/target/postgres", "internal/iceberg/sqlcatalog", "internal/enginetest", "internal/queue/storetest"},
}

// settlers may end a message's journey: the engine, and the suites that stand in for it.
var settlers = []string{"internal/event", "internal/pipeline", "internal/conntest"}

// vagueNames are names of folders that end up holding what has no better place.
var vagueNames = regexp.MustCompile(`^(base|common|core|helpers?|lib|misc|shared|tools?)$|(utils?|managers?)$`)

// longFiles may be longer than maxLines, each for the reason beside it.
var longFiles = map[string]string{}

const maxLines = 500

// sleepers are test files that let real time pass outside of a bubble, each for its reason.
var sleepers = map[string]string{
	"internal/source/kafka/rebalance_test.go":   "the cluster is in the process, but its connections are real, and no bubble holds them",
	"internal/target/kafka/transaction_test.go": "the same; faults come while messages move",
	"internal/faultproxy/tcp_test.go":           "connections are real, and so is their time",
	"internal/event/event_test.go":              "cleanups of the garbage collector run in real time",
	"internal/garbage/garbage_test.go":          "the same",
	"internal/queue/embedded/crash_test.go":     "a power failure comes at a moment that nothing in the store decides",
}

// file is one Go file of the tree.
type file struct {
	path      string // slashed, from the root
	dir       string
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
}

// tree is every Go file below the root, parsed, whatever its build constraints.
var tree = sync.OnceValues(func() ([]file, error) {
	var files []file
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != ".." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "tools") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(set, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", p, err)
		}
		rel, err := filepath.Rel("..", p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, file{
			path: rel, dir: path.Dir(rel), test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax),
			lines: set.File(syntax.FileStart).LineCount(), syntax: syntax,
		})
		return nil
	})
	return files, err
})

func parsed(t *testing.T) []file {
	t.Helper()
	files, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// imports are the paths f imports; a package of ours without the module's path in front.
func (f file) imports(t *testing.T) []string {
	t.Helper()
	paths := make([]string, len(f.syntax.Imports))
	for i, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", f.path, spec.Path.Value, err)
		}
		paths[i] = strings.TrimPrefix(p, module+"/")
	}
	return paths
}

func ours(p string) bool { return strings.HasPrefix(p, "internal/") || strings.HasPrefix(p, "cmd/") }

func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

func placeOf(dir string) (place, bool) {
	if p, ok := places[dir]; ok {
		return p, true
	}
	p, ok := places[path.Dir(dir)+"/*"]
	return p, ok
}

// forbidden says why a product file of from must not import to; empty when it may.
func forbidden(from, to string) string {
	f, _ := placeOf(from)
	t, ok := placeOf(to)
	if who, limited := importers[to]; ok && limited && !slices.Contains(who, from) {
		return fmt.Sprintf("only %s may import it", strings.Join(who, ", "))
	}
	switch {
	case !ok:
		return "" // TestEveryPackageHasItsPlace says so
	case slices.Contains(f.beside, to):
		return ""
	case t.floor == workshop:
		return "it is a command"
	case t.floor == testing_:
		if f.floor < testing_ {
			return "it is for tests only and must not be in the product"
		}
		return ""
	case t.floor == leaves:
		if from != "internal/all" {
			return "only internal/all imports a connector: what two connectors share belongs into a mechanism below them"
		}
		return ""
	case f.floor < t.floor:
		return fmt.Sprintf("imports go down, from %q to %q they go up: move what is needed down, or hand it in from above", f.floor, t.floor)
	case f.floor == t.floor && f.floor < testing_:
		return fmt.Sprintf("both are on the floor %q: hand it in from above, or list it beside the package's row in places if one really stands on the other", f.floor)
	}
	return ""
}

func TestImportsGoDown(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		if f.test {
			continue
		}
		for _, p := range f.imports(t) {
			if !ours(p) {
				continue
			}
			if why := forbidden(f.dir, p); why != "" {
				t.Errorf("%s imports %s: %s", f.path, p, why)
			}
		}
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		from, to string
		allowed  bool
	}{
		{"internal/event", "internal/fault", false},
		{"internal/fault", "internal/event", false},
		{"internal/connector", "internal/event", true},
		{"internal/event", "internal/connector", false},
		{"internal/retry", "internal/throttle", false},
		{"internal/target/http", "internal/connector", true},
		{"internal/target/http", "internal/target/file", false},
		{"internal/target/http", "internal/pipeline", false},
		{"internal/pipeline", "internal/target/http", false},
		{"internal/pipeline", "internal/conntest", false},
		{"internal/app", "internal/target/http", false},
		{"internal/all", "internal/target/http", true},
		{"internal/pipeline", "internal/all", false},
		{"internal/app", "internal/pipeline", true},
		{"internal/app", "internal/testrun", false},
		{"internal/testrun", "internal/enginetest", true},
		{"internal/target/http", "internal/queue/embedded", false},
		{"internal/app", "internal/queue/embedded", true},
	} {
		if why := forbidden(row.from, row.to); (why == "") != row.allowed {
			t.Errorf("forbidden(%s, %s) = %q, allowed should be %t", row.from, row.to, why, row.allowed)
		}
	}
}

// mostExceptions is how many packages may import one of their own floor: a higher number says
// that the floors are drawn wrong, not that there are more exceptions.
const mostExceptions = 7

func TestExceptionsAreFew(t *testing.T) {
	t.Parallel()
	var rows []string
	for name, p := range places {
		if len(p.beside) > 0 && p.floor < testing_ {
			rows = append(rows, name)
		}
		for _, to := range p.beside {
			if other, ok := placeOf(to); !ok || other.floor != p.floor {
				t.Errorf("%s names %s beside it, which is on no floor or another one", name, to)
			}
		}
	}
	if len(rows) > mostExceptions {
		slices.Sort(rows)
		t.Errorf("%d packages import one of their own floor, more than %d: %s", len(rows), mostExceptions, strings.Join(rows, ", "))
	}
}

func TestEveryPackageHasItsPlace(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	documented := map[string]bool{}
	for _, f := range parsed(t) {
		if f.test {
			continue
		}
		seen[f.dir] = true
		if f.syntax.Doc != nil {
			text := f.syntax.Doc.Text()
			want := "Package " + f.syntax.Name.Name + " "
			if f.syntax.Name.Name == "main" {
				want = "Command "
			}
			if !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment begins with %q, not %q", f.path, strings.SplitN(text, "\n", 2)[0], want)
			}
			if documented[f.dir] {
				t.Errorf("%s: a second package comment: one file says what the package is", f.path)
			}
			documented[f.dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(seen)) {
		if _, ok := placeOf(dir); !ok {
			t.Errorf("%s has no floor: add it to the table places in internal/arch_test.go, and to ARCHITECTURE.md", dir)
		}
		if vagueNames.MatchString(path.Base(dir)) {
			t.Errorf("%s: the name says where leftovers go, not what the package is: name it after the word of the domain it holds", dir)
		}
		if !documented[dir] {
			t.Errorf("%s has no package comment: say what it is, its format or protocol, its invariants", dir)
		}
	}
}

// connectorFiles are what the folder of every connector holds beside its code.
var connectorFiles = []string{"examples_minimal.hcl", "examples_full.hcl", "*_test.go"}

func TestConnectorsAreComplete(t *testing.T) {
	t.Parallel()
	listed, folders := map[string]bool{}, map[string]bool{}
	for _, f := range parsed(t) {
		if p, ok := placeOf(f.dir); ok && p.floor == leaves && !f.test {
			folders[f.dir] = true
		}
		if f.dir == "internal/all" && !f.test {
			for _, p := range f.imports(t) {
				listed[p] = true
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		if !listed[dir] {
			t.Errorf("%s is not listed in internal/all: nobody can use it", dir)
		}
		for _, pattern := range connectorFiles {
			found, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), pattern))
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				t.Errorf("%s has no %s: a connector comes with its tests and with an example of what it needs and of all it can", dir, pattern)
			}
		}
	}
}

func TestOnlyTheEngineSettles(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		if f.test || slices.Contains(settlers, f.dir) {
			continue
		}
		for _, spec := range f.syntax.Imports {
			if spec.Path.Value != strconv.Quote(module+"/internal/event") {
				continue
			}
			name := "event"
			if spec.Name != nil {
				name = spec.Name.Name
			}
			if name == "." {
				t.Errorf("%s imports internal/event with a dot: name it, so that its use can be seen", f.path)
			}
			for _, use := range selections(f.syntax, name, "Settle", "Unsplit") {
				t.Errorf("%s uses event.%s: only internal/pipeline ends a message's journey; return an error or an outcome instead", f.path, use)
			}
		}
	}
}

// ownHTTP are packages that may name net/http's own client, each for its reason.
var ownHTTP = map[string]string{
	"internal/httpclient": "it is the client",
	"internal/cloud/aws":  "the SDK makes its own with the authorities of AWS_CA_BUNDLE; here it gets limits, and follows no redirect",
	"internal/otlp":       "the exporters of OpenTelemetry want one of net/http's, which is made by httpclient",
}

// TestOneHTTPClient keeps redirects, private networks and limits one rule for all requests.
func TestOneHTTPClient(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		if f.test || p.floor >= testing_ || ownHTTP[f.dir] != "" || !slices.Contains(f.imports(t), "net/http") {
			continue
		}
		for _, use := range selections(f.syntax, "http", "Client", "Transport", "DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm") {
			t.Errorf("%s uses http.%s: make the client with internal/httpclient, whose rules hold for every request", f.path, use)
		}
	}
}

// TestOneListOfSecrets keeps the words that say secret in one place: a second list hides
// something else than the first.
func TestOneListOfSecrets(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		if f.dir == "internal/secret" || f.dir == "internal" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || !strings.Contains(lit.Value, "|") || strings.Contains(lit.Value, "\n") {
				return true
			}
			words := 0
			for _, w := range []string{"passw", "secret", "token", "cookie", "credential", "signature", "authorization"} {
				if strings.Contains(strings.ToLower(lit.Value), w) {
					words++
				}
			}
			if words > 1 {
				t.Errorf("%s has a list of its own of what is secret, %s: ask package secret", f.path, lit.Value)
			}
			return true
		})
	}
}

// TestSleepsAreInABubble keeps real time out of tests: one that sleeps runs in a package
// whose tests use synctest, where time is virtual, or waits for another process, for which
// it is not.
func TestSleepsAreInABubble(t *testing.T) {
	t.Parallel()
	bubbles := map[string]bool{}
	for _, f := range parsed(t) {
		if f.test && slices.Contains(f.imports(t), "testing/synctest") {
			bubbles[f.dir] = true
		}
	}
	for _, f := range parsed(t) {
		outside := slices.ContainsFunc(f.imports(t), func(p string) bool { return p == "os/exec" || p == "internal/enginetest" })
		if f.test && !outside && !bubbles[f.dir] && sleepers[f.path] == "" && len(selections(f.syntax, "time", "Sleep")) > 0 {
			t.Errorf("%s sleeps, and no test of %s uses testing/synctest: wait for what the test waits for, or put it into a bubble", f.path, f.dir)
		}
	}
}

// selections are the uses in syntax of one of the names of the package imported as pkg.
func selections(syntax *ast.File, pkg string, names ...string) []string {
	var uses []string
	ast.Inspect(syntax, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(names, s.Sel.Name) {
			uses = append(uses, s.Sel.Name)
		}
		return true
	})
	return uses
}

func TestSelections(t *testing.T) {
	t.Parallel()
	const src = "package p\nimport ev \"event\"\nvar f = ev.Settle\nfunc g() { ev.Settle(nil, nil); ev.Track(nil, nil); other.Settle() }"
	syntax, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := selections(syntax, "ev", "Settle"); len(got) != 2 {
		t.Errorf("found %v, want the value and the call", got)
	}
}

func TestFilesFitAReader(t *testing.T) {
	t.Parallel()
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		suite := p.floor == testing_ // reads like a test: one case after the other
		if f.test || suite || f.generated || f.lines <= maxLines || longFiles[f.path] != "" {
			continue
		}
		t.Errorf("%s has %d lines, more than %d: ask whether two ideas live in it", f.path, f.lines, maxLines)
	}
}
