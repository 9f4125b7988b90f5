package snowbridge

import "github.com/hashicorp/hcl/v2/hclsyntax"

var endpointDialect = Dialect{
	Name:  "Custom AWS endpoint",
	Since: "5.0.0",
	Note:  "The files that Snowbridge tested its releases with spelt the option without an n.",
	Old: `source {
  use "sqs" {
    queue_name         = "events"
    region             = "eu-west-1"
    custom_aws_edpoint = "http://localhost:4566"
  }
}
`,
	New: `source {
  use "sqs" {
    queue_name          = "events"
    region              = "eu-west-1"
    custom_aws_endpoint = "http://localhost:4566"
  }
}
`,
}

// spellEndpoint: a letter of custom_aws_endpoint was missing.
func spellEndpoint(r *rewriter, b *hclsyntax.Body) {
	const old, name = "custom_aws_edpoint", "custom_aws_endpoint"
	for _, connector := range []string{"kinesis", "sqs"} {
		for _, use := range usesIn(b, connector, append([]string{"source"}, targetBlocks...)...) {
			a := use.Body.Attributes[old]
			switch {
			case a == nil:
			case use.Body.Attributes[name] != nil:
				r.twice(use, a, name)
			default:
				v := r.valueOf(a)
				r.warn(a.NameRange, "the option is spelt "+name, "write "+r.shown(name, v))
				r.replace(use, a, name, v)
			}
		}
	}
}
