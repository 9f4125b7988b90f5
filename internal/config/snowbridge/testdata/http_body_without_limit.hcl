transform {
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "web"
    filter_action = "keep"
  }
}

target {
  use "http" {
    url         = "https://collector.acme.internal/one-by-one"
    body_format = "raw"
  }
}

failure_target {
  use "http" {
    url = "https://collector.acme.internal/bad"
    batching {
      max_batch_bytes   = env.SIZE
      max_message_bytes = env.SIZE
    }
    body_format = "raw"
  }
}
