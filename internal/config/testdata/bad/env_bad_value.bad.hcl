target {
  use "kafka" {
    brokers    = "b"
    topic_name = "t"
    region     = env.REGION
    batching {
      max_batch_messages = env.ZERO
    }
  }
}
