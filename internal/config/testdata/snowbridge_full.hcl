# Every top-level block of the format, none left at its default.
source {
  use "kafka" {
    brokers    = env.BROKERS
    topic_name = "events"
    batching {
      max_batch_messages = env.BATCH
    }
  }
}

transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "^web$"
    filter_action = "keep"
  }
  use "js" {
    script = <<-EOT
      function main(input) {
        input.Data = `$${input.Data}-%%{x}`
        return input
      }
    EOT
    timeout_ms = "20"
  }
  use "base64Decode" {
  }
  worker_pool = 3
}

target {
  use "http" {
    url     = "https://example.com/${env("NOT_SET")}x"
    headers = { accept = "application/json", "X-Token" = env.PASSWORD }
    ca_file = "ca.pem"
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [400, 422]
        body       = "bad"
      }
      rule {
        type = "setup"
      }
    }
    oauth_client {
      client_id = "me"
    }
  }
}

failure_target {
  use "kafka" {
    brokers       = "b:9092"
    topic_name    = "bad"
    enable_tls    = env.TLS
    sasl_password = env.PASSWORD == "" ? "" : "x"
    acks          = 1
    ratio         = 0.5
    topics        = ["a", "b"]
    batching {
      max_batch_messages     = 7
      max_batch_bytes        = 2e6
      max_message_bytes      = 1000
      max_concurrent_batches = 1
      flush_period_millis    = 5
    }
  }
}

filter_target {
  use "stdout" {}
}

failure_parser {
  format = "event_forwarding"
}

retry {
  transient {
    delay_ms          = 1
    max_attempts      = 2
    invalid_after_max = true
    max_delay_ms      = 30
  }
  setup {
    delay_ms = 400000
  }
  throttle {
    max_attempts = 0
  }
}

drain_timeout_ms = 1500
ordered          = true

in_flight {
  bytes = 1000000
}

sentry {
  dsn   = "https://abc@sentry.example/1"
  tags  = "{\"team\":\"data\"}"
  debug = true
}

stats_receiver {
  use "statsd" {
    address  = "127.0.0.1:8125"
    prefix   = "snow"
    tags     = "{\"env\":\"prod\"}"
    host_tag = "weir-a"
  }
  buffer_sec  = 15
  timeout_sec = 2
}

log_level         = "debug"
log_format        = "json"
user_provided_id  = "me"
disable_telemetry = true

license {
  accept = true
}

metrics {
  enable_e2e_latency             = true
  enable_kinsumer_memory_metrics = true
}

monitoring {
  webhook {
    endpoint                   = "https://example.com/hook"
    tags                       = { pipeline = "production" }
    heartbeat_interval_seconds = 60
  }
  metadata_reporter {
    endpoint = "https://example.com/meta"
    tags     = { pipeline = "production" }
  }
}

admin {
  address = "127.0.0.1:0"
}
