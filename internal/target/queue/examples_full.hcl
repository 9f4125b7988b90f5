queue "events" {}

target {
  use "queue" {
    name = "events"

    # An event that a client sends twice within two hours is there once.
    deduplicate {
      window_seconds = 7200
    }

    batching {
      max_batch_messages     = 100
      max_batch_bytes        = 1048576
      max_message_bytes      = 1048576
      max_concurrent_batches = 2
      flush_period_millis    = 100
    }
  }
}
