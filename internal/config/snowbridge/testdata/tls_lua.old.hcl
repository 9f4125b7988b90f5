target {
  use "kafka" {
    brokers    = "out.acme.internal:9093"
    topic_name = "clicks"
    cert_file  = "kafka.crt"
    key_file   = "kafka.key"
  }
}

transform {
  use "lua" {
    script_path   = "enrich.lua"
    snowplow_mode = true
    sandbox       = false
  }
}
