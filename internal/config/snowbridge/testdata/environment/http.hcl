source {
  use "stdin" {
  }
}

transform {
  use "spEnrichedFilter" {
    # web only
    atomic_field  = "platform"
    regex         = "web"
    filter_action = "keep"
  }
  use "js" {
    script = "function main(x) { return x; }"
  }
  worker_pool = 15
}

target {
  use "http" {
    url = "https://loader.acme.internal/v1/clicks"
    batching {
      max_batch_bytes        = 500000
      max_message_bytes      = 500000
      max_concurrent_batches = 15
    }
    request_timeout_in_millis = 10000
    headers                   = jsondecode(env.TARGET_HTTP_HEADERS)
    basic_auth_username       = "loader"
    basic_auth_password       = env.TARGET_HTTP_BASICAUTH_PASSWORD
    cert_file                 = "/etc/pki/loader.crt"
    key_file                  = "/etc/pki/loader.key"
    ca_file                   = "/etc/pki/ca.crt"
    enable_tls                = true
    body_format               = "raw"
  }
}

failure_target {
  use "stdout" {}
}

failure_parser {
  format = "snowplow"
}

stats_receiver {
  use "statsd" {
    address = "127.0.0.1:8125"
    prefix  = "acme"
    tags    = "{\"team\":\"data\"}"
  }
  buffer_sec = 30
}

sentry {
  dsn   = env.SENTRY_DSN
  tags  = "{\"team\":\"data\"}"
  debug = true
}

log_level = "debug"

user_provided_id = "acme-loader"

disable_telemetry = true
