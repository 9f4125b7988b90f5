target {
  use "kafka" {
    brokers    = "b"
    topic_name = "t"
    batching {
      max_batch_bytes = 1000
    }
  }
}
