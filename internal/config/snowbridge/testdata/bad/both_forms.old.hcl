target {
  use "http" {
    url                        = "https://x/"
    request_timeout_in_seconds = 5
    request_timeout_in_millis  = 4000
    request_max_messages       = 20
    batching {
      max_batch_messages = 30
    }
  }
}
failure_target {
  use "stdout" {}
  format = "snowplow"
}
failure_parser {
  format = "event_forwarding"
}
