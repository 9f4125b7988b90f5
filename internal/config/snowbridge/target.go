package snowbridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/config"
)

var tlsDialect = Dialect{
	Name:  "TLS",
	Since: "3.0.0",
	Old: `target {
  use "http" {
    url        = "https://example.com/events"
    byte_limit = 1000000
    cert_file  = "client.crt"
    key_file   = "client.key"
    ca_file    = "ca.crt"
  }
}
`,
	New: `target {
  use "http" {
    url = "https://example.com/events"
    batching {
      max_batch_bytes   = 1000000
      max_message_bytes = 1000000
    }
    cert_file   = "client.crt"
    key_file    = "client.key"
    ca_file     = "ca.crt"
    enable_tls  = true
    body_format = "raw"
  }
}
`,
	Note: "Before 3.0.0, `cert_file` and `key_file` together turned TLS on; since then, without `enable_tls`, " +
		"they do nothing. A file does not say which release it is for. TLS is taken as turned on only where " +
		"the file has a form that no release since 3.0.0 reads (`byte_limit` of `http`, a filter of 1.x, a " +
		"script in base64, `lua` in a file with nothing newer), or where the config is environment " +
		"variables. Otherwise the options do nothing, as in 3.0.0 to 5.2, and a warning says so.",
}

// enableTLS: before 3.0.0, a certificate and a key turned TLS on by themselves.
func enableTLS(r *rewriter, b *hclsyntax.Body) {
	// The source http is none of theirs: its certificate turns TLS on, and it has no enable_tls.
	for _, use := range append(usesIn(b, "kafka", "source"), usesIn(b, "", targetBlocks...)...) {
		if name := use.Labels[0]; name != "http" && name != "kafka" {
			continue
		}
		cert, key := use.Body.Attributes["cert_file"], use.Body.Attributes["key_file"]
		if cert == nil || key == nil || use.Body.Attributes["enable_tls"] != nil || r.isEmpty(cert) || r.isEmpty(key) {
			continue
		}
		if r.early == "" {
			r.warn(cert.NameRange, "cert_file and key_file do nothing without enable_tls; they turned TLS on by themselves in older releases",
				"write enable_tls = true beside them, or remove them")
			continue
		}
		r.warn(cert.NameRange, "cert_file and key_file turn TLS on without enable_tls, since the config is older ("+r.early+")", "write enable_tls = true beside them")
		r.add(use, "enable_tls", literalValue(cty.True, cert.NameRange), cert.NameRange)
	}
}

func (r *rewriter) isEmpty(a *hclsyntax.Attribute) bool {
	text, ok := r.valueOf(a).constantText()
	return ok && text == ""
}

var httpBodyDialect = Dialect{
	Name:  "HTTP body",
	Since: "3.0.0",
	Old: `target {
  use "http" {
    url        = "https://example.com/events"
    byte_limit = 500000
  }
}
`,
	New: `target {
  use "http" {
    url = "https://example.com/events"
    batching {
      max_batch_bytes   = 500000
      max_message_bytes = 500000
    }
    body_format = "raw"
  }
}
`,
	Note: "A request's body was one event as it is; since 3.0.0 it is a JSON array of events. `body_format = " +
		"\"raw\"` keeps the former. An `http` target in a file from before 3.0.0 without `byte_limit` gets it " +
		"as well; one in a file that does not say how old it is, as [TLS](#tls-before-300) explains, is " +
		"taken as newer.",
}

// oneEventPerRequest: before 3.0.0, http sent each event by itself, as it was.
func oneEventPerRequest(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "http", targetBlocks...) {
		as := use.Body.Attributes
		limit := as["byte_limit"]
		later := len(config.BlocksOf(use.Body, "batching")) > 0 || as["body_format"] != nil || as["template_file"] != nil || as["request_max_messages"] != nil ||
			as["request_byte_limit"] != nil || as["message_byte_limit"] != nil
		if limit == nil && (r.early == "" || later) {
			continue
		}
		if limit != nil && later {
			r.twice(use, limit, "batching.max_message_bytes")
			continue
		}
		at := config.HeaderOf(use)
		if limit != nil {
			at = limit.NameRange
		}
		format := literalValue(cty.StringVal("raw"), at)
		fix := "write " + r.shown("body_format", format)
		var settings []setting
		if limit != nil {
			v := r.valueOf(limit)
			settings = []setting{
				{name: "max_batch_bytes", v: v, at: at},
				{name: "max_message_bytes", v: v, from: []*hclsyntax.Attribute{limit}, at: at},
			}
			fix += " and\n" + r.batching(settings)
		}
		r.warn(at, "the body of a request is one event as it is; since then it is a JSON array of events", fix)
		if limit != nil {
			r.nest(use, "batching", settings)
		}
		r.add(use, "body_format", format, at)
	}
}

func (r *rewriter) batching(settings []setting) string {
	var lines []string
	for _, s := range settings {
		lines = append(lines, r.shown(s.name, s.v))
	}
	return blockText("batching", lines...)
}

var responseRulesDialect = Dialect{
	Name:  "response rules",
	Since: "4.0.0",
	Old: `target {
  use "http" {
    url = "https://example.com/events"
    response_rules {
      setup {
        http_codes = [401, 403]
      }
      invalid {
        http_codes = [400]
        body       = "bad field"
      }
    }
  }
}
`,
	New: `target {
  use "http" {
    url = "https://example.com/events"
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [400]
        body       = "bad field"
      }
      rule {
        type       = "setup"
        http_codes = [401, 403]
      }
    }
  }
}
`,
	Note: "The first rule that matches decides. All `invalid` blocks were tried before all `setup` blocks, " +
		"whatever their order in the file.",
}

// orderResponseRules: before 4.0.0, rules were blocks named by their type, and those of
// type invalid came first.
func orderResponseRules(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "http", targetBlocks...) {
		for _, rules := range config.BlocksOf(use.Body, "response_rules") {
			olds := append(config.BlocksOf(rules.Body, "invalid"), config.BlocksOf(rules.Body, "setup")...)
			olds = slices.DeleteFunc(olds, func(b *hclsyntax.Block) bool { return len(b.Labels) > 0 })
			if len(olds) == 0 {
				continue
			}
			var now []string
			for _, old := range olds {
				now = append(now, blockText("rule", fmt.Sprintf("type = %q", old.Type), "..."))
			}
			first := slices.MinFunc(olds, func(x, y *hclsyntax.Block) int { return x.TypeRange.Start.Byte - y.TypeRange.Start.Byte })
			r.warn(config.HeaderOf(first), "rules are blocks called rule, with a type; the first that matches decides",
				"write them in the order they are tried\n"+blockText("response_rules", now...))
			r.ruleText(rules, olds, first)
			r.ruleTree(rules, olds)
		}
	}
}

func (r *rewriter) ruleTree(rules *hclsyntax.Block, olds []*hclsyntax.Block) {
	var blocks hclsyntax.Blocks
	for _, old := range olds {
		rule := copyOf(old)
		rule.Type = "rule"
		rule.Body.Attributes["type"] = &hclsyntax.Attribute{Name: "type", Expr: literalValue(cty.StringVal(old.Type), old.TypeRange).expr,
			SrcRange: old.TypeRange, NameRange: old.TypeRange}
		blocks = append(blocks, rule)
	}
	for _, b := range rules.Body.Blocks {
		if !slices.Contains(olds, b) {
			blocks = append(blocks, b)
		}
	}
	rules.Body.Blocks = blocks
}

func (r *rewriter) ruleText(rules *hclsyntax.Block, olds []*hclsyntax.Block, first *hclsyntax.Block) {
	r.touch(rules)
	var text strings.Builder
	for _, old := range olds {
		r.touch(old)
		text.WriteString(r.commentsAbove(old.TypeRange))
		fmt.Fprintf(&text, "rule {\ntype = %q\n%s}\n", old.Type, r.inside(old))
	}
	for _, old := range olds {
		rg := old.TypeRange
		rg.End = old.CloseBraceRange.End
		from, to := r.linesOf(rg)
		from -= len(r.commentsAbove(rg))
		if old == first {
			r.replaceText(from, to, text.String())
			continue
		}
		r.removeLines(from, to)
	}
}

var headersDialect = Dialect{
	Name:  "HTTP headers",
	Since: "5.0.0",
	Old: `target {
  use "http" {
    url     = "https://example.com/events"
    headers = "{\"Accept-Language\":\"en\",\"X-Team\":\"data\"}"
  }
}
`,
	New: `target {
  use "http" {
    url = "https://example.com/events"
    headers = {
      "Accept-Language" = "en"
      "X-Team"          = "data"
    }
  }
}
`,
	Note: "Headers that the environment holds become `headers = jsondecode(env.NAME)`.",
}

// openHeaders: before 5.0.0, headers were a JSON object in a string.
func openHeaders(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "http", targetBlocks...) {
		a := use.Body.Attributes["headers"]
		if a == nil {
			continue
		}
		v := r.valueOf(a)
		text, ok := v.constantText()
		switch {
		case ok:
			r.hide(a.Expr.Range())
			r.openJSON(use, a, text)
		case isText(a.Expr):
			shown := v.text
			if !strings.HasPrefix(shown, "env") || len(shown) > 60 {
				r.hide(a.Expr.Range())
				shown = "..."
			}
			v = v.call("jsondecode")
			r.warn(a.NameRange, "headers is a map; its JSON is read as one", "write headers = jsondecode("+shown+")")
			r.replace(use, a, "headers", v)
		}
	}
}

// isText reports whether an expression that is no constant can only be text.
func isText(e hclsyntax.Expression) bool {
	switch e := e.(type) {
	case *hclsyntax.TemplateExpr, *hclsyntax.TemplateWrapExpr:
		return true
	case *hclsyntax.ScopeTraversalExpr:
		return e.Traversal.RootName() == "env"
	case *hclsyntax.FunctionCallExpr:
		return e.Name == "env"
	case *hclsyntax.ParenthesesExpr:
		return isText(e.Expression)
	case *hclsyntax.ConditionalExpr:
		return isText(e.TrueResult) || isText(e.FalseResult)
	}
	return false
}

// openJSON writes a JSON object of texts as a map.
func (r *rewriter) openJSON(use *hclsyntax.Block, a *hclsyntax.Attribute, text string) {
	var headers map[string]string
	if text != "" {
		if err := json.Unmarshal([]byte(text), &headers); err != nil {
			r.refuse(a.NameRange, "headers is text that is not a JSON object of texts", `write a map: headers = { name = "value" }`)
			a.Expr = literalValue(cty.MapValEmpty(cty.String), a.Expr.Range()).expr
			return
		}
	}
	if len(headers) == 0 {
		r.warn(a.NameRange, "headers is a map; an empty text is read as none", "remove the line")
		r.drop(use, a)
		return
	}
	values := map[string]cty.Value{}
	var shown, lines []string
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		values[name] = cty.StringVal(headers[name])
		key := literalValue(cty.StringVal(name), a.NameRange).text
		shown = append(shown, key+" = \"...\"")
		lines = append(lines, key+" = "+literalValue(values[name], a.NameRange).text)
	}
	r.warn(a.NameRange, "headers is a map; its JSON is read as one", "write headers = { "+strings.Join(shown, ", ")+" }")
	r.replace(use, a, "headers", value{mapExpr(values, a.Expr.Range()), "{\n" + strings.Join(lines, "\n") + "\n}"})
}

// mapExpr is a map as an expression whose entries diagnostics can tell apart.
func mapExpr(values map[string]cty.Value, at hcl.Range) hclsyntax.Expression {
	o := &hclsyntax.ObjectConsExpr{SrcRange: at, OpenRange: at}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		o.Items = append(o.Items, hclsyntax.ObjectConsItem{
			KeyExpr:   literalValue(cty.StringVal(name), at).expr,
			ValueExpr: literalValue(values[name], at).expr,
		})
	}
	return o
}

var timeoutDialect = Dialect{
	Name:  "HTTP timeout",
	Since: "5.0.0",
	Old: `target {
  use "http" {
    url                        = "https://example.com/events"
    request_timeout_in_seconds = 10
  }
}
`,
	New: `target {
  use "http" {
    url                       = "https://example.com/events"
    request_timeout_in_millis = 10000
  }
}
`,
}

// timeoutInMillis: before 5.0.0, the timeout of a request was in seconds.
func timeoutInMillis(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "http", targetBlocks...) {
		a := use.Body.Attributes["request_timeout_in_seconds"]
		if a == nil {
			continue
		}
		const name = "request_timeout_in_millis"
		if use.Body.Attributes[name] != nil {
			r.warn(a.NameRange, "request_timeout_in_seconds has no effect beside request_timeout_in_millis", "remove the line")
			r.drop(use, a)
			continue
		}
		v := r.valueOf(a).times(1000)
		r.warn(a.NameRange, "the timeout of a request is in milliseconds", "write "+r.shown(name, v))
		r.replace(use, a, name, v)
	}
}
