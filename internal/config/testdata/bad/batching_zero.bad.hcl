target {
  use "kafka" {
    brokers    = "b"
    topic_name = "t"
    batching {
      max_batch_messages     = 0
      max_concurrent_batches = 0
      flush_period_millis    = 0
    }
  }
}
