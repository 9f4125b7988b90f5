target {
  use "http" {
    # the load balancer's limit
    request_byte_limit   = 1000000

    url                  = "https://gtm.acme.example/events"
    request_max_messages = 20    # tags
    message_byte_limit   = env.SIZE
    content_type         = "application/json"
  }
}

failure_target {
  use "http" {
    url                  = "https://gtm.acme.example/bad"
    request_max_messages = 1
    batching {
      flush_period_millis = 50
    }
  }
}
