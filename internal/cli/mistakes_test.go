//go:build unix

package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/cli"
)

// TestEveryKindOfConfigMistake: check finds each with its file, line and fix, run refuses it in
// the same words, and nothing is read or written.
func TestEveryKindOfConfigMistake(t *testing.T) {
	t.Parallel()
	use := func(block, name, options string) string {
		return block + " {\n  use \"" + name + "\" {\n" + options + "\n  }\n}\n"
	}
	for name, test := range map[string]struct{ config, want string }{
		"no such source":       {use("source", "stdn", ""), `p.hcl:2:7: error: unknown source: stdn`},
		"no such transform":    {use("transform", "jss", ""), `p.hcl:2:7: error: could not interpret transformation configuration for "jss"`},
		"no such target":       {use("target", "stdot", ""), `p.hcl:2:7: error: unknown target: stdot`},
		"no such option":       {use("target", "stdout", "data_only = true"), `p.hcl:3:1: error: unknown option: data_only`},
		"wrong type":           {use("target", "stdout", "data_only_output = \"perhaps\""), `p.hcl:3:20: error: data_only_output must be`},
		"missing option":       {use("target", "http", ""), `p.hcl:2:3: error: .*url`},
		"out of range":         {use("target", "silent", "batching {\nmax_batch_messages = 0\n}"), `p.hcl:4:22: error: .*max_batch_messages must be at least 1`},
		"contradiction":        {use("target", "stdout", "batching {\nmax_message_bytes = 2000000\n}"), `p.hcl:\d+:\d+: error: .*max_message_bytes \(2000000\) must not be greater than max_batch_bytes`},
		"not a URL":            {use("target", "http", "url = \"somewhere\""), `p.hcl:3:7: error: .*invalid url for HTTP target: 'somewhere'`},
		"not an address":       {use("source", "http", "url = \"http://0.0.0.0:80\""), `p.hcl:3:7: error: .*it has a scheme`},
		"no header name":       {use("target", "http", "url = \"http://x\"\nheaders = { \"a b\" = \"c\" }"), `p.hcl:4:\d+: error: .*not a valid HTTP header`},
		"rule without meaning": {use("target", "http", "url = \"http://x\"\nresponse_rules {\nrule {\ntype = \"maybe\"\n}\n}"), `p.hcl:6:\d+: error: .*Invalid response rule type 'maybe'`},
		"rule without body":    {use("target", "http", "url = \"http://x\"\nresponse_rules {\nrule {\ntype = \"invalid\"\nhttp_codes = [200]\n}\n}"), `p.hcl:\d+:\d+: error: .*2XX response rule must have 'body' setting set`},
		"no template":          {use("target", "http", "url = \"http://x\"\ntemplate_file = \"none.tmpl\""), `p.hcl:\d+:\d+: error: .*none.tmpl`},
		"template syntax":      {use("target", "http", "url = \"http://x\"\ntemplate_file = \"bad.tmpl\""), `p.hcl:\d+:\d+: error: .*template: HTTP:1`},
		"no certificate":       {use("target", "http", "url = \"http://x\"\nenable_tls = true\ncert_file = \"none.pem\"\nkey_file = \"none.key\""), `p.hcl:\d+:\d+: error: .*none.pem`},
		"script syntax":        {use("transform", "js", "script = \"function main( {\""), `p.hcl:3:10: error: .*error building JS engine: .*SyntaxError`},
		"script without main":  {use("transform", "js", "script = \"function man(x) { return x }\""), `p.hcl:3:10: error: .*error smoke testing JS function: could not assert as function: "main"`},
		"script that throws":   {use("transform", "js", "script = \"null.x; function main(x) { return x }\""), `p.hcl:3:10: error: .*TypeError`},
		"no script":            {use("transform", "js", ""), `p.hcl:2:3: error: .*Either script_path or script must be configured`},
		"no script file":       {use("transform", "js", "script_path = \"none.js\""), `p.hcl:\d+:\d+: error: .*none.js`},
		"jq syntax":            {use("transform", "jq", "jq_command = \".a | \""), `p.hcl:\d+:\d+: error: .*unexpected`},
		"jq function":          {use("transform", "jq", "jq_command = \"nope(1)\""), `p.hcl:\d+:\d+: error: .*nope/1`},
		"atomic field":         {use("transform", "spEnrichedSetPk", "atomic_field = \"apid\""), `p.hcl:3:16: error: .*apid`},
		"regular expression":   {use("transform", "spEnrichedFilter", "atomic_field = \"app_id\"\nregex = \"(\"\nfilter_action = \"keep\""), `p.hcl:4:9: error: .*missing closing`},
		"filter action":        {use("transform", "spEnrichedFilter", "atomic_field = \"app_id\"\nregex = \"x\"\nfilter_action = \"kep\""), `p.hcl:5:17: error: .*kep`},
		"failure format":       {"failure_parser {\n  format = \"xml\"\n}\n", `p.hcl:2:12: error: invalid failure format found; expected one of 'snowplow', 'event_forwarding', 'firehose' and got 'xml'`},
		"log level":            {"log_level = \"loud\"\n", `p.hcl:1:13: error: supported log levels are`},
		"no environment":       {"target {\n  use \"http\" {\n    url = env.NOT_THERE_AT_ALL\n  }\n}\n", `p.hcl:3:\d+: error: .*NOT_THERE_AT_ALL`},
		"unknown block":        {"sorce {\n}\n", `p.hcl:1:1: error: unknown block: sorce`},
		"two sources":          {"source {}\nsource {}\n", `p.hcl:2:1: error: .*source`},
		"syntax":               {"target {\n", `p.hcl:1:8: error: `},
		"one input for two":    {"pipeline \"a\" {\n}\npipeline \"b\" {\n}\n", `p.hcl:\d+:\d+: error: .*(stdin|standard input)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := files(t, "p.hcl", test.config, "bad.tmpl", "{{ .x")
			path := filepath.Join(dir, "p.hcl")
			var found [2]string
			for i, command := range []string{"check", "run"} {
				var out, err bytes.Buffer
				s := cli.Streams{Out: &out, Err: &err, In: strings.NewReader("never read\n"), Env: func(string) (string, bool) { return "", false }}
				if code := cli.Main([]string{command, path}, s); code != 1 || out.Len() > 0 {
					t.Errorf("%s: exit code %d, printed %q", command, code, &out)
				}
				found[i] = strings.ReplaceAll(err.String(), dir+string(os.PathSeparator), "")
			}
			if !regexp.MustCompile(`(?m)^`+test.want).MatchString(found[0]) || !strings.Contains(found[0], "\nfix: ") {
				t.Errorf("check says\n%s", found[0])
			}
			if found[1] != found[0] {
				t.Errorf("run says\n%s\ncheck\n%s", found[1], found[0])
			}
		})
	}
}
