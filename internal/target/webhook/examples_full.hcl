target {
  use "webhook" {
    workspace_config        = "workspaceConfig.json"
    max_concurrent_requests = 256
    request_timeout_millis  = 5000
    user_agent              = "weir"
    endpoints               = "same_host"
    block_private_networks  = true
    force_http1             = true

    batching {
      max_batch_messages     = 256
      max_batch_bytes        = 8388608
      max_message_bytes      = 1048576
      max_concurrent_batches = 4
      flush_period_millis    = 50
    }
  }
}
