target {
  use "http" {
    batching {
      max_batch_messages = 20 # tags
      # the load balancer's limit
      max_batch_bytes   = 1000000
      max_message_bytes = env.SIZE
    }

    url          = "https://gtm.acme.example/events"
    content_type = "application/json"
  }
}

failure_target {
  use "http" {
    url = "https://gtm.acme.example/bad"
    batching {
      flush_period_millis = 50
      max_batch_messages  = 1
    }
  }
}
