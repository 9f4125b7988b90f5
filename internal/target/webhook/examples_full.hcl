target {
  use "webhook" {
    workspace_config        = "workspaceConfig.json"
    max_concurrent_requests = 256
    request_timeout_millis  = 5000
    user_agent              = "weir"
    endpoints               = "same_host"
    block_private_networks  = true
    force_http1             = true
    disabled                = "drain"

    batching {
      max_batch_messages     = 256
      max_batch_bytes        = 8388608
      max_message_bytes      = 1048576
      max_concurrent_batches = 4
      flush_period_millis    = 50
    }
  }
}

# How RudderStack repeats what a destination did not take: after 10, 20, 40 ... 300 seconds. An
# event is given up after an answer 5xx, or none, when it had 3 attempts and is 180 minutes old;
# after a 408 or 429 never. The source is a queue, which holds events until they are due.
retry {
  transient {
    delay_ms          = 10000
    max_delay_ms      = 300000
    max_attempts      = 3
    give_up_after_ms  = 10800000
    invalid_after_max = true
  }
  throttle {
    delay_ms     = 10000
    max_delay_ms = 300000
    max_attempts = 0
  }
}

# The same by the name of a workspace block, which says where the configuration comes from.
workspace "acme" {
  config = "workspaceConfig.json"
}

target {
  use "webhook" {
    workspace = "acme"
  }
}
