package snowbridge

import (
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
)

var httpSizeDialect = Dialect{
	Name:  "HTTP sizes",
	Since: "5.0.0",
	Old: `target {
  use "http" {
    url                  = "https://example.com/events"
    request_max_messages = 20
    request_byte_limit   = 500000
    message_byte_limit   = 100000
  }
}
`,
	New: `target {
  use "http" {
    url = "https://example.com/events"
    batching {
      max_batch_messages = 20
      max_batch_bytes    = 500000
      max_message_bytes  = 100000
    }
  }
}
`,
}

var eventHubSizeDialect = Dialect{
	Name:  "Event Hubs sizes",
	Since: "5.0.0",
	Old: `target {
  use "eventhub" {
    namespace           = "acme"
    name                = "events"
    chunk_message_limit = 200
    chunk_byte_limit    = 900000
    message_byte_limit  = 500000
    batch_byte_limit    = 800000
  }
}
`,
	New: `target {
  use "eventhub" {
    namespace = "acme"
    name      = "events"
    batching {
      max_batch_messages = 200
      max_batch_bytes    = 800000
      max_message_bytes  = 500000
    }
  }
}
`,
	Note: "A chunk was sent as batches of at most `batch_byte_limit`; now there are only batches, so the " +
		"smaller of the two limits holds. No batch is smaller than the largest message.",
}

var kafkaSizeDialect = Dialect{
	Name:  "Kafka sizes",
	Since: "5.0.0",
	Old: `target {
  use "kafka" {
    brokers         = "broker:9092"
    topic_name      = "events"
    byte_limit      = 2000000
    flush_messages  = 200
    flush_bytes     = 4000000
    flush_frequency = 100
  }
}
`,
	New: `target {
  use "kafka" {
    brokers    = "broker:9092"
    topic_name = "events"
    batching {
      max_batch_messages  = 200
      max_batch_bytes     = 4000000
      max_message_bytes   = 2000000
      flush_period_millis = 100
    }
  }
}
`,
	Note: "0 meant as fast as possible; a flush option that is 0 is left out. No batch is smaller than " +
		"the largest message, so a `flush_bytes` below that is left out too.",
}

var kinesisSizeDialect = Dialect{
	Name:  "Kinesis sizes",
	Since: "5.0.0",
	Old: `target {
  use "kinesis" {
    stream_name          = "events"
    region               = "eu-west-1"
    request_max_messages = 100
  }
}
`,
	New: `target {
  use "kinesis" {
    stream_name = "events"
    region      = "eu-west-1"
    batching {
      max_batch_messages = 100
    }
  }
}
`,
	Note: "More than 500 meant 500.",
}

// sizes names the options from before 5.0.0 that batching replaces, of one target.
type sizes struct {
	messages string // most messages in a write
	bytes    string // most bytes in a write
	atMost   string // a second limit of bytes, which messages obey too
	message  string // most bytes of a message
	period   string // milliseconds between writes

	// mostMessages is what a larger number of messages stood for; 0: nothing else.
	mostMessages int64
	// zero is set where 0 means that there is no such limit.
	zero bool
	// The present defaults of the limits of bytes, where a message must fit into a batch
	// or the config is refused; 0 where the target sees to it.
	defaultBatch, defaultMessage int64
	// The present defaults of the others.
	defaultMessages, defaultPeriod int64
}

var sizesOf = map[string]sizes{
	"http":    {messages: "request_max_messages", bytes: "request_byte_limit", message: "message_byte_limit"},
	"kinesis": {messages: "request_max_messages", mostMessages: 500},
	"eventhub": {messages: "chunk_message_limit", bytes: "chunk_byte_limit", atMost: "batch_byte_limit",
		message: "message_byte_limit", defaultBatch: 1000000, defaultMessage: 1000000},
	"kafka": {messages: "flush_messages", bytes: "flush_bytes", message: "byte_limit", period: "flush_frequency", zero: true,
		defaultBatch: 1048576, defaultMessage: 1048576, defaultMessages: 100, defaultPeriod: 200},
}

// resize: before 5.0.0, each target had names of its own for what batching says now.
func resize(target string) func(*rewriter, *hclsyntax.Body) {
	return func(r *rewriter, b *hclsyntax.Body) {
		for _, use := range usesIn(b, target, targetBlocks...) {
			r.resize(use, sizesOf[target])
		}
	}
}

func (r *rewriter) resize(use *hclsyntax.Block, s sizes) {
	var olds []*hclsyntax.Attribute
	for _, a := range config.InOrder(use.Body.Attributes) {
		switch a.Name {
		case s.messages, s.bytes, s.atMost, s.message, s.period:
			olds = append(olds, a)
		}
	}
	if len(olds) == 0 {
		return
	}
	settings := r.sized(use, s)
	if batching := config.BlocksOf(use.Body, "batching"); len(batching) > 0 {
		for _, now := range settings {
			if batching[0].Body.Attributes[now.name] == nil {
				continue
			}
			for _, a := range olds {
				r.twice(use, a, "a setting in batching")
			}
			return
		}
	}
	var names []string
	gone := map[*hclsyntax.Attribute]bool{}
	for _, a := range olds {
		names = append(names, a.Name)
		gone[a] = true
	}
	for _, now := range settings {
		for _, a := range now.from {
			delete(gone, a)
		}
	}
	fix := "write\n" + r.batching(settings)
	if len(settings) == 0 {
		fix = "remove the line"
	}
	r.warn(olds[0].NameRange, strings.Join(names, ", ")+": the sizes of writes are set in batching", fix)
	var left []*hclsyntax.Attribute
	for _, a := range olds {
		if gone[a] {
			left = append(left, a)
		}
	}
	r.nest(use, "batching", settings, left...)
}

// sized is what batching says for the old options of use.
func (r *rewriter) sized(use *hclsyntax.Block, s sizes) []setting {
	get := func(name string) *setting {
		a := use.Body.Attributes[name]
		if name == "" || a == nil {
			return nil
		}
		return &setting{v: r.valueOf(a), from: []*hclsyntax.Attribute{a}, at: a.NameRange}
	}
	messages, bytes, atMost, message, period := get(s.messages), get(s.bytes), get(s.atMost), get(s.message), get(s.period)
	if messages != nil && s.mostMessages > 0 {
		messages.v = messages.v.smaller(numberValue(s.mostMessages, messages.v.expr.Range()))
	}
	if s.zero {
		messages, period = orDefault(messages, s.defaultMessages), orDefault(period, s.defaultPeriod)
		bytes = orDefault(bytes, s.defaultBatch)
	}
	if atMost != nil {
		message = limited(message, atMost, s.defaultMessage)
		bytes = limited(bytes, atMost, 0)
	}
	if s.defaultBatch > 0 && (bytes != nil || message != nil) {
		bytes = roomFor(message, bytes, s)
	}
	var list []setting
	for _, n := range []struct {
		name string
		*setting
	}{{"max_batch_messages", messages}, {"max_batch_bytes", bytes}, {"max_message_bytes", message}, {"flush_period_millis", period}} {
		if n.setting != nil {
			n.setting.name = n.name
			list = append(list, *n.setting)
		}
	}
	return list
}

// orDefault is s without a constant 0, and with the default where the environment says 0.
func orDefault(s *setting, otherwise int64) *setting {
	if s == nil || s.v.isZero() {
		return nil
	}
	if _, isConstant := s.v.constant(); isConstant {
		return s
	}
	at := s.v.expr.Range()
	zero, n := numberValue(0, at), numberValue(otherwise, at)
	now := *s
	now.v = value{
		&hclsyntax.ConditionalExpr{
			Condition:  &hclsyntax.BinaryOpExpr{LHS: s.v.expr, Op: hclsyntax.OpGreaterThan, RHS: zero.expr, SrcRange: at},
			TrueResult: s.v.expr, FalseResult: n.expr, SrcRange: at,
		},
		s.v.operand() + " > 0 ? " + s.v.operand() + " : " + n.text,
	}
	return &now
}

// limited is the smaller of s, or its default, and a limit.
func limited(s, limit *setting, otherwise int64) *setting {
	now := *limit
	switch {
	case s != nil:
		now.v = s.v.smaller(limit.v)
		now.from = append(append([]*hclsyntax.Attribute{}, s.from...), limit.from...)
		now.at = s.at
	case otherwise > 0:
		now.v = limit.v.smaller(numberValue(otherwise, limit.v.expr.Range()))
		if now.v.equals(otherwise) {
			return nil
		}
	}
	return &now
}

// roomFor makes a batch at least as large as the largest message.
func roomFor(message, bytes *setting, s sizes) *setting {
	var now setting
	switch {
	case bytes != nil && message != nil:
		now = *bytes
		now.v = bytes.v.larger(message.v)
	case bytes != nil:
		now = *bytes
		now.v = bytes.v.larger(numberValue(s.defaultMessage, bytes.v.expr.Range()))
	default:
		now = *message
		now.from = nil // its comments stay with the limit of a message
		now.v = message.v.larger(numberValue(s.defaultBatch, message.v.expr.Range()))
	}
	if now.v.equals(s.defaultBatch) {
		return nil
	}
	return &now
}
