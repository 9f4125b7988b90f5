target {
  use "kafka" {
    brokers             = "b"
    topic_name          = "t"
    max_batch_messages  = 10
  }
}
