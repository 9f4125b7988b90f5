transform {
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "web"
    filter_action = "keep"
  }
}

target {
  use "http" {
    url = "https://collector.acme.internal/one-by-one"
    batching {
      max_batch_messages = 1
    }
  }
}

failure_target {
  use "http" {
    url = "https://collector.acme.internal/bad"
    batching {
      max_batch_messages = 1
      max_batch_bytes    = env.SIZE + 2
      max_message_bytes  = env.SIZE
    }
  }
}
