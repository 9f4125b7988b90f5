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

    transformations {
      url                  = "https://api.rudderstack.com"
      secret               = env("WORKSPACE_TOKEN", "")
      cache_directory      = "transformations"
      timeout_millis       = 2000
      patience_millis      = 500
      memory_limit_mb      = 64
      allow_networks       = ["10.0.0.0/8"]
      geolocation_database = "places.mmdb"
    }

    batching {
      max_batch_messages     = 256
      max_batch_bytes        = 8388608
      max_message_bytes      = 1048576
      max_concurrent_batches = 4
      flush_period_millis    = 50
    }
  }
}

# Code in files.
target {
  use "webhook" {
    workspace_config = "workspaceConfig.json"

    transformations {
      directory = "transformations"
    }
  }
}

# A rudder-transformer that is there runs the code.
target {
  use "webhook" {
    workspace_config = "workspaceConfig.json"

    transformations {
      transformer_url = "http://127.0.0.1:9090"
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
