target {
  use "kafka" {
    brokers    = ["b1", "b2"]
    topic_name = { a = "b" }
    acks       = 300
    ratio      = "half"
    topics     = "a"
    enable_tls = 1
    batching {
      max_batch_messages = "many"
    }
  }
}
